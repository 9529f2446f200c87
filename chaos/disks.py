"""Disks of the run's own, that can be full and slow without harm to anybody else's.

Each is mounted in a mount namespace that only this process and its children see, so that nothing is left behind
whatever happens to us: an ext4 image on a loop device, which can be filled and frozen, or else a tmpfs, which can be
filled. Where neither is allowed it says so.
"""

import asyncio
import contextlib
import ctypes
import errno
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import psutil

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_MS_REC_PRIVATE: Final = 0x4000 | 0x40000
_MIB: Final = 1024**2
_BALLAST: Final = ".ballast"
_LEAST: Final = 512 * _MIB
_PIECE: Final = 64 * 1024


class NotPossibleError(Exception):
    """No disks of our own on this machine; the message says why. Trying again does not help."""


def _enter_namespace() -> bool:
    """Takes this process into a mount namespace of its own; returns whether it is root's. Before any thread begins."""
    if sys.platform != "linux":
        raise NotPossibleError(f"{sys.platform} has no mount namespaces")
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    root = user == 0
    if libc.unshare(_CLONE_NEWNS if root else _CLONE_NEWNS | _CLONE_NEWUSER) != 0:
        raise NotPossibleError(f"no mount namespace of our own ({os.strerror(ctypes.get_errno())})")
    if not root:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    if libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None) != 0:
        raise NotPossibleError(f"mounts cannot be made private ({os.strerror(ctypes.get_errno())})")
    return root


def _call(*command: str) -> None:
    found = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise NotPossibleError(f"there is no {command[0]}")
    done = subprocess.run((found, *command[1:]), capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise NotPossibleError(f"{command[0]}: {done.stderr.strip() or done.returncode}")


@dataclass(slots=True)
class Disk:
    """One folder that is a disk."""

    path: Path
    kind: Literal["ext4", "tmpfs"]
    size: int
    filled: int = field(default=0, init=False)
    """How many faults want it full at this moment."""

    def used(self) -> int:
        """Bytes."""
        told = os.statvfs(self.path)
        return (told.f_blocks - told.f_bfree) * told.f_frsize

    def fill(self) -> None:
        """Leaves no room: the next byte anyone writes is refused with ENOSPC. Again takes what was freed meanwhile."""
        if self.kind == "tmpfs":
            # A remount costs nothing, where a ballast would cost its size in memory.
            for spare in (0, 1, 4):
                with contextlib.suppress(NotPossibleError):
                    size = self.used() + spare * _MIB // 4 + 4096
                    return _call("mount", "-o", f"remount,size={size}", str(self.path))
            return None
        with (self.path / _BALLAST).open("ab") as ballast:
            told = os.statvfs(self.path)
            room = told.f_bavail * told.f_frsize
            while room > _PIECE:
                try:
                    os.posix_fallocate(ballast.fileno(), os.fstat(ballast.fileno()).st_size, room)
                    break
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    room //= 2
            with contextlib.suppress(OSError):
                while True:
                    os.write(ballast.fileno(), bytes(4096))
        return None

    def empty(self) -> None:
        """There is room again."""
        if self.kind == "tmpfs":
            _call("mount", "-o", f"remount,size={self.size}", str(self.path))
        else:
            (self.path / _BALLAST).unlink(missing_ok=True)


def _size(need_bytes: int, data: Path) -> int:
    free = shutil.disk_usage(data).free
    size = min(8 * 1024 * _MIB + need_bytes, free // 3)
    if size < max(_LEAST, need_bytes):
        raise NotPossibleError(f"only {free // _MIB:,} MiB free under {data}")
    return size


def _memory(need_bytes: int) -> int:
    available = psutil.virtual_memory().available
    size = available // 4
    if size < max(_LEAST, need_bytes):
        raise NotPossibleError(f"only {available // _MIB:,} MiB of memory available")
    return size


def mount(data: Path, names: tuple[str, ...], need_bytes: int) -> list[Disk]:
    """The folders ``names`` of ``data`` as disks, each with room for ``need_bytes``; raises NotPossibleError.

    Takes this process into a namespace of its own.
    """
    root = _enter_namespace()
    why: list[str] = []
    if root:
        try:
            return [_loop(data, name, _size(need_bytes, data)) for name in names]
        except NotPossibleError as error:
            why.append(str(error))
    try:
        return [_tmpfs(data, name, _memory(need_bytes)) for name in names]
    except NotPossibleError as error:
        raise NotPossibleError("; ".join([*why, str(error)])) from error


def _loop(data: Path, name: str, size: int) -> Disk:
    image, path = data / "images" / f"{name}.ext4", data / name
    image.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(size)
    _call("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", str(image))
    _call("mount", "-o", "loop,discard", str(image), str(path))
    with contextlib.suppress(OSError):
        (path / "lost+found").rmdir()
    return Disk(path, "ext4", size)


def _tmpfs(data: Path, name: str, size: int) -> Disk:
    path = data / name
    path.mkdir(parents=True, exist_ok=True)
    _call("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path))
    return Disk(path, "tmpfs", size)


def keep(disks: list[Disk]) -> None:
    """Copies what is on the disks beside them, then takes them away: the folders hold the files for whoever looks."""
    for disk in disks:
        beside = disk.path.with_name(f"{disk.path.name}.kept")
        shutil.copytree(disk.path, beside, ignore=shutil.ignore_patterns(_BALLAST))
        unmount(disk)
        disk.path.rmdir()
        beside.rename(disk.path)
    shutil.rmtree(disks[0].path.parent / "images", ignore_errors=True)


def unmount(disk: Disk) -> None:
    """Takes a disk away, with what is on it."""
    _call("umount", "--lazy", str(disk.path))


async def slow(disk: Disk, seconds: float, seed: int) -> None:
    """Lets every write wait, most of the time, for ``seconds``; the disk is quick again when this returns."""
    freezing = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "chaos.freezing", str(disk.path), str(seconds), str(seed), start_new_session=True,
        stdin=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )  # fmt: skip
    await freezing.wait()

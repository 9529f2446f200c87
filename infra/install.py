"""Creates ``.venv`` and installs the locked dependencies into it. Needs nothing but Python's own library.

Run by ``make``; runs again only when the lock or the project's metadata changed.
"""

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "installed.sha256"
OLDEST = (3, 11)


class CannotInstallError(Exception):
    """Why the installation cannot go on, and what to do."""


def fingerprint() -> str:
    """Changes whenever what must be installed changes."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (LOCK, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Progress:
    """One line that fills up on a terminal; a line a tenth elsewhere."""

    def __init__(self, total: int) -> None:
        self.total = max(1, total)
        self.done = 0
        self.live = sys.stderr.isatty()
        self.tenth = -1

    def step(self, what: str) -> None:
        """One package further."""
        self.done = min(self.done + 1, self.total)
        self.show(what)

    def show(self, what: str) -> None:
        """Draws the present state."""
        share = self.done / self.total
        if self.live:
            filled = int(share * 30)
            width = shutil.get_terminal_size().columns
            line = f"  [{'█' * filled}{'·' * (30 - filled)}] {share:4.0%}  {what}"
            print(f"\r\x1b[2K{line[: width - 1]}", end="", file=sys.stderr, flush=True)
        elif int(share * 10) > self.tenth:
            self.tenth = int(share * 10)
            print(f"  {share:4.0%}  {what}", file=sys.stderr, flush=True)

    def end(self, what: str) -> None:
        """Leaves the line behind, full."""
        self.done = self.total
        self.tenth = 9
        self.show(what)
        if self.live:
            print(file=sys.stderr)


def run(command: list[str]) -> Iterator[str]:
    """The lines ``command`` prints; raises CannotInstallError with its last ones when it fails."""
    said: list[str] = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.rstrip())
            yield said[-1]
    if process.returncode != 0:
        shown = "\n    ".join([line for line in said if line.strip()][-8:])
        raise CannotInstallError(
            f"{' '.join(command[:4])} … failed:\n    {shown}\n  Is the package index reachable? Run the same make target again to go on."
        )


def create() -> str:
    """Makes the virtual environment; returns its Python."""
    python = VENV / "bin" / "python"
    if not python.exists():
        try:
            for _ in run([sys.executable, "-m", "venv", "--clear", str(VENV)]):
                pass
        except CannotInstallError as error:
            raise CannotInstallError(f"{error}\n  On Debian and Ubuntu: apt-get install python3-venv") from error
    return str(python)


def install(python: str) -> None:
    """Installs the lock, hashes checked, then this project itself, editable."""
    total = len(re.findall(r"^[A-Za-z0-9_.-]+==", LOCK.read_text(), re.MULTILINE))
    progress = Progress(total + 2)
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    progress.show("reading the lock")
    for line in run([*pip, "--require-hashes", "--progress-bar", "off", "-r", str(LOCK)]):
        found = re.match(r"\s*(?:Collecting|Requirement already satisfied:|Ignoring) ?([A-Za-z0-9_.\[\]-]+)", line)
        if found:
            progress.step(found.group(1))
        elif line.startswith("Installing collected"):
            progress.show("unpacking")
    for _ in run([*pip, "--no-deps", "--no-build-isolation", "--quiet", "-e", str(ROOT)]):
        pass
    progress.end("installed")


def main() -> int:
    """Installs where needed; 0 when all is in place."""
    if sys.version_info < OLDEST:
        print(
            f"AgentOps needs Python {'.'.join(map(str, OLDEST))} or newer; this is {sys.version.split()[0]}. Try: make PYTHON=python3.12 …",
            file=sys.stderr,
        )
        return 1
    wanted = fingerprint()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return 0
    print("Installing AgentOps into .venv", file=sys.stderr)
    try:
        install(create())
        STAMP.write_text(wanted)
    except CannotInstallError as error:
        print(f"\nInstallation stopped: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\nInstallation stopped: {error}. Is {ROOT} writable, and is there room on the disk?", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

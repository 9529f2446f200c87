"""Where snapshots lie, and what is known of them without opening one."""

from pathlib import Path
from typing import Final

from pydantic import ValidationError

from schemas.snapshots import SnapshotInfo

_ENDING: Final = ".duckdb"


def directory(data: Path) -> Path:
    """``snapshots`` in the data directory."""
    return data / "snapshots"


def ending(name: str) -> str:
    """The file name of a snapshot's name."""
    return name if name.endswith(_ENDING) else f"{name}{_ENDING}"


def found(data: Path) -> list[SnapshotInfo]:
    """The snapshots there are, newest first. What has no readable account beside it is none."""
    infos = []
    for account in directory(data).glob("*.json"):
        try:
            info = SnapshotInfo.model_validate_json(account.read_bytes())
        except (OSError, ValidationError):
            continue
        if account.with_name(ending(info.name)).exists():
            infos.append(info)
    return sorted(infos, key=lambda info: info.at, reverse=True)

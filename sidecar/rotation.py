"""A file and its older parts: ``path``, ``path.1``, ``path.2`` and so on."""

from pathlib import Path


def make_room(path: Path, parts: int) -> None:
    """``path`` and its older parts each become the next older one; of ``parts`` files in all the oldest is dropped. Raises OSError."""
    for number in range(parts - 1, 0, -1):
        older = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number}"))

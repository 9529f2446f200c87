"""Looking through agent folders. A bad manifest is told of and leaves the others alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from agent_manager.discovery import manifest
from agent_manager.discovery.manifest import ManifestError, ManifestProblem
from schemas.state import AgentRecord

NAMES: Final = ("agent.yaml", "agent.yml")
_SKIPPED: Final = frozenset({"__pycache__", "test", "tests"})


@dataclass(frozen=True, slots=True)
class Found:
    """What one look through the folders brought."""

    records: tuple[AgentRecord, ...]
    problems: tuple[ManifestProblem, ...]
    complete: bool
    """False when a folder could not be listed: absence from ``records`` then means nothing."""


@dataclass(slots=True)
class Folders:
    """The folders to look through. Only manifests that changed since the last look are parsed again."""

    directories: Sequence[Path]
    default_tenant: str
    _read: dict[Path, tuple[tuple[int, int], AgentRecord | tuple[ManifestProblem, ...]]] = field(default_factory=dict)

    def look(self, now: datetime) -> Found:
        """Every usable record, in order of folder names, and everything that is wrong."""
        problems: list[ManifestProblem] = []
        paths: list[Path] = []
        complete = True
        for directory in self.directories:
            try:
                paths += _manifests(directory)
            except OSError as error:
                complete = False
                problems.append(
                    ManifestProblem(
                        str(directory), "$", None, f"cannot be listed: {error.strerror}",
                        "Create the folder, or correct AGENTOPS_AGENTS",
                    )
                )  # fmt: skip
        self._read = {path: kept for path, kept in self._read.items() if path in paths}
        records: dict[str, tuple[AgentRecord, Path]] = {}
        for path in paths:
            result = self._one(path, now)
            if isinstance(result, tuple):
                problems += result
            elif result.agent_id in records:
                problems.append(
                    ManifestProblem(
                        str(path), "$.agent_id", result.agent_id, f"is already the id of {records[result.agent_id][1]}",
                        "Give each agent an id of its own; this manifest is left aside",
                    )
                )  # fmt: skip
            else:
                records[result.agent_id] = (result, path)
        return Found(tuple(record for record, _ in records.values()), tuple(problems), complete)

    def _one(self, path: Path, now: datetime) -> AgentRecord | tuple[ManifestProblem, ...]:
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
        except OSError:
            stamp = (0, 0)
        kept = self._read.get(path)
        # A problem may lie outside the file (a missing directory), so only good ones are remembered.
        if kept is not None and kept[0] == stamp and isinstance(kept[1], AgentRecord):
            return kept[1]
        result: AgentRecord | tuple[ManifestProblem, ...]
        try:
            result = manifest.read(path, default_tenant=self.default_tenant, now=now)
        except ManifestError as error:
            result = error.problems
        self._read[path] = (stamp, result)
        return result


def _skipped(name: str) -> bool:
    return name.startswith(("_", ".", "test_")) or name in _SKIPPED


def _manifest_in(folder: Path) -> Path | None:
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def _manifests(directory: Path) -> list[Path]:
    """The manifests below ``directory``: its own, and one level down."""
    folders = [directory, *(folder for folder in sorted(directory.iterdir()) if folder.is_dir() and not _skipped(folder.name))]
    return [path for folder in folders if (path := _manifest_in(folder)) is not None]

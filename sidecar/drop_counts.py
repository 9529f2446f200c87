"""How many events of each kind a spool has given up, kept beside it: a restart does not make them undone."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import orjson
import structlog

log = structlog.get_logger(__name__)


class DropCounts:
    """Counts by kind since the spool began."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.by_kind: Counter[str] = Counter()
        try:
            found = orjson.loads(path.read_bytes())
            self.by_kind.update({str(kind): int(count) for kind, count in found.items()})
        except FileNotFoundError:
            pass
        except (OSError, ValueError, AttributeError, TypeError) as error:
            log.error("spool.counts_unreadable", error=str(error))

    @property
    def total(self) -> int:
        """Of every kind."""
        return sum(self.by_kind.values())

    def add(self, more: Mapping[str, int]) -> None:
        """Counted, and remembered where the disk takes it."""
        self.by_kind.update(more)
        draft = self._path.with_suffix(".json.new")
        try:
            draft.write_bytes(orjson.dumps(self.by_kind))
            draft.replace(self._path)
        except OSError as error:
            log.error("spool.counts_unwritable", error=str(error))

"""The one line a run ends with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from chaos.recovery import Recovered


@dataclass(frozen=True, slots=True)
class Figures:
    """What happened in a run, and what came of it."""

    seed: int
    seconds: float
    acknowledged: int
    """Different events their publishers have an acknowledgement for."""
    repeats: Mapping[str, int]
    dead: int
    entries: int
    seen_again: int
    """Entries of one more sighting of a call."""
    reversed: int
    """Entries taken back because another sighting of the call knew better."""
    total: Decimal
    """US dollars in the ledger."""
    done: Mapping[str, int]
    """Troubles by kind and by ``kind target``."""
    targets: Sequence[str]
    """Whom a kill can hit, in the order to tell them."""
    missed: int
    """Scheduled, but the process to be hit did not run at that moment, or the server to be asked."""
    longest: Recovered
    settled_s: float
    """From the end of the load until everything was in the warehouse."""
    lost: int
    doubled: int
    sums_equal: bool
    violations: int

    def line(self) -> str:
        """All of it in one line."""
        kills = ", ".join(f"{name} {times}" for name in self.targets if (times := self.done.get(f"kill {name}", 0)))
        count = self.done.get
        return (
            f"chaos: {'ok' if self.violations == 0 else 'VIOLATED'} seed={self.seed} seconds={self.seconds:.0f}"
            f" acked={self.acknowledged:,} duplicates={sum(self.repeats.values()):,} dead={self.dead:,}"
            f" entries={self.entries:,} seen_again={self.seen_again:,} reversed={self.reversed:,} kills={count('kill', 0)} ({kills}) stops={count('stop', 0)}"
            f" second={count('second', 0)} zombies={count('zombie', 0)} disk_full={count('disk_full', 0)}"
            f" disk_slow={count('disk_slow', 0)} stream_full={count('stream_full', 0)} clock_jumps={count('clock', 0)}"
            f" missed={self.missed} longest_recovery={self.longest.seconds:.1f}s ({self.longest.what or 'none'})"
            f" settled={self.settled_s:.1f}s lost={self.lost} doubled={self.doubled} sum={self.total}"
            f" sum_equal={'yes' if self.sums_equal else 'NO'}"
        )

"""How long a process that ended rests before it is started again. Pure: chance is an argument."""

from typing import Final

FIRST_S: Final = 0.5
LONGEST_S: Final = 30.0
STEADY_AFTER_S: Final = 30.0
"""A process that ran this long begins again without a history."""


def pause_s(failures: int, chance: float) -> float:
    """The rest after ``failures`` short lives in a row (1 …), doubling, spread over its upper half by ``chance`` in [0, 1)."""
    longest = min(LONGEST_S, FIRST_S * 2.0 ** min(max(failures, 1) - 1, 16))
    return longest * (0.5 + chance / 2)


def counted(failures: int, lived_s: float) -> int:
    """Failures in a row, after one more life of ``lived_s`` seconds."""
    return 1 if lived_s >= STEADY_AFTER_S else failures + 1

"""When nobody is to be surprised that an agent is down."""

import re
from datetime import time
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.budgets import Zone
from schemas.model import Instant, Lenient

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WEEKLY_PATTERN: Final = r"^(daily|(mon|tue|wed|thu|fri|sat|sun)(,(mon|tue|wed|thu|fri|sat|sun))*) \d{2}:\d{2}-\d{2}:\d{2}$"

Weekly = Annotated[str, StringConstraints(pattern=WEEKLY_PATTERN)]
"""``sat,sun 22:00-02:00`` or ``daily 03:00-04:00``: the days on which it begins, then from and until; past midnight is fine."""


def weekly_parts(weekly: str) -> tuple[frozenset[int], time, time]:
    """The weekdays (0 is Monday), from and until; raises ValueError for a time that no clock shows."""
    days, _, hours = weekly.partition(" ")
    begins, _, ends = hours.partition("-")
    which = range(7) if days == "daily" else (DAYS.index(day) for day in days.split(","))
    return frozenset(which), time.fromisoformat(begins), time.fromisoformat(ends)


class MaintenanceWindow(Lenient):
    """Either once, ``begins`` to ``until``, or again every week."""

    begins: Instant | None = None
    until: Instant | None = None
    weekly: Weekly | None = None
    timezone: Zone = Field(default="UTC")
    """Whose clock ``weekly`` is read on."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.weekly is not None:
            if self.begins is not None or self.until is not None:
                msg = "a window is either weekly, or from and until, not both"
                raise ValueError(msg)
            try:
                weekly_parts(self.weekly)
            except ValueError as error:
                msg = f"weekly: {re.sub(r'[.]$', '', str(error))}; write mon,tue 22:00-02:00"
                raise ValueError(msg) from error
        elif self.begins is None or self.until is None or self.until <= self.begins:
            msg = "a window needs weekly, or from and a later until"
            raise ValueError(msg)
        return self

"""Whether what no longer stands at the head of a stream has aged out, or was purged. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from streams.auditing.accounts import Finding
from streams.auditing.standing import Standing

SLACK: Final = timedelta(minutes=2)
"""The server removes what is too old in rounds; both clocks may differ a little."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the warehouse knows of the messages that are gone."""

    messages: int
    events: int
    young: int
    """How many of them the stream's age limit would have kept."""
    young_first: int | None = None
    young_last: int | None = None


def young_since(standing: Standing, now: datetime) -> datetime | None:
    """What was stored since then cannot have aged out; None where nothing ages out."""
    return now - standing.max_age + SLACK if standing.max_age else None


def judge(standing: Standing, known: Known, now: datetime) -> list[Finding]:
    """What there is to say about the part of the range before the head of the stream."""
    gone, name = standing.gone, standing.name
    if gone.empty or gone.last < standing.began_at:
        return []
    check, number = f"{name}.head", gone.last - gone.after
    about = {"first": gone.after + 1, "last": gone.last}
    where = f"before {standing.first:,} of {name}"
    if not known.messages:
        old_enough = standing.max_age and now - standing.created >= standing.max_age - SLACK
        if not old_enough:
            why = "nothing in it ages out" if not standing.max_age else "the stream is younger than its age limit"
            return [Finding("error", check, f"{number:,} messages {where} were purged by hand: {why}", about)]
        return [Finding("ok", check, f"{name} begins at {standing.first:,}; the warehouse never had what stood before", about)]
    if not known.young:
        return [
            Finding(
                "ok", check, f"{number:,} messages {where} aged out; the warehouse keeps their {known.events:,} events", about
            )
        ]
    why = "younger than the stream's age limit" if standing.max_age else "nothing in it ages out"
    about |= {"purged": known.young}
    if known.young_first is not None and known.young_last is not None:
        about |= {"first": known.young_first, "last": known.young_last}
    aged = number - known.young
    rest = f"; the other {aged:,} aged out" if aged > 0 and standing.max_age else ""
    return [Finding("error", check, f"{known.young:,} messages {where} were purged by hand: {why}{rest}", about)]

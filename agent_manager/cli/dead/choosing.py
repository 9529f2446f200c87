"""Which dead letters are meant. Pure."""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime

from streams.dead_letters import Kept


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asked for; None means any."""

    ids: tuple[str, ...] = ()
    """Letter ids, or beginnings of them."""
    reason: str | None = None
    kind: str | None = None
    since: datetime | None = None
    waiting: bool = False
    """Only those that were not published again."""


def chosen(letters: Iterable[Kept], wanted: Wanted, replayed: Container[str] = ()) -> list[Kept]:
    """The letters that match, oldest first."""
    return [
        kept
        for kept in letters
        if (not wanted.ids or any(kept.letter.letter_id.startswith(one) for one in wanted.ids))
        and (wanted.reason is None or kept.letter.reason == wanted.reason)
        and (wanted.kind is None or kept.letter.kind == wanted.kind)
        and (not wanted.waiting or kept.letter.letter_id not in replayed)
        and (wanted.since is None or kept.letter.received_at >= wanted.since)
    ]


def first_error(kept: Kept) -> str:
    """What was wrong, on one line."""
    errors = kept.letter.errors
    if not errors:
        return ""
    more = f" (+{len(errors) - 1})" if len(errors) > 1 else ""
    return f"{errors[0].told()}{more}"

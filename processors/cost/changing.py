"""One change of the prices in force: what the next revision is, or why there is none. No clock, no network."""

from dataclasses import dataclass
from datetime import datetime

from schemas.prices.overrides import Override, PriceChange, Revision


@dataclass(frozen=True, slots=True)
class Change:
    """The next revision."""

    revision: Revision
    what: str


@dataclass(frozen=True, slots=True)
class Stays:
    """What is in force stays so: a book was only imported."""

    what: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Not changed, and why."""

    loc: str
    why: str


def moved_along(newest: Revision | None, default: str, now: datetime, by: str) -> Revision | None:
    """The revision that brings the default book into force; None where what is in force is to stay."""
    if newest is None:
        return Revision(number=1, book=default, at=now, by=by, reason="the first prices", change=f"book {default}")
    if not newest.follows_default or newest.book == default:
        return None
    return newest.model_copy(
        update={
            "number": newest.number + 1, "book": default, "at": now, "by": by, "change_id": None,
            "reason": "cost came with newer default prices", "change": f"book {newest.book} → {default}",
        }
    )  # fmt: skip


def _collision(new: Override, others: tuple[Override, ...]) -> Override | None:
    """An override that would hold for the same calls, since the same moment: which of them holds would be chance."""
    for one in others:
        same = (one.tenant, one.provider, one.model.lower(), one.match, one.service_tier, one.since)
        if same == (new.tenant, new.provider, new.model.lower(), new.match, new.service_tier, new.since):
            return one
    return None


def change(newest: Revision, wanted: PriceChange, by: str, now: datetime, default: str) -> Change | Stays | Refused:
    """What ``wanted`` makes of the newest revision."""
    if wanted.revision != newest.number:
        return Refused(
            "$.revision", f"revision {newest.number} is in force, the change was made for {wanted.revision}: look again"
        )
    update: dict[str, object] = {}
    overrides = newest.overrides
    match wanted.action:
        case "import":
            assert wanted.book is not None
            return Stays(f"book {wanted.book.version} imported; `agentops prices use {wanted.book.version}` brings it into force")
        case "use":
            book = wanted.version or default
            if book == newest.book and newest.follows_default == (wanted.version is None):
                return Refused("$.version", f"{book} is in force already")
            update = {"book": book, "follows_default": wanted.version is None}
            what = f"book {newest.book} → {book}"
        case "remove":
            kept = tuple(one for one in overrides if one.override_id != wanted.override_id)
            if len(kept) == len(overrides):
                names = ", ".join(one.override_id for one in overrides) or "none"
                return Refused("$.override_id", f"there is no override {wanted.override_id!r}; there are: {names}")
            update, what = {"overrides": kept}, f"override {wanted.override_id} removed"
        case "set":
            assert wanted.override is not None
            new = wanted.override
            kept = tuple(one for one in overrides if one.override_id != new.override_id)
            rival = _collision(new, kept)
            if rival is not None:
                return Refused(
                    "$.override.since",
                    f"override {rival.override_id!r} holds for the same calls since the same moment: give another --since, or set "
                    f"{rival.override_id!r} itself",
                )
            update = {"overrides": (*kept, new)}
            what = f"override {new.override_id} {'changed' if len(kept) < len(overrides) else 'set'}"
    update |= {
        "number": newest.number + 1, "at": now, "by": by, "reason": wanted.reason, "change": what, "change_id": wanted.change_id,
    }  # fmt: skip
    return Change(newest.model_copy(update=update), what)

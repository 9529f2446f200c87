"""Entries out of the warehouse, page by page, as they stood when reading began."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from nats.aio.client import Client

from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.query.asking import ask, ask_frame
from agent_manager.cli.when import NotATimeError, moment
from schemas.queries import MAX_PAGE
from streams import topology

if TYPE_CHECKING:
    import polars as pl

EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END: Final = datetime(9999, 1, 1, tzinfo=UTC)
_PATIENCE_S: Final = 60.0
_FIRST_WIDTH: Final = 200
"""Messages of LEDGER asked for at first."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which entries are meant; by the time of the calls."""

    since: datetime
    until: datetime | None = None
    tenant: str | None = None
    agent: str | None = None
    provider: str | None = None
    models: tuple[str, ...] = ()

    @classmethod
    def typed(
        cls, now: datetime, *, since: str | None, until: str | None, tenant: str | None = None, agent: str | None = None,
        provider: str | None = None, models: tuple[str, ...] = (),
    ) -> "Scope":  # fmt: skip
        """What the options say; raises CommandFailedError naming one. Without ``since`` it is all there ever was."""

        def read(option: str, text: str) -> datetime:
            try:
                return moment(text, now)
            except NotATimeError as error:
                raise CommandFailedError(f"{option}: {error}", code=2) from error

        start = EVER if since is None else read("--from", since)
        end = None if until is None else read("--until", until)
        if end is not None and end <= start:
            raise CommandFailedError("--until must lie after --from", code=2)
        return cls(start, end, tenant, agent, provider, models)

    def parameters(self, model: str | None = None) -> dict[str, Any]:
        """As a query takes them."""
        # Entries of calls that claim to be from the future count too.
        found: dict[str, Any] = {"since": self.since.isoformat(), "until": (self.until or _END).isoformat()}
        more = {"tenant": self.tenant, "agent": self.agent, "provider": self.provider, "model": model}
        return found | {name: value for name, value in more.items() if value is not None}

    def words(self) -> str:
        """For people."""
        parts = [
            "" if self.since == EVER else f"from {self.since:%Y-%m-%d %H:%M}",
            f"until {self.until:%Y-%m-%d %H:%M}" if self.until else "",
        ]
        parts += [
            f"{name} {value}"
            for name, value in (("tenant", self.tenant), ("agent", self.agent), ("provider", self.provider))
            if value
        ]
        parts += [f"model {' or '.join(self.models)}"] if self.models else []
        return ", ".join(filter(None, parts)) or "everything"


async def reached(client: Client) -> int:
    """How far the warehouse has read LEDGER."""
    page = await ask(client, "status", {})
    return max((int(row["applied_sequence"]) for row in page.rows if row["stream"] == topology.LEDGER), default=0)


async def entries(client: Client, scope: Scope, *, only_open: bool) -> AsyncIterator["pl.DataFrame"]:
    """Pages of entries in the order of the ledger; what is written meanwhile is left out. ``only_open``: what counts today.

    Asked for in ranges of the stream that hold about a page each: looking for the next page in all that follows would read it all.
    """
    last = await reached(client)
    seen: set[str] = set()
    for model in scope.models or (None,):
        base = scope.parameters(model) | {"open": only_open, "limit": MAX_PAGE}
        begin, width = 1, _FIRST_WIDTH
        while begin <= last:
            end = min(begin + width - 1, last)
            after: dict[str, Any] = {"after_sequence": begin}
            found = 0
            while True:
                page = await ask_frame(client, "ledger", base | {"up_to_sequence": end} | after, _PATIENCE_S)
                if page.is_empty():
                    break
                if len(scope.models) > 1:
                    # A call may be meant by several of the names.
                    fresh = page.filter(~page["entry_id"].is_in(list(seen)))
                    seen.update(fresh["entry_id"])
                    yield fresh
                else:
                    yield page
                found += page.height
                tail = page.row(-1, named=True)
                after = {"after_sequence": tail["stream_sequence"], "after_entry": tail["entry_id"]}
            begin = end + 1
            width = max(1, min(width * 4, width * MAX_PAGE // max(found, 1)))

"""What follows from a book, done: the flag first, because it stops spending; the checkpoint; then what is told, from there."""

from datetime import UTC, datetime
from typing import Final

import nats.errors
import structlog
from nats.aio.client import Client

from processors.budget.checkpoints import Checkpoints, Kept
from processors.budget.enforcing import flag, stands
from processors.budget.shelf import Shelf, word
from processors.standby import Turn
from schemas.budgets import BudgetFlag
from schemas.state import AgentRecord
from service.instruments import BUDGET_CROSSINGS, BUDGET_DETECTION_SECONDS
from streams.kv import TypedBucket
from streams.messages import CONTENT_TYPE, JSON
from streams.publish import NotStoredError, publish

log = structlog.get_logger(__name__)

TRANSIENT: Final = (nats.errors.Error, TimeoutError, OSError)
_TTL: Final = "Nats-TTL"


def _now() -> datetime:
    return datetime.now(UTC)


class Acting:
    """What fails for now is done with the next ``follow_up``. Raises FencedError where another instance is at work."""

    def __init__(
        self, client: Client, checkpoints: Checkpoints, flags: TypedBucket[BudgetFlag], shelf: Shelf, turn: Turn
    ) -> None:
        self.registry: dict[str, AgentRecord] = {}
        """The agents a stop may concern."""
        self._client = client
        self._checkpoints = checkpoints
        self._flags = flags
        self._shelf = shelf
        self._turn = turn

    async def follow_up(self, kept: Kept, since: datetime | None = None) -> None:
        """Judges the book and does what follows; ``since``: when the message was stored that may have crossed a threshold."""
        hits = self._shelf.judge(kept, self.registry, _now())
        if kept.book.definition.enforcement == "deny" or kept.flag is not None:
            await self._show_flag(kept)
        if kept.to_save:
            await self.save(kept)
        if hits:
            latency = None if since is None else (_now() - since).total_seconds()
            if latency is not None:
                BUDGET_DETECTION_SECONDS.observe(max(0.0, latency))
            BUDGET_CROSSINGS.labels(kept.book.definition.enforcement).inc(hits)
            log.warning("budget.threshold_hit", budget=kept.key, thresholds=hits, detected_s=latency)
        await self.deliver(kept)

    async def _show_flag(self, kept: Kept) -> None:
        if stands(kept.flag, kept.book):
            return
        await self._turn.mine()
        wanted = flag(kept.book)
        try:
            await (self._flags.delete(kept.key) if wanted is None else self._flags.put(kept.key, wanted))
        except TRANSIENT as error:
            log.warning("budget.flag_not_written", budget=kept.key, error=repr(error))
            return
        kept.flag = wanted
        if wanted is None:
            log.info("budget.flag_cleared", budget=kept.key)
        else:
            log.warning("budget.flag_set", budget=kept.key, until=wanted.until.isoformat(), reason=wanted.reason)

    async def save(self, kept: Kept) -> None:
        """Writes the book with what it has to tell; until it is written nothing is told. Raises FencedError."""
        try:
            await self._checkpoints.save(kept)
        except TRANSIENT as error:
            log.warning("budget.not_saved", budget=kept.key, error=repr(error))

    async def take_leave(self, kept: Kept) -> bool:
        """Tells that a budget is no more and leaves nothing of it behind; False where that did not succeed yet."""
        word(kept)
        await self._turn.mine()
        try:
            if kept.flag is not None:
                await self._flags.delete(kept.key)
                kept.flag = None
            if kept.to_save:
                await self._checkpoints.save(kept)
            await self.deliver(kept)
            if not kept.outbox:
                await self._checkpoints.forget(kept.key)
        except TRANSIENT as error:
            log.warning("budget.not_forgotten", budget=kept.key, error=repr(error))
            return False
        return not kept.outbox

    async def deliver(self, kept: Kept) -> None:
        """Tells what is saved, in order."""
        while kept.outbox and not kept.to_save:
            item = kept.outbox[0]
            headers = {CONTENT_TYPE: JSON} | ({_TTL: f"{item.ttl_s}s"} if item.ttl_s else {})
            await self._turn.mine()
            try:
                await publish(self._client, item.subject, item.data.encode(), message_id=item.message_id, headers=headers)
            except NotStoredError as error:
                log.warning("budget.not_told", budget=kept.key, subject=item.subject, error=str(error))
                return
            del kept.outbox[0]
            kept.unsaved = True

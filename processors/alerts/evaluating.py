"""One life of the alerts processor: from a restored checkpoint on, read, evaluate, tell.

ALERTS is the truth about what was told: changes found there are not told again, and what it says is firing that no
longer is gets its end.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import nats.errors
import structlog
from nats.aio.client import Client
from pydantic import ValidationError

from processors.alerts.board import Board
from processors.alerts.checkpoints import Checkpoints, Positions
from processors.alerts.checks import checks
from processors.alerts.metrics import METRICS
from processors.alerts.readings import Told, of_agent_state, of_events, of_ledger
from processors.alerts.rules import Rules
from processors.alerts.series import ended
from processors.alerts.settings import AlertSettings
from processors.standby import Turn
from schemas.alerts import Acknowledgement, AlertChange
from service.instruments import ALERT_CHANGES, LAG_MESSAGES, LOOP_ERRORS
from streams import subjects, topology
from streams.covering import FencedError
from streams.kv import TypedBucket
from streams.messages import CONTENT_TYPE, JSON, Received
from streams.publish import publish_until_stored
from streams.reader import OrderedReader, Source, position_at

log = structlog.get_logger(__name__)

NAME: Final = "alerts"
_TICK_S: Final = 0.25
_SETTLING: Final = timedelta(seconds=1)
"""The clock of a stream read to its end stands this far behind ours: what is on its way still counts."""
_FIRST_LOOK_BACK: Final = timedelta(minutes=10)
"""Without a checkpoint nothing older is evaluated: history is not news."""
_CHECKPOINT_S: Final = 5.0
_CHECKPOINT_AFTER_CHANGE_S: Final = 1.0


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Following:
    """One stream being read, and its clock."""

    reader: OrderedReader
    done: int = 0
    """Sequence of the last message everything followed from."""
    heard_at: datetime | None = None
    """When that message was stored."""

    @property
    def clock(self) -> datetime | None:
        """The time of the stream as far as it was read; ours, settled, once it was read to its end."""
        return _now() - _SETTLING if self.caught_up else self.heard_at

    @property
    def caught_up(self) -> bool:
        """Whether nothing is known to be unread."""
        return self.reader.caught_up and self.done >= self.reader.position


class Evaluating:
    """Everything that touches the board holds its lock until what followed is stored in ALERTS."""

    def __init__(
        self, client: Client, settings: AlertSettings, checkpoints: Checkpoints, board: Board, positions: Positions,
        acknowledgements: TypedBucket[Acknowledgement], turn: Turn, stopping: asyncio.Event,
    ) -> None:  # fmt: skip
        self.listening = False
        """Whether everything stored has been read once."""
        self._client = client
        self._settings = settings
        self._checkpoints = checkpoints
        self._board = board
        self._acknowledgements = acknowledgements
        self._turn = turn
        self._stopping = stopping
        self._lock = asyncio.Lock()
        kinds = {METRICS[metric].kind for metric in board.metrics if METRICS[metric].source == "EVENTS"} | {"agent"}
        filters = [subjects.ALL_DEAD if kind == "dead" else subjects.events_of(kind) for kind in sorted(filter(None, kinds))]
        self._events = Following(
            OrderedReader(client, Source(topology.EVENTS, tuple(filters)), positions.events), positions.events
        )
        self._ledger = Following(
            OrderedReader(client, Source(topology.LEDGER, (subjects.ALL_LEDGER,)), positions.ledger), positions.ledger
        )
        self._states = Following(OrderedReader(client, Source(f"KV_{topology.AGENT_STATES}")))
        self._seen = Following(OrderedReader(client, Source(f"KV_{topology.ACKNOWLEDGEMENTS}")))
        self._alerts_position = positions.alerts
        self._already: set[str] = set()
        self._told: dict[str, AlertChange] = {}
        self._changed = False
        self._left_aside = 0
        self._saved_at = asyncio.get_running_loop().time()
        self._saved = positions

    @classmethod
    async def begin(
        cls, client: Client, settings: AlertSettings, rules: Rules, turn: Turn, stopping: asyncio.Event
    ) -> "Evaluating":
        """Goes on from the last checkpoint and from what ALERTS tells since."""
        checkpoints = await Checkpoints.open(client)
        board = Board(rules.rules)
        saved, series = await checkpoints.load()
        positions = await cls._positions(client, saved)
        if saved is not None and (positions.events, positions.ledger) != (saved.events, saved.ledger):
            # A stream was made anew: its old positions mean nothing any more.
            series = [each.model_copy(update={"applied": 0}) for each in series]
        board.restore(series)
        acknowledgements = await TypedBucket.open(client, topology.ACKNOWLEDGEMENTS, Acknowledgement)
        life = cls(client, settings, checkpoints, board, positions, acknowledgements, turn, stopping)
        life._told = {each.alert.alert_id: each.alert for each in series if each.phase == "firing" and each.alert is not None}
        await life._read_back()
        if saved is None:
            # From here on nothing is overlooked, however long this processor may be away.
            await life._checkpoints.save((), positions)
        log.info("alerts.restored", rules=len(rules.rules), source=rules.source, series=len(series), active=len(life._told))
        return life

    @staticmethod
    async def _positions(client: Client, saved: Positions | None) -> Positions:
        since = _now() - _FIRST_LOOK_BACK

        async def position(stream: str, before: int | None) -> int:
            last = (await client.jsm().stream_info(stream)).state.last_seq
            if before is not None and before <= last:
                return before
            # ALERTS is read back whole: it alone knows what was told.
            return 0 if stream == topology.ALERTS else await position_at(client, stream, since)

        return Positions(
            events=await position(topology.EVENTS, saved.events if saved else None),
            ledger=await position(topology.LEDGER, saved.ledger if saved else None),
            alerts=await position(topology.ALERTS, saved.alerts if saved else None),
            at=_now(),
        )

    async def _read_back(self) -> None:
        """What was told after the checkpoint."""
        last = (await self._client.jsm().stream_info(topology.ALERTS)).state.last_seq
        reader = OrderedReader(self._client, Source(topology.ALERTS, (subjects.ALL_ALERTS,)), self._alerts_position)
        try:
            while reader.position < last:
                messages = await reader.fetch(1000, 1.0)
                for message in messages:
                    try:
                        change = AlertChange.model_validate_json(message.data)
                    except ValidationError as error:
                        log.error("alert.unreadable", subject=message.subject, sequence=message.sequence, error=str(error)[:300])
                        continue
                    self._already.add(change.change_id)
                    self._board.adopt(change)
                    if change.state == "resolved":
                        self._told.pop(change.alert_id, None)
                    else:
                        self._told[change.alert_id] = change
                if not messages and reader.caught_up:
                    break
        finally:
            await reader.close()
        self._alerts_position = max(self._alerts_position, last)

    async def run(self) -> None:
        """Evaluates until asked to stop, then writes a last checkpoint. Raises FencedError."""
        try:
            await self._evaluate()
        except BaseExceptionGroup as errors:
            if errors.subgroup(FencedError) is None:
                raise
            raise FencedError("another instance evaluates the rules") from errors
        finally:
            await self._close()

    async def _evaluate(self) -> None:
        events, ledger = frozenset(self._board.metrics), self._board.scopes
        async with asyncio.TaskGroup() as group:
            loops = (
                group.create_task(self._follow(self._events, lambda message: list(of_events(message, events)))),
                group.create_task(self._follow(self._ledger, lambda message: list(of_ledger(message, ledger)))),
                group.create_task(self._follow(self._states, lambda message: list(of_agent_state(message)))),
                group.create_task(self._follow_acknowledgements()),
                group.create_task(self._check_streams()),
                group.create_task(self._tick()),
            )
            await self._stopping.wait()
            # Whoever holds the lock finishes telling first. The loops see the stop by themselves; cancelling only hastens
            # them, because on Python 3.11 a cancellation that meets an arriving reply is lost (asyncio.wait_for).
            async with self._lock:
                await self._checkpoint()
                for loop in loops:
                    loop.cancel()

    async def _close(self) -> None:
        for following in (self._events, self._ledger, self._states, self._seen):
            await following.reader.close()

    async def _follow(self, following: Following, read: Callable[[Received], Sequence[Told]]) -> None:
        while not self._stopping.is_set():
            messages = await following.reader.fetch(500, 1.0)
            for message in messages:
                async with self._lock:
                    await self._tell(self._take(message, read))
                    following.done, following.heard_at = message.sequence, message.stored_at

    def _take(self, message: Received, read: Callable[[Received], Sequence[Told]]) -> list[AlertChange]:
        """What follows from a message; one that cannot be evaluated is logged and left behind, it must not stop the rest."""
        try:
            told = read(message)
            return self._board.take(told, message.sequence) if told else []
        except Exception:
            LOOP_ERRORS.labels(NAME).inc()
            log.exception("message.not_evaluated", subject=message.subject, sequence=message.sequence)
            return []

    async def _follow_acknowledgements(self) -> None:
        while not self._stopping.is_set():
            for message in await self._seen.reader.fetch(100, 1.0):
                if not message.data:
                    continue
                try:
                    given = Acknowledgement.model_validate_json(message.data)
                except ValidationError as error:
                    log.error("acknowledgement.unreadable", subject=message.subject, error=str(error)[:300])
                    continue
                async with self._lock:
                    await self._tell(self._board.acknowledge(given))

    async def _check_streams(self) -> None:
        while not self._stopping.is_set():
            try:
                readings = [reading async for reading in checks(self._client, self._settings.system_tenant, self._board.metrics)]
            except (nats.errors.Error, TimeoutError, OSError) as error:
                log.warning("alerts.check_failed", error=repr(error))
            else:
                async with self._lock:
                    await self._tell(self._board.take(readings))
            await self._pause(self._settings.alerts_check_s)

    async def _pause(self, seconds: float) -> None:
        """Sleeps, but not beyond the stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _tick(self) -> None:
        while not self._stopping.is_set():
            await self._pause(_TICK_S)
            try:
                async with self._lock:
                    await self._look()
            except (nats.errors.Error, TimeoutError, OSError) as error:
                LOOP_ERRORS.labels(NAME).inc()
                log.warning("alerts.again", error=repr(error))

    async def _look(self) -> None:
        LAG_MESSAGES.labels(NAME).set(self._events.reader.pending + self._ledger.reader.pending)
        if self._board.left_aside > self._left_aside:
            log.warning("alerts.measurements_left_aside", measurements=self._board.left_aside - self._left_aside)
            self._left_aside = self._board.left_aside
        if not self.listening and all(each.caught_up for each in (self._events, self._ledger, self._states)):
            self.listening = True
            await self._reconcile()
        events, ledger = self._events.clock, self._ledger.clock
        if events is not None and ledger is not None:
            await self._tell(self._board.advance(min(events, ledger)))
        waited = asyncio.get_running_loop().time() - self._saved_at
        if waited >= (_CHECKPOINT_AFTER_CHANGE_S if self._changed else _CHECKPOINT_S):
            await self._checkpoint()

    async def _reconcile(self) -> None:
        """Everything that was told is read again now: what ALERTS says is firing and is not, ends."""
        self._already.clear()
        active = self._board.active()
        lost = [change for alert_id, change in self._told.items() if alert_id not in active]
        await self._tell(ended(change, _now(), None, "its rule or its subject is no longer watched") for change in lost)

    async def _tell(self, changes: Iterable[AlertChange]) -> None:
        for change in changes:
            self._changed = True
            if change.state == "resolved":
                self._told.pop(change.alert_id, None)
            if change.change_id in self._already:
                continue
            subject = subjects.alerts(change.tenant_id, change.severity, change.rule)
            data = change.model_dump_json(exclude_none=True).encode()
            await self._my_turn()
            sequence = await publish_until_stored(
                self._client, subject, data, message_id=change.change_id, headers={CONTENT_TYPE: JSON}
            )
            self._alerts_position = max(self._alerts_position, sequence)
            ALERT_CHANGES.labels(change.rule, change.state).inc()
            log.info(
                "alert.changed", alert_id=change.alert_id, state=change.state, rule=change.rule, severity=change.severity,
                tenant_id=change.tenant_id, agent_id=change.agent_id, value=change.value, summary=change.summary,
            )  # fmt: skip
            if change.state == "resolved" and change.acknowledged_by is not None:
                await self._forget(change.alert_id)

    async def _my_turn(self) -> None:
        try:
            await self._turn.mine()
        except FencedError:
            # The loops see it by themselves, even one that a cancellation does not reach.
            self._stopping.set()
            raise

    async def _forget(self, alert_id: str) -> None:
        """An alert that is over needs its acknowledgement no more."""
        try:
            await self._acknowledgements.delete(alert_id)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            log.debug("acknowledgement.not_removed", alert_id=alert_id, error=repr(error))

    async def _checkpoint(self) -> None:
        self._saved_at = asyncio.get_running_loop().time()
        positions = Positions(events=self._events.done, ledger=self._ledger.done, alerts=self._alerts_position, at=_now())
        if not self._changed and positions.model_copy(update={"at": self._saved.at}) == self._saved:
            return
        await self._my_turn()
        keys = list(self._board.unsaved)
        await self._checkpoints.save([self._board.series[key] for key in keys], positions)
        self._board.unsaved.difference_update(keys)
        self._saved, self._changed = positions, False

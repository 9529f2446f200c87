"""Covered writing: everything a fetch led to, and the record that it did, stored together or not at all.

One JetStream atomic batch holds all outputs and, last, the coverage record. The record is fenced: it names the
sequence of the record before it, so a second writer started by mistake is refused whole (error 10071).

"Not at all" has one exception, which ``streams.torn`` describes: a limit lowered under a batch tears it. So whoever gets
no answer, and whoever resumes, looks what was left behind the newest record before anything is sent.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js.api import Header

from schemas.coverage import Coverage
from streams import subjects, torn
from streams.looking_behind import BATCH_ID, left_behind
from streams.outgoing import MAX_BATCH, Outgoing
from streams.torn import Leftovers, Send, StepBack, Stored

__all__ = ["MAX_BATCH", "BatchTooLargeError", "CoveredWriter", "FencedError", "Outgoing", "Position"]

log = structlog.get_logger(__name__)

_WRONG_LAST_SEQUENCE = 10071
_FULL = frozenset({10077, 10122, 10047})
_ANSWER_S = 5.0
_RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class FencedError(Exception):
    """Another instance has covered further. Trying again never helps: this one must start over from the record."""


class BatchTooLargeError(ValueError):
    """More messages than one atomic batch may hold. Trying again does not help; cover less input at once."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a processor has covered its input."""

    covered: int
    """Last input sequence covered."""
    record_sequence: int
    """Sequence of the record that says so, in the output stream; 0 before the first."""
    first_sequence: int = field(default=0, compare=False)
    """Sequence of the first message of the batch the record closes; 0 where this writer has not written it."""


class _RefusedError(Exception):
    """The server answered, and the answer was no."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code


class CoveredWriter:
    """Writes one processor's batches for one partition into ``stream``.

    ``writes`` are the subjects of its outputs; without them it looks through everything when it looks for its own.
    """

    def __init__(self, client: Client, stream: str, processor: str, partition: int = 0, writes: tuple[str, ...] = ()) -> None:
        self._client = client
        self._js = client.jetstream()
        self._stream = stream
        self._writes = writes
        self.processor = processor
        self.partition = partition
        self._subject = subjects.covered(processor, partition)
        self.position = Position(0, 0)
        self._left = Leftovers()

    @property
    def torn_until(self) -> int:
        """Up to this input sequence the next batch has to cover, to complete one that was torn; 0 where none was."""
        return self._left.until

    async def last(self) -> tuple[Coverage, int] | None:
        """The newest coverage record in the stream, with its sequence."""
        try:
            message = await self._js.get_last_msg(self._stream, self._subject, direct=True)
        except nats.js.errors.NotFoundError:
            return None
        assert message.data is not None
        assert message.seq is not None
        return Coverage.model_validate_json(message.data), message.seq

    async def resume(self) -> Position:
        """Where to go on: reads the newest record back, and what stands behind it. Waits for NATS as long as it takes."""
        attempt = 0
        while True:
            try:
                found = await self.last()
                position = Position(found[0].last_sequence, found[1]) if found else Position(0, 0)
                self._left = await self._look_behind(position.record_sequence)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                await self._pause(attempt, "resume", error)
                attempt += 1
                continue
            self.position = position
            return self.position

    async def _look_behind(self, record_sequence: int) -> Leftovers:
        left = await left_behind(self._client, self._stream, record_sequence, self.processor, self.partition, self._writes)
        if left.parts:
            log.warning(
                "covering.torn", processor=self.processor, partition=self.partition, messages=len(left.parts),
                first=left.parts[0].sequence, until=left.until,
            )  # fmt: skip
        return left

    async def replaced(self, stream: str) -> str | None:
        """Why ``stream`` cannot be the input that was covered so far; None where it can. Call after ``resume``.

        A stream made anew counts from 1 again: what arrives in it would be taken for covered, and be lost.
        """
        covered = self.position.covered
        info = await self._client.jsm().stream_info(stream)
        why = f"{stream} ends at {info.state.last_seq}" if info.state.last_seq < covered else None
        if why is None and covered and info.state.first_seq <= covered:
            # It may have grown past the old position meanwhile; both moments are the server's.
            record = await self._js.get_last_msg(self._stream, self._subject, direct=True)
            if info.created is not None and record.time is not None and info.created > record.time:
                why = f"{stream} was created at {info.created:%Y-%m-%dT%H:%M:%SZ}, after the last record,"
        if why is None:
            return None
        return f"{why} but is covered up to {covered}: it was made anew. Delete it and create it with first sequence {covered + 1}, or restore it"

    async def commit(self, outputs: Sequence[Outgoing], coverage: Coverage) -> Position:
        """Stores ``outputs`` and ``coverage`` together; returns only when they are stored.

        A full stream or an absent server is waited for: the input stays where it is. Raises FencedError when
        another instance has written, BatchTooLargeError above ``MAX_BATCH`` messages.
        """
        if len(outputs) + 1 > MAX_BATCH:
            msg = f"{len(outputs)} outputs and a record do not fit into one batch of {MAX_BATCH}"
            raise BatchTooLargeError(msg)
        sending = torn.complete(outputs, coverage, self._left)
        unanswered = False
        attempt = 0
        while True:
            try:
                if unanswered:
                    # The reply may be lost while the batch is stored, or a part of it: the stream knows.
                    match await self._look(outputs, coverage):
                        case Stored(sequence):
                            break
                        case StepBack(reason):
                            raise FencedError(self._fenced(reason))
                        case Send() as sending:
                            unanswered = False
                sequence = await self._send(sending)
            except _RefusedError as error:
                if error.code == _WRONG_LAST_SEQUENCE:
                    sequence = await self._mine_or_fenced(coverage)
                    break
                await self._pause(attempt, "full" if error.code in _FULL else "refused", error)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                unanswered = True
                await self._pause(attempt, "no reply", error)
            else:
                break
            attempt += 1
        self.position = Position(coverage.last_sequence, sequence, sequence - len(sending.outputs))
        self._left = Leftovers()
        return self.position

    async def _look(self, outputs: Sequence[Outgoing], coverage: Coverage) -> Stored | Send | StepBack:
        """What became of a batch that was not answered."""
        newest, before = await self.last(), self.position.record_sequence
        left = await self._look_behind(before) if (newest[1] if newest else 0) == before else Leftovers()
        return torn.decide(outputs, coverage, before, newest, left)

    async def _mine_or_fenced(self, coverage: Coverage) -> int:
        attempt = 0
        while True:
            try:
                found = await self.last()
            except (nats.errors.Error, TimeoutError, OSError) as error:
                await self._pause(attempt, "read back", error)
                attempt += 1
                continue
            if found is not None and found[0].batch_id == coverage.batch_id:
                return found[1]
            raise FencedError(self._fenced(torn.overtaken(found)))

    def _fenced(self, by: str) -> str:
        return f"{self.processor}/{self.partition}: {by}; this instance stood at {self.position.covered}"

    async def _pause(self, attempt: int, what: str, error: Exception) -> None:
        if attempt in {0, 3} or attempt % 20 == 0:
            log.warning(
                "covering.again", processor=self.processor, what=what, attempt=attempt, error=str(error) or type(error).__name__
            )
        await asyncio.sleep(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])

    async def _send(self, sending: Send) -> int:
        """One atomic batch; returns the sequence of its last message, the record."""
        outputs, coverage = sending.outputs, sending.coverage
        batch_id = torn.batch_id(self.processor, self.partition, coverage.last_sequence, uuid4().hex[:16])
        for number, out in enumerate(outputs, 1):
            headers = {BATCH_ID: batch_id, "Nats-Batch-Sequence": str(number), **out.headers}
            await self._client.publish(out.subject, out.data, headers=headers)
        headers = {
            BATCH_ID: batch_id,
            "Nats-Batch-Sequence": str(len(outputs) + 1),
            "Nats-Batch-Commit": "1",
            Header.EXPECTED_LAST_SUBJECT_SEQUENCE: str(self.position.record_sequence),
        }
        record = coverage.model_dump_json(exclude_none=True).encode()
        answer = json.loads(await self._request(record, headers))
        error = answer.get("error")
        if isinstance(error, dict):
            raise _RefusedError(int(error.get("err_code", 0)), str(error.get("description", "refused")))
        sequence = answer["seq"]
        assert isinstance(sequence, int)
        return sequence

    async def _request(self, record: bytes, headers: Mapping[str, str]) -> bytes:
        """The reply's bytes. A reply that a lost connection took along is not waited for: the stream will be asked."""
        connects = self._client.stats["reconnects"]
        asking = asyncio.create_task(
            self._client.request(self._subject, record, timeout=_ANSWER_S, headers=dict(headers)), name="commit"
        )
        try:
            while not (await asyncio.wait({asking}, timeout=0.25))[0]:
                if self._client.stats["reconnects"] != connects:
                    raise TimeoutError
            return bytes(asking.result().data)
        finally:
            asking.cancel()

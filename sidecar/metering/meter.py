"""What becomes of a call: its run, its usage, its event. Touches neither network nor disk; told the time by its caller."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from schemas.events import Event
from schemas.sections import ResourceUsage
from service.instruments import METERED_CALLS, METERED_SECONDS
from sidecar.metering import calls, failures
from sidecar.metering.attribution import Attribution
from sidecar.metering.calls import Call, Failed, Owner
from sidecar.metering.conversations import Conversations, said
from sidecar.metering.estimates import asked_tokens, tokens
from sidecar.metering.usage import Extractors, Read, Unread, estimated

_MOST_ANSWERS: Final = 10_000
"""Answers remembered, so that asking for one again is not another call."""
_REFUSALS_EVERY_S: Final = 10.0
_MOST_REFUSALS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended, as the door saw it."""

    failed: Failed | None = None
    """None: the answer came to its end."""
    spent: bool = True
    """Whether the model may have worked: the request was sent, and not refused."""
    size: int = 0
    """Of the request, in bytes."""
    read_bytes: int = 0
    """Of the answer."""
    unread: str | None = None
    """Why the answer could not be read."""


@dataclass(slots=True)
class _Refused:
    told_at: float
    untold: int
    attribution: Attribution
    reason: str
    provider: str
    model: str | None


class Meter:
    """Measures the calls of one agent."""

    def __init__(self, owner: Owner, extractors: Extractors, tell: Callable[[Event], None]) -> None:
        self._owner = owner
        self._extractors = extractors
        self._tell = tell
        self._conversations = Conversations(owner.agent_id)
        self._answers: OrderedDict[str, None] = OrderedDict()
        self._refused: dict[str, _Refused] = {}

    def place(self, call: Call, *, again: bool) -> None:
        """The call has a run: its own, its trace's, or its conversation's."""
        attribution = call.attribution
        # A retrieved answer belongs to whoever asked for it first, which may be long ago.
        call.run_id = attribution.run or attribution.trace_id
        if call.run_id is not None or call.api.retrieves:
            return
        at = datetime.now(UTC)
        found = self._conversations.place(
            said(call.api.shape, call.asked.body, again=again), attribution.project, now=call.began, wall=at
        )
        call.run_id = found.run_id
        if found.is_new:
            self._tell(calls.conversation_began(self._owner, found.run_id, attribution.project, at))

    def conclude(self, call: Call, outcome: Outcome) -> None:
        """The call is over: its event is told, unless there is nothing to tell."""
        now, at = time.monotonic(), datetime.now(UTC)
        answer, failed = call.answer, outcome.failed
        read = self._extractors.read(call.provider, answer)
        usage: ResourceUsage | None = None
        if failed is None and (answer.later or (call.api.retrieves and not self._is_new(answer.response_id, read))):
            METERED_CALLS.labels(call.provider, "retrieved").inc()
            return
        if isinstance(read, Read) and read.doubt is not None:
            call.notes["agentops.usage_doubt"] = read.doubt
        if failed is failures.CLIENT_LEFT and call.fault is None and answer.whole and isinstance(read, Read):
            # It had all it wanted: many hang up at the end mark.
            failed = None
        if failed is None and answer.error is not None:
            failed = failures.ended(answer.error)
        if outcome.spent:
            usage, failed = self._usage(call, outcome, read, failed)
        if usage is not None and usage.estimated and isinstance(read, Unread):
            call.notes["agentops.estimated_because"] = outcome.unread or read.why
        if call.run_id is not None:
            self._conversations.answered(call.run_id, answer.response_id, now=now, wall=at)
        if answer.response_id is not None:
            self._answers[answer.response_id] = None
            while len(self._answers) > _MOST_ANSWERS:
                self._answers.popitem(last=False)
        METERED_CALLS.labels(call.provider, "completed" if failed is None else "failed").inc()
        METERED_SECONDS.observe(now - call.began)
        self._tell(calls.event(self._owner, call, usage, failed, ended=now, at=at))

    def _is_new(self, response_id: str | None, read: Read | Unread) -> bool:
        return isinstance(read, Read) and (response_id is None or response_id not in self._answers)

    @staticmethod
    def _usage(
        call: Call, outcome: Outcome, read: Read | Unread, failed: Failed | None
    ) -> tuple[ResourceUsage | None, Failed | None]:
        """What is billed for a call on which the model may have worked, and why it failed, if it did."""
        answer = call.answer
        broke_off = outcome.failed is not None and failed is not None
        if isinstance(read, Read) and (not broke_off or answer.whole or answer.shape == "gemini"):
            # Gemini counts anew with every event: what it said last is what was used.
            return read.usage, failed
        asked = asked_tokens(call.asked.body, outcome.size)
        if broke_off:
            return estimated(answer, read, asked), failed
        if outcome.unread is not None:
            return ResourceUsage(input_tokens=asked, output_tokens=tokens(outcome.read_bytes), estimated=True), failed
        if answer.written or answer.shape in {"embeddings", "images"}:
            return estimated(answer, read, asked), failed
        return None, failed or failures.nothing(answer.finish_reason)

    def refused(
        self, policy_id: str, reason: str, attribution: Attribution, *, provider: str, model: str | None, now: float
    ) -> None:
        """A call was refused: told at once, and then at most every ten seconds, with how many there were."""
        known = self._refused.get(policy_id)
        if known is None:
            if len(self._refused) >= _MOST_REFUSALS:
                self._refused.pop(next(iter(self._refused)))
            self._refused[policy_id] = known = _Refused(now - _REFUSALS_EVERY_S, 0, attribution, reason, provider, model)
        known.untold += 1
        known.attribution, known.reason, known.provider, known.model = attribution, reason, provider, model
        self._tell_refused(policy_id, known, now)

    def _tell_refused(self, policy_id: str, known: _Refused, now: float, *, last: bool = False) -> None:
        if known.untold and (last or now - known.told_at >= _REFUSALS_EVERY_S):
            event = calls.blocked(
                self._owner,
                known.attribution,
                policy_id=policy_id,
                reason=known.reason,
                times=known.untold,
                provider=known.provider,
                model=known.model,
                at=datetime.now(UTC),
            )
            known.told_at, known.untold = now, 0
            self._tell(event)

    def tidy(self, now: float, *, last: bool = False) -> None:
        """Tells what is over by now; ``last``: all of it, because the sidecar ends."""
        for over in self._conversations.over(now, everything=last):
            self._tell(calls.conversation_over(self._owner, over))
        for policy_id, known in self._refused.items():
            self._tell_refused(policy_id, known, now, last=last)

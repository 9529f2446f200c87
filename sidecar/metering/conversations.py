"""Which run a call belongs to where nobody says: one for each conversation.

A conversation is known, in this order, by an id the request gives it (``conversation``, a session or thread in its metadata),
by the answer it goes on from (``previous_response_id``), else by its beginning: a request whose messages begin with all the
messages of an earlier request goes on from that one. What begins with nobody's messages is a new conversation.
"""

import secrets
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final

from schemas.ids import derived_text, uuid7
from sidecar.metering.apis import Shape

IDLE_S: Final = 900.0
"""A conversation silent for so long is over: its run is completed."""
MOST_RUNS: Final = 2_000
"""Conversations at once; one more completes the one silent longest."""
_MOST_KEYS: Final = 20_000
"""Beginnings and answers remembered; the oldest are forgotten first."""
_NAMED: Final = ("conversation_id", "session_id", "thread_id", "sessionId", "conversationId")
_UNSTEADY: Final = frozenset({"cache_control", "cachePoint", "id", "status"})
"""Fields that clients change in messages they send again."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a request says of its conversation."""

    name: str | None = None
    previous: str | None = None
    """The answer it goes on from."""
    beginnings: tuple[bytes, ...] = ()
    """Digests of its messages before each of the model's turns, the longest last."""
    whole: bytes = b""
    """The digest of all its messages."""
    again: bool = False
    """The client tries the same request once more."""


@dataclass(frozen=True, slots=True)
class Conversing:
    """The run of a conversation."""

    run_id: str
    began_at: datetime
    is_new: bool


@dataclass(frozen=True, slots=True)
class Over:
    """A conversation that is over."""

    run_id: str
    began_at: datetime
    last_at: datetime
    project: str | None


def _texts(value: Any) -> Iterator[bytes]:
    if isinstance(value, str):
        yield value.encode("utf-8", "surrogatepass")
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name not in _UNSTEADY:
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _by_the_model(message: Any) -> bool:
    if not isinstance(message, dict):
        return False
    role = message.get("role")
    return role in {"assistant", "model"} or (
        role is None and message.get("type") not in {None, "message", "function_call_output"}
    )


def _messages(shape: Shape, body: dict[str, Any]) -> tuple[Any, Any]:
    """The instructions and the messages of a request."""
    match shape:
        case "responses":
            return body.get("instructions"), body.get("input")
        case "gemini":
            return body.get("systemInstruction") or body.get("system_instruction"), body.get("contents")
        case "chat" | "messages" | "converse" | "invoke":
            return body.get("system"), body.get("messages")
        case _:
            return None, body.get("prompt") or body.get("input")


def said(shape: Shape, body: dict[str, Any] | None, *, again: bool = False) -> Said:
    """What the request ``body`` says of its conversation; ``again``: the client says that it tries once more."""
    if body is None:
        return Said(again=again)
    conversation = body.get("conversation")
    name = conversation.get("id") if isinstance(conversation, dict) else conversation
    metadata = body.get("metadata")
    for holder in (metadata, body) if isinstance(metadata, dict) else (body,):
        name = name or next((value for key in _NAMED if isinstance(value := holder.get(key), str)), None)
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if name is None and isinstance(user, str) and "session" in user:
        name = user
    instructions, messages = _messages(shape, body)
    running = blake2b(digest_size=16)
    for text in _texts(instructions):
        running.update(text)
    beginnings: list[bytes] = []
    by_the_model = False
    for message in messages if isinstance(messages, list) else [messages]:
        before, by_the_model = by_the_model, _by_the_model(message)
        if by_the_model and not before:
            beginnings.append(running.copy().digest())
        running.update(b"\x00")
        for text in _texts(message):
            running.update(text)
    previous = body.get("previous_response_id")
    return Said(
        name if isinstance(name, str) and name else None,
        previous if isinstance(previous, str) else None,
        tuple(beginnings),
        running.digest(),
        again,
    )


@dataclass(slots=True)
class _Run:
    began_at: datetime
    last_at: datetime
    seen: float
    project: str | None


class Conversations:
    """The conversations under way through one sidecar. ``now`` is monotonic, in seconds; ``wall`` is the time events tell."""

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._keys: OrderedDict[bytes | str, str] = OrderedDict()

    def _known(self, said: Said) -> str | None:
        """The run that ``said`` goes on with."""
        keys: list[bytes | str] = [said.previous] if said.previous is not None else []
        keys += reversed(said.beginnings)
        if said.again:
            keys.append(said.whole)
        return next((run for key in keys if (run := self._keys.get(key)) in self._runs), None)

    def place(self, said: Said, project: str | None, *, now: float, wall: datetime) -> Conversing:
        """The run of a call that says ``said``."""
        if said.name is not None:
            run_id: str | None = derived_text("conversation", self._agent, said.name)
        else:
            run_id = self._known(said)
        run = None if run_id is None else self._runs.get(run_id)
        is_new = run is None
        if run is None or run_id is None:
            run_id = run_id or str(uuid7(int(wall.timestamp() * 1000), secrets.randbits(74)))
            run = self._runs[run_id] = _Run(wall, wall, now, project)
        run.last_at, run.seen = wall, now
        self._runs.move_to_end(run_id)
        if said.whole:
            self._remember(said.whole, run_id)
        return Conversing(run_id, run.began_at, is_new)

    def answered(self, run_id: str, response_id: str | None, *, now: float, wall: datetime) -> None:
        """A call of this run was answered; a later request may go on from the answer."""
        run = self._runs.get(run_id)
        if run is None:
            return
        run.last_at, run.seen = wall, now
        self._runs.move_to_end(run_id)
        if response_id is not None:
            self._remember(response_id, run_id)

    def _remember(self, key: bytes | str, run_id: str) -> None:
        self._keys[key] = run_id
        self._keys.move_to_end(key)
        while len(self._keys) > _MOST_KEYS:
            self._keys.popitem(last=False)

    def over(self, now: float, *, everything: bool = False) -> list[Over]:
        """The conversations that are over by now, each told once; with ``everything`` all of them."""
        ended = []
        while self._runs:
            run_id, run = next(iter(self._runs.items()))
            if not everything and run.seen + IDLE_S > now and len(self._runs) <= MOST_RUNS:
                break
            del self._runs[run_id]
            ended.append(Over(run_id, run.began_at, run.last_at, run.project))
        return ended

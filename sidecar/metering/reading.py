"""A bounded tap on one answer: reads what passes, and says what of it the client sees."""

from typing import Any, Final

import orjson

from sidecar.metering.answers import Answer
from sidecar.metering.apis import Api
from sidecar.metering.decoding import Decoder, UnreadableError
from sidecar.metering.dull import dull
from sidecar.metering.events import Cutter, Frames, ServerSent
from sidecar.metering.hiding import NO_USAGE, shown

MOST_BODY_BYTES: Final = 32 * 1024 * 1024
"""Of an answer that is not streamed; a larger one passes unread."""
_MOST_DULL_BYTES: Final = 64 * 1024
_EVENT_TYPES: Final = frozenset({"text/event-stream", "application/vnd.amazon.eventstream"})


class Tap:
    """Reads one answer while it passes. What it cannot read passes all the same, and ``unread`` says why."""

    def __init__(self, api: Api, *, content_type: str, encoding: str | None, failed: bool, hides: bool) -> None:
        self.answer = Answer(api.shape)
        self.unread: str | None = None
        self.data: Any = None
        """The body, where it is one JSON document."""
        self.read_bytes = 0
        """Of the answer, decoded."""
        self._decoder = Decoder(encoding)
        self._cutter: Cutter | None = None
        if content_type in _EVENT_TYPES and not failed:
            self._cutter = ServerSent() if content_type == "text/event-stream" else Frames()
        self._hides = hides and self._cutter is not None and encoding in {None, "identity"}
        self._failed = failed
        self._parts: list[bytes] = []
        self._dull: list[bytes] = []
        self._dull_bytes = 0

    @property
    def streams(self) -> bool:
        """Whether the answer comes as events."""
        return self._cutter is not None

    @property
    def hides(self) -> bool:
        """Whether the client may see less than comes: then no length is known before."""
        return self._hides

    def feed(self, part: bytes) -> tuple[bytes, bool]:
        """What of ``part`` the client sees now, and whether it brought words of the model."""
        if self.unread is not None:
            return part, False
        try:
            text = self._decoder.feed(part)
        except UnreadableError as error:
            self.unread = str(error)
            return part, False
        self.read_bytes += len(text)
        if self._cutter is None:
            if self.read_bytes > MOST_BODY_BYTES:
                self._parts.clear()
                self.unread = f"a body of more than {MOST_BODY_BYTES:,} bytes"
            else:
                self._parts.append(text)
            return part, False
        if self.answer.written and not self._cutter.held and dull(self.answer.shape, text):
            self._put_aside(text)
            return (text.replace(NO_USAGE, b"") if self._hides else part), False
        words = False
        visible: list[bytes] = []
        for piece in self._cutter.feed(text):
            if piece.data is not None:
                words = self.answer.take(piece.data) or words
            elif piece.mark:
                self.answer.ended = True
            if self._hides:
                visible.append(shown(piece))
        return (b"".join(visible) if self._hides else part), words

    def _put_aside(self, text: bytes) -> None:
        """Words that count only should the stream break off; a little of them is kept, the rest is counted at once."""
        self._dull.append(text)
        self._dull_bytes += len(text)
        if self._dull_bytes > _MOST_DULL_BYTES:
            self.count_words()

    def count_words(self) -> None:
        """``answer.written`` counts every word that passed."""
        cutter = ServerSent()
        for piece in cutter.feed(b"".join(self._dull)):
            self.answer.take(piece.data)
        self._dull.clear()
        self._dull_bytes = 0

    def end(self) -> bytes:
        """The answer is whole; what was still held back for the client."""
        if self._cutter is not None:
            held = self._cutter.held
            if held and not self._hides:
                # Some end their last event without the empty line.
                for piece in self._cutter.feed(b"\n\n"):
                    if piece.data is not None:
                        self.answer.take(piece.data)
            return held if self._hides else b""
        if self.unread is None:
            try:
                self.data = orjson.loads(b"".join(self._parts))
            except orjson.JSONDecodeError:
                self.unread = "the body is no JSON"
            else:
                if not self._failed:
                    self._whole(self.data)
        return b""

    def _whole(self, data: Any) -> None:
        if isinstance(data, list) and self.answer.shape == "gemini":
            # A stream nobody asked to come as events: an array of what would have been them.
            for piece in data:
                self.answer.take(piece)
            self.answer.whole = True
        else:
            self.answer.take_whole(data)

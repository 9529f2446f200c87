"""One call of a model: the only span that is billed."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from time import perf_counter_ns
from typing import Any, Self, TypeVar

from sidecar.tracing.responses import Seen
from sidecar.tracing.spans import Recorder, Span

Chunk = TypeVar("Chunk")


class ModelCall(Span):
    """A call of ``model``. Tell it the ``response``, the chunks of a stream, or the ``usage`` in numbers."""

    __slots__ = ("counts", "first_ns", "model", "operation", "provider", "seen", "streamed")
    billable = True
    vital = True

    def __init__(
        self, recorder: Recorder, provider: str, model: str, operation: str = "chat", *, traceparent: str | None = None
    ) -> None:
        super().__init__(recorder, model, traceparent=traceparent)
        self.provider = provider
        self.model = model
        self.operation = operation
        self.counts: dict[str, Any] | None = None
        self.seen: Seen | None = None
        self.first_ns = 0
        self.streamed = False

    def again(self) -> Self:
        return type(self)(self._recorder, self.provider, self.model, self.operation, traceparent=self._caller)

    def usage(
        self,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cache_read_tokens: int | None = None,
        cache_write_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        **more: int | None,
    ) -> None:
        """What was used: input includes cache reads and writes, output includes reasoning. ``more`` are the contract's finer counts.

        What is told here counts, whatever a response says. ``estimated=True`` marks counts that the provider did not report.
        """
        self.counts = {
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cache_read_tokens": cache_read_tokens,
            "cache_write_tokens": cache_write_tokens,
            "reasoning_tokens": reasoning_tokens,
            **more,
        }

    def response(self, value: Any) -> None:
        """The provider's answer, OpenAI-, Anthropic- or Gemini-shaped, object or dictionary: usage, id, model, why it ended."""
        try:
            seen = self.seen or Seen()
            if seen.read(value):
                self.seen = seen
        except Exception as error:  # noqa: BLE001 - a foreign object; the agent got its answer
            self._recorder.trouble("response", error)

    def describe(
        self, *, response_id: str | None = None, finish_reason: str | None = None, service_tier: str | None = None
    ) -> None:
        """What a response would have told, where there is none to give."""
        seen = self.seen = self.seen or Seen()
        seen.response_id = response_id or seen.response_id
        seen.finish_reason = finish_reason or seen.finish_reason
        seen.service_tier = service_tier or seen.service_tier

    def chunk(self, value: Any) -> None:
        """One chunk of a streamed answer; the first one's time is kept."""
        if not self.first_ns:
            self.first_ns = perf_counter_ns()
            self.streamed = True
        self.response(value)

    def stream(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """``chunks`` as they come, each looked at in passing."""
        for each in chunks:
            self.chunk(each)
            yield each

    async def astream(self, chunks: AsyncIterable[Chunk]) -> AsyncIterator[Chunk]:
        """The same of an async stream."""
        async for each in chunks:
            self.chunk(each)
            yield each

    def messages(self, value: Any) -> None:
        """What the model was asked; content."""
        self.content("gen_ai.input.messages", value)

    def instructions(self, value: Any) -> None:
        """The system's instructions; content."""
        self.content("gen_ai.system_instructions", value)

    def completion(self, value: Any) -> None:
        """What it answered; content."""
        self.content("gen_ai.output.messages", value)

    def called(self, arguments: Any) -> None:
        self.messages(arguments)

    def returned(self, result: Any) -> None:
        """A decorated function returned the response, or what was made of it."""
        self.response(result)

    def gave(self, item: Any) -> None:
        """A decorated generator passed a chunk on."""
        self.chunk(item)

"""To a webhook of one's own: each batch one POST of ``{"events": [...]}``."""

from collections.abc import Mapping, Sequence

from sidecar.tracing.events import Made
from sidecar.tracing.exporters.exporter import Again, Delivered, Outcome, Refused
from sidecar.tracing.exporters.posting import Poster


class Webhook:
    """``url`` takes batches; one that was not answered comes again, with the same event ids. 2xx: taken; 408, 425, 429 and 5xx: later."""

    name = "webhook"

    def __init__(
        self, url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = 10.0, most_bytes: int = 900_000
    ) -> None:
        self._poster = Poster(url, headers, timeout_s=timeout_s)
        self.most_bytes = most_bytes

    def export(self, batch: Sequence[Made]) -> Outcome:
        body = b'{"events":[' + b",".join(made.line for made in batch) + b"]}"
        answer = self._poster.post(body, "application/json")
        if isinstance(answer, Again):
            return answer
        if answer.status < 300:
            return Delivered()
        return Refused(
            f"{self._poster.shown} answered HTTP {answer.status}: {answer.body[:200].decode('utf-8', 'replace')}", len(batch)
        )

    def close(self) -> None:
        self._poster.close()

    forked = close

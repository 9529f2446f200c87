"""What privacy costs, by kind of event: ``python -m benchmarks.privacy_cost``. CPU of one core, the best of several."""

import time
from collections.abc import Callable
from typing import Any, Final

import orjson

from benchmarks.workload import generate
from privacy.concern import concerns
from privacy.redaction import Tally, redact
from privacy.rules import STRICTEST, ready
from privacy.treatment import treat
from schemas.content import ContentPolicy
from schemas.shortcut import plainly

_EVENTS: Final = 2_000
_ROUNDS: Final = 7
_PROSE: Final = "The invoice of last week is still open, please look into it and write to me when it is settled. "


def _best(work: Callable[[], object], count: int) -> float:
    """Microseconds each."""
    took = []
    for _ in range(_ROUNDS):
        began = time.thread_time()
        work()
        took.append(time.thread_time() - began)
    return min(took) / count * 1e6


def measure() -> list[tuple[str, float]]:
    """What was measured, and microseconds an event."""
    plain = [orjson.dumps(plainly(made.data)) for made in generate(_EVENTS, 1)]
    redacted = ready(ContentPolicy(tenant_id="acme", mode="redacted"))

    def given(attributes: dict[str, Any], rules: Any = STRICTEST, events: int = 300) -> float:
        lines = [line.replace(b'"attributes":{}', b'"attributes":' + orjson.dumps(attributes)) for line in plain[:events]]
        return _best(lambda: [orjson.dumps(treat(orjson.loads(line), rules).event) for line in lines], events)

    def looked(attributes: dict[str, Any]) -> float:
        made = (line.replace(b'"attributes":{}', b'"attributes":' + orjson.dumps(attributes)) for line in plain)
        rows = [found for line in made if (found := plainly(line)) is not None]
        return _best(lambda: [concerns(row) for row in rows], len(rows))

    return [
        ("bytes to normal form, for comparison", _best(lambda: [plainly(line) for line in plain], _EVENTS)),
        ("an ordinary event without attributes: looked at", looked({})),
        ("with three plain attributes: looked at", looked({"region": "eu-central-1", "tier": "gold", "retries": 2})),
        ("with what instrumentations tell of a model call: looked at", looked({"service.name": "shop", "otel.scope.name": "openai_v2", "server.address": "api.example.com", "gen_ai.request.max_tokens": 1024, "gen_ai.request.temperature": 0.2})),
        ("with three plain attributes: treated, as a sidecar does with every event", given({"region": "eu-central-1", "tier": "gold", "retries": 2})),
        ("with a prompt of 5 kB, mode off", given({"gen_ai.input.messages": _PROSE * 50})),
        ("with a prompt of 5 kB without findings, mode redacted", given({"gen_ai.input.messages": _PROSE * 50}, redacted)),
        ("with a prompt of 5 kB and three findings, mode redacted", given({"gen_ai.input.messages": _PROSE * 50 + "jane@example.com, +49 30 2345678, 4111111111111111"}, redacted, 40)),
        ("a text of 5 kB with an address, alone", _best(lambda: [redact(_PROSE * 50 + "jane@example.com", STRICTEST, Tally()) for _ in range(40)], 40)),
    ]  # fmt: skip


def main() -> None:
    """Prints the table."""
    for what, microseconds in measure():
        print(f"{microseconds:9.2f} µs  {what}")


if __name__ == "__main__":
    main()

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.keys import ApiKey
from sidecar.gateway.rates import Allowed, Rates, Wait
from streams.kv import TypedBucket
from tests.sidecar_gateway.running import JSON, Gateway, put_key


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 300), st.floats(0, 5)), max_size=60), st.floats(1, 100))
def test_never_more_than_the_rate_and_what_was_saved_up(requests: list[tuple[int, float]], per_s: float) -> None:
    rates, now, taken, largest = Rates(per_s), 0.0, 0, 0
    for events, pause in requests:
        now += pause
        if isinstance(rates.take("t", events, now), Allowed):
            taken += events
            largest = max(largest, events)
        assert taken <= per_s * (now + 2) + largest + 1e-6


@settings(deadline=None)
@given(st.integers(1, 10_000), st.floats(0.1, 100))
def test_who_waits_as_long_as_he_is_told_is_let_in(events: int, per_s: float) -> None:
    rates = Rates(per_s)
    rates.take("t", 1, 0.0)
    answer = rates.take("t", events, 0.0)
    if isinstance(answer, Wait):
        assert answer.seconds > 0
        assert isinstance(rates.take("t", events, answer.seconds + 1e-6), Allowed)


async def test_every_span_of_an_otlp_request_counts_as_an_event_of_its_tenant(
    stopped_gateway: Gateway, key: str, keys: TypedBucket[ApiKey]
) -> None:
    other = await put_key(keys, "other", tenant="rival")
    await stopped_gateway.start(AGENTOPS_GATEWAY_EVENTS_PER_S="10")
    started = next(orjson.loads(line) for line in stopped_gateway.log.read_text().splitlines() if "gateway.started" in line)
    spans = [
        {"traceId": f"{number:032x}", "spanId": f"{number:016x}", "parentSpanId": "b7ad6b7169203331", "name": "step"}
        for number in range(1, 41)
    ]
    body = orjson.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})

    async def post(with_key: str) -> tuple[int, str | None]:
        url = f"http://127.0.0.1:{started['otlp_port']}/v1/traces"
        async with stopped_gateway.http.post(url, data=body, headers=JSON | {"x-api-key": with_key}) as response:
            return response.status, response.headers.get("Retry-After")

    assert [(await post(key))[0] for _ in range(2)] == [200, 429]
    assert int((await post(key))[1] or 0) >= 1
    assert (await post(other))[0] == 200

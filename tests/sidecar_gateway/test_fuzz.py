"""Whatever is sent to a gateway, it answers as it says it does, and goes on."""

import asyncio
import gzip
import json
import random
from html.parser import HTMLParser
from typing import Any

import aiohttp
import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.reading import Rejected
from sidecar.submissions import Speaker, judge, parts
from tests.sidecar_gateway.running import Gateway, event, lines

ANSWERS = {202, 400, 401, 403, 408, 413, 415, 422, 429, 503}
VALID = event()
SECTIONS = st.sampled_from([*VALID, "log", "metrics", "health", "step", "attributes", "resource_usage", "error"])
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from([*VALID.values()]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(st.dictionaries(SECTIONS, ODD, max_size=3), max_size=5), st.booleans(), st.sampled_from(["object", "array", "lines"])
)
def test_every_part_of_a_body_is_accepted_or_refused_and_none_is_forgotten(
    changes: list[dict[str, Any]], cut: bool, form: str
) -> None:
    texts = [json.dumps(VALID | change) for change in changes]
    body = {"object": "".join(texts[:1]), "array": f"[{','.join(texts)}]", "lines": "\n".join(texts)}[form].encode()
    if cut:
        body = body[: len(body) * 2 // 3]
    found = judge(parts(body, ndjson=form == "lines"), Speaker("acme"))
    indexes = sorted([each.index for each in found.accepted] + [each.index for each in found.rejected])
    assert indexes == list(range(len(indexes)))
    assert indexes
    assert all(each.errors for each in found.rejected)
    for record in found.records:
        assert b"\n" not in record.line
        orjson.loads(record.line)


def test_what_can_be_read_but_not_written_is_refused() -> None:
    deep = b'[{"event_version": "v1", "attributes": ' + b"[" * 600 + b"]" * 600 + b"}]"
    (found,) = parts(deep, ndjson=False)
    assert isinstance(found, Rejected)
    assert judge([found], Speaker("acme")).rejected[0].errors[0].msg == "nested too deeply"


async def test_a_gateway_answers_whatever_comes_as_it_says(gateway: Gateway, key: str) -> None:
    """Bodies, types, encodings and headers mixed by chance; the seed is told where one is answered wrong."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)

    def body() -> bytes:
        made = chance.choice([
            b"", b"{}", b"[]", b"null", lines(event(), event()), orjson.dumps([event(), 1, None]), b"\xff\xfe\x00", b"[" * 5000,
            chance.randbytes(chance.randrange(2000)), b'{"agent_id": "a", "status": "HEALTHY"}', gzip.compress(orjson.dumps(event())),
        ])  # fmt: skip
        if made and chance.random() < 0.5:
            at = chance.randrange(len(made))
            made = made[:at] + bytes([chance.randrange(256)]) + made[at + 1 :]
        return made

    async def one() -> tuple[int, str]:
        headers = {
            "Content-Type": chance.choice([
                "application/json", "application/x-ndjson", "application/json; charset=utf-8", "text/plain", "application/jsonl", ";;;", "a" * 300,
            ]),
            "X-Api-Key": chance.choice([key, key, key, "", "x", key + "y"]),
        }  # fmt: skip
        if chance.random() < 0.3:
            headers["Content-Encoding"] = chance.choice(["gzip", "identity", "br", "GZIP"])
        if chance.random() < 0.1:
            headers["Authorization"] = chance.choice(["Bearer", "Basic x", f"bearer {key}", "Bearer \xe9"])
        path = chance.choice(["/v1/events", "/api/v1/telemetry"])
        async with gateway.http.post(gateway.url + path, data=body(), headers=headers) as response:
            return response.status, await response.text()

    for _ in range(25):
        for status, text in await asyncio.gather(*(one() for _ in range(10))):
            assert status in ANSWERS, (seed, status, text)
            told = json.loads(text)
            assert "results" in told or told["error"]["message"], (seed, text)
    assert await gateway.answers("/readyz")
    assert "Traceback" not in gateway.log.read_text(), seed


async def test_bytes_that_are_no_http_cost_only_their_connection(gateway: Gateway) -> None:
    chance = random.Random(7)
    for _ in range(40):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        start = chance.choice(
            [b"", b"GET ", b"POST /v1/events HTTP/1.1\r\n", b"POST /v1/events HTTP/1.1\r\nContent-Length: -1\r\n\r\n"]
        )
        writer.write(start + chance.randbytes(chance.randrange(1, 500)) + b"\r\n\r\n")
        try:
            writer.write_eof()
            async with asyncio.timeout(30):
                await reader.read(100)
        except (ConnectionError, OSError):
            pass
        writer.close()
    assert await gateway.answers("/readyz")


class _Loads(HTMLParser):
    """What a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "link", "img", "iframe"}:
            self.found.append(tag)


async def test_the_page_needs_nothing_from_elsewhere_and_names_every_door_and_status(
    gateway: Gateway, http: aiohttp.ClientSession
) -> None:
    async with http.get(f"{gateway.url}/docs") as response:
        page = await response.text()
    loads = _Loads()
    loads.feed(page)
    assert loads.found == []
    async with http.get(f"{gateway.url}/openapi.json") as response:
        told = await response.json()
    for path in ("/v1/events", "/api/v1/telemetry"):
        assert path in page
        assert {int(status) for status in told["paths"][path]["post"]["responses"]} == ANSWERS
    text = json.dumps(told)
    names = told["components"]["schemas"]
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in names, reference


def test_what_is_logged_of_a_rejection_names_no_field_the_sender_invented() -> None:
    """Both doors log the same: a name may hold what must not stand in a log."""
    invented = json.dumps(event() | {"jane@example.com": 1}).encode()
    (rejected,) = judge(parts(invented, ndjson=False), Speaker("acme")).rejected
    assert "jane@example.com" in rejected.errors[0].loc
    assert rejected.logged()["reason"] == rejected.reason
    assert "jane" not in rejected.logged()["loc"]

"""``python otlp.py EVENTS.ndjson URL``: sends events as spans over OTLP/HTTP, as an OpenTelemetry SDK's exporter would.

Run by the interpreter the peers are installed in, so it knows nothing of ours. Prints a line when everything is made, one
when the first request leaves, and one when the last is accepted, each with the moment it did.
"""

import argparse
import hashlib
import http.client
import json
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from queue import Empty, Queue
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

KINDS = {"model_call": "LLM", "tool_call": "TOOL", "step": "CHAIN", "run": "AGENT", "heartbeat": "CHAIN"}
AGAIN = (429, 503)


def attributes(event: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a span says of ``event``: OpenTelemetry's names, and those OpenInference gives the same."""
    kind = event["event_type"].split(".")[0].removeprefix("agent")
    yield "openinference.span.kind", KINDS.get(kind or "heartbeat", "CHAIN")
    yield "tenant.id", event["tenant"]["tenant_id"]
    yield "session.id", event["run"]["run_id"]
    yield "gen_ai.agent.id", event["run"]["agent_id"]
    yield "workflow.id", event["run"]["workflow_id"]
    if "model_call" in event:
        call, usage = event["model_call"], event["resource_usage"]
        yield "gen_ai.operation.name", call["operation"]
        yield "gen_ai.provider.name", call["provider"]
        yield "gen_ai.request.model", call["model"]
        yield "llm.model_name", call["model"]
        yield "gen_ai.response.id", call["response_id"]
        yield "gen_ai.response.finish_reasons", call["finish_reason"]
        for name, given in (
            ("prompt", usage["input_tokens"]),
            ("completion", usage["output_tokens"]),
            ("total", usage["total_tokens"]),
        ):
            yield f"llm.token_count.{name}", given
        yield "gen_ai.usage.input_tokens", usage["input_tokens"]
        yield "gen_ai.usage.output_tokens", usage["output_tokens"]
        yield "gen_ai.usage.cache_read_input_tokens", usage["cache_read_tokens"]
    elif "tool_call" in event:
        yield "gen_ai.tool.name", event["tool_call"]["name"]
        yield "tool.name", event["tool_call"]["name"]
    elif "step" in event:
        yield "step.type", event["step"]["step_type"]
    elif "metrics" in event:
        for name, value in event["metrics"].items():
            yield f"metrics.{name}", value


def fill(span: Span, event: dict[str, Any], trace: bytes, own: bytes, parent: bytes) -> None:
    """Makes ``span`` say what ``event`` says."""
    span.trace_id, span.span_id, span.name = trace, own, event["event_type"]
    if parent != own:
        span.parent_span_id = parent
    end = int(datetime.fromisoformat(event["occurred_at"]).timestamp() * 1e9)
    timed = event.get("model_call") or event.get("tool_call") or event.get("step") or {}
    span.start_time_unix_nano, span.end_time_unix_nano = end - int(timed.get("latency_ms", 0) * 1e6), end
    span.kind = Span.SPAN_KIND_INTERNAL
    span.status.code = span.status.STATUS_CODE_OK
    for name, value in attributes(event):
        found = span.attributes.add()
        found.key = name
        if isinstance(value, int):
            found.value.int_value = value
        elif isinstance(value, float):
            found.value.double_value = value
        else:
            found.value.string_value = value


def requests(path: Path, spans: int) -> Iterator[bytes]:
    """The events of a file as requests of at most ``spans`` spans; a run is a trace, its first event the root."""
    roots: dict[str, bytes] = {}
    request, held = ExportTraceServiceRequest(), 0
    for line in path.read_bytes().splitlines():
        event = json.loads(line)
        if not held:
            request = ExportTraceServiceRequest()
            scope = request.resource_spans.add()
            name = scope.resource.attributes.add()
            name.key, name.value.string_value = "service.name", "benchmark"
            several = scope.scope_spans.add()
        run = event["run"]["run_id"]
        own = bytes.fromhex(event["trace"]["span_id"])
        fill(
            several.spans.add(), event, hashlib.md5(run.encode(), usedforsecurity=False).digest(), own, roots.setdefault(run, own)
        )
        held += 1
        if held >= spans:
            yield request.SerializeToString()
            held = 0
    if held:
        yield request.SerializeToString()


def say(**told: Any) -> None:
    """One line, with the time."""
    print(json.dumps(told | {"at": time.monotonic()}), flush=True)


def send(waiting: "Queue[bytes]", url: str, headers: dict[str, str], refused: list[str]) -> None:
    """One exporter: a request at a time over one connection, again later where the server asks for it."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=300)
    while True:
        try:
            body = waiting.get_nowait()
        except Empty:
            return
        while True:
            connection.request("POST", address.path, body, headers)
            answer = connection.getresponse()
            told = answer.read()
            if answer.status not in AGAIN:
                break
            time.sleep(0.2)
        if answer.status >= http.client.BAD_REQUEST:
            refused.append(f"{answer.status} {told[:200]!r}")
            return


def main() -> int:
    """Makes everything, then sends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", type=Path)
    parser.add_argument("url")
    parser.add_argument("--spans", type=int, default=512, help="in a request, at most: the SDKs' own batch")
    parser.add_argument("--exporters", type=int, default=1)
    parser.add_argument("--header", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    headers = {"Content-Type": "application/x-protobuf"} | dict(header.split("=", 1) for header in given.header)
    waiting: Queue[bytes] = Queue()
    for request in requests(given.events, given.spans):
        waiting.put(request)
    say(what="made", requests=waiting.qsize())
    refused: list[str] = []
    threads = [threading.Thread(target=send, args=(waiting, given.url, headers, refused)) for _ in range(given.exporters)]
    say(what="began")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say(what="accepted", refused=refused)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())

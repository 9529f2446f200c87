"""What every one of these agents does: sends its spans by OTLP, to wherever the environment says.

These scripts run in an environment without AgentOps. For each scenario one line is printed: what happened, and in which trace.
"""

import asyncio
import inspect
import json
import os
import sys
import time

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

QUESTION = "What is the weather in Paris?"
BREAKING = "Please break off"
REFUSED = "Please be overloaded"

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)

traces = []


def weather(city):
    """What the tool answers; notes in which trace it was asked."""
    traces.append(f"{trace.get_current_span().get_span_context().trace_id:032x}")
    return f"21 degrees and sunny in {city}"


def perform(scenarios, names):
    """Runs the scenarios one after the other."""
    loop = asyncio.new_event_loop()
    for name in names:
        traces.clear()
        began, error = time.time_ns(), None
        try:
            found = scenarios[name]()
            if inspect.iscoroutine(found):
                found = loop.run_until_complete(found)
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is the answer
            found, error = None, f"{type(failure).__name__}: {failure}"
        print(json.dumps({
            "scenario": name, "began": began, "ended": time.time_ns(), "said": found, "error": error, "traces": traces,
        }), flush=True)  # fmt: skip
        time.sleep(0.01)
    sys.stdout.flush()
    loop.close()
    provider.shutdown()

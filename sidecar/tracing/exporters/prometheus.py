"""As Prometheus metrics: calls, failures, durations, tokens, by name and model. Counts everything, what sampling leaves out as well."""

from collections.abc import Sequence
from typing import Any

from sidecar.tracing.events import Made
from sidecar.tracing.exporters.exporter import Delivered, Outcome
from sidecar.tracing.metrics import MetricsRegistry


class Prometheus:
    """Keeps a registry, read by ``exposition()`` or, with ``port``, at ``http://127.0.0.1:<port>/metrics``."""

    name = "prometheus"
    most_bytes = 4_000_000
    everything = True

    def __init__(self, registry: MetricsRegistry | None = None, *, port: int | None = None, host: str = "127.0.0.1") -> None:
        self.registry = registry or MetricsRegistry()
        self._address = None if port is None else (host, port)
        self._server: Any = None
        define = self.registry
        self._runs = define.counter("agent_runs", "Runs that ended.", ("workflow", "status"))
        self._run_ms = define.histogram("agent_run_duration_ms", "How long runs took.", ("workflow",))
        self._tools = define.counter("agent_tool_calls", "Tool calls.", ("tool", "outcome"))
        self._tool_ms = define.histogram("agent_tool_call_duration_ms", "How long tool calls took.", ("tool",))
        self._calls = define.counter("agent_model_calls", "Model calls.", ("provider", "model", "outcome"))
        self._call_ms = define.histogram("agent_model_call_duration_ms", "How long model calls took.", ("provider", "model"))
        self._tokens = define.counter("agent_model_tokens", "Tokens.", ("provider", "model", "direction"))
        if self._address is not None:
            self._serve()

    def _serve(self) -> None:
        from prometheus_client import start_http_server  # noqa: PLC0415 - for those who are scraped

        assert self._address is not None
        self._server, _ = start_http_server(self._address[1], self._address[0], registry=self.registry.collected())

    @property
    def port(self) -> int | None:
        """Where it is scraped."""
        return None if self._server is None else int(self._server.server_port)

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return self.registry.exposition()

    def export(self, batch: Sequence[Made]) -> Outcome:
        for made in batch:
            self._count(made.event)
        return Delivered()

    def _count(self, event: dict[str, Any]) -> None:
        outcome = event["event_type"].rpartition(".")[2]
        if (call := event.get("model_call")) is not None:
            whose = {"provider": call["provider"], "model": call["model"]}
            self._calls.inc(outcome=outcome, **whose)
            self._call_ms.observe(call["latency_ms"], **whose)
            for direction in ("input", "output"):
                self._tokens.inc(event.get("resource_usage", {}).get(f"{direction}_tokens", 0), direction=direction, **whose)
        elif (tool := event.get("tool_call")) is not None:
            self._tools.inc(tool=tool["name"], outcome=outcome)
            self._tool_ms.observe(tool["latency_ms"], tool=tool["name"])
        elif event["event_type"] in {"run.completed", "run.failed"}:
            workflow = event["run"].get("workflow_id", "")
            self._runs.inc(workflow=workflow, status=event["run"]["status"])
            self._run_ms.observe(event["run"]["duration_ms"], workflow=workflow)

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def forked(self) -> None:
        # The port is the parent's.
        self._server = None

"""Metrics and logs, and the same requests in JSON."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest, ExportMetricsServiceResponse

from tests.sidecar_otlp.spans import BEGAN, TRACE, key_values, request, span
from tests.sidecar_otlp.test_fuzzing import as_json
from tests.sidecar_otlp.test_http import opened

JSON = "application/json"


def metrics() -> ExportMetricsServiceRequest:
    made = ExportMetricsServiceRequest()
    scope = made.resource_metrics.add().scope_metrics.add()
    gauge = scope.metrics.add(name="queue.size", unit="{item}").gauge.data_points.add(as_int=7, time_unix_nano=BEGAN)
    gauge.attributes.extend(key_values({"queue": "orders", "a": 1}))
    scope.metrics.add(name="requests").sum.data_points.add(as_double=float("nan"), time_unix_nano=BEGAN)
    spread = scope.metrics.add(name="latency", unit="s").histogram.data_points.add(count=4, sum=2.5, min=0.1, max=1.5)
    spread.time_unix_nano = BEGAN
    return made


def logs() -> ExportLogsServiceRequest:
    made = ExportLogsServiceRequest()
    scope = made.resource_logs.add().scope_logs.add()
    scope.scope.name = "shop.orders"
    line = scope.log_records.add(
        time_unix_nano=BEGAN, severity_number=17, severity_text="ERROR", trace_id=TRACE, span_id=b"spanspan"
    )
    line.body.string_value = "no such order"
    line.attributes.extend(key_values({"order": 12, "exception.type": "KeyError", "exception.message": "12"}))
    message = scope.log_records.add(time_unix_nano=BEGAN, event_name="gen_ai.user.message")
    message.body.kvlist_value.values.extend(key_values({"content": "my card is 4111"}))
    judged = scope.log_records.add(time_unix_nano=BEGAN)
    judged.attributes.extend(
        key_values(
            {"event.name": "gen_ai.evaluation.result", "gen_ai.evaluation.name": "tone", "gen_ai.evaluation.score.value": 0.25}
        )
    )
    return made


async def test_metrics_become_samples_and_what_is_no_number_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as here:
        answer = await here.post(metrics().SerializeToString(), path="/v1/metrics")
        told = ExportMetricsServiceResponse.FromString(answer.body).partial_success
        assert (answer.status, told.rejected_data_points) == (200, 1)
        assert "requests must be a finite number" in told.error_message
        (event,) = here.spooled()
    assert (event["event_type"], event["run"]) == ("metric.sampled", {"agent_id": "a1"})
    assert event["metrics"]["samples"] == [
        {"name": "queue.size{a=1,queue=orders}", "value": 7.0, "unit": "{item}"},
        {"name": "latency_count", "value": 4.0, "unit": "s"}, {"name": "latency_sum", "value": 2.5, "unit": "s"},
        {"name": "latency_min", "value": 0.1, "unit": "s"}, {"name": "latency_max", "value": 1.5, "unit": "s"},
    ]  # fmt: skip


async def test_labels_of_metrics_hold_no_secret_and_no_content_and_are_never_cut_in_two(tmp_path: Path) -> None:
    key = "sk-" + "proj-" + "Ab3dEf6hIj9lMn2pQr5t"
    made = ExportMetricsServiceRequest()
    points = made.resource_metrics.add().scope_metrics.add().metrics.add(name="calls").gauge.data_points
    for labels in (
        {"api.key": "abc", "gen_ai.prompt": "draft a letter", "user": "jane.doe@example.com", "via": key},
        {"a": "x" * 225, "via": key, "z": "1"},
    ):
        points.add(as_int=1, time_unix_nano=BEGAN).attributes.extend(key_values(labels))
    async with opened(tmp_path) as here:
        assert (await here.post(made.SerializeToString(), path="/v1/metrics")).status == 200
        (event,) = here.spooled()
    names = [sample["name"] for sample in event["metrics"]["samples"]]
    assert names == ["calls{api.key=[KEY],user=jane.doe@example.com,via=[KEY]}", f"calls{{a={'x' * 225},…}}"]
    assert event["attributes"]["agentops.redacted"] == 2


async def test_what_a_sender_wrote_is_told_to_the_sender_and_to_no_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, name = "sk-" + "proj-" + "Ab3dEf6hIj9lMn2pQr5t", "calls of jane.doe@example.com"
    made = ExportMetricsServiceRequest()
    points = made.resource_metrics.add().scope_metrics.add().metrics
    points.add(name=name).sum.data_points.add(as_double=float("nan"))
    async with opened(tmp_path) as here:
        answer = await here.post(made.SerializeToString(), path="/v1/metrics")
        assert name in ExportMetricsServiceResponse.FromString(answer.body).partial_success.error_message
        assert (await here.post(b"x", Content_Encoding=key)).status == 400
    told = capsys.readouterr()
    logged = told.out + told.err
    assert "otlp.rejected" in logged
    assert "$.resource_metrics[0].scope_metrics[0].points[0]" in logged
    assert "otlp.unreadable" in logged
    assert key not in logged
    assert "jane.doe" not in logged


async def test_logs_keep_level_logger_and_trace_and_content_stands_where_it_may(tmp_path: Path) -> None:
    async with opened(tmp_path) as here:
        assert (await here.post(logs().SerializeToString(), path="/v1/logs")).status == 200
        line, message, judged = here.spooled()
    assert line["log"] == {"level": "error", "message": "no such order", "logger": "shop.orders"}
    assert line["trace"] == {"trace_id": TRACE.hex(), "span_id": b"spanspan".hex()}
    assert (line["run"]["run_id"], line["error"]["type"], line["attributes"]["order"]) == (TRACE.hex(), "KeyError", 12)
    assert message["log"]["message"] == "gen_ai.user.message"
    assert message["attributes"]["gen_ai.input.messages"] == [{"content": "my card is 4111"}]
    assert (judged["event_type"], judged["evaluation"]["evaluator"], judged["evaluation"]["score"]) == (
        "evaluation.completed",
        "tone",
        0.25,
    )


async def test_json_is_answered_in_json(tmp_path: Path) -> None:
    bad: Any = span()
    bad.trace_id = b"short"
    async with opened(tmp_path) as here:
        for path, body in (("/v1/traces", request(span())), ("/v1/logs", logs())):
            answer = await here.post(as_json(body), f"{JSON}; charset=utf-8", path=path)
            assert (answer.status, answer.headers["Content-Type"].split(";")[0], answer.body) == (200, JSON, b"{}")
        partial = orjson.loads((await here.post(as_json(request(bad)), JSON)).body)["partialSuccess"]
        assert partial["rejectedSpans"] == "1"
        assert "must be 16 bytes" in partial["errorMessage"]
        partial = orjson.loads((await here.post(as_json(metrics()), JSON, path="/v1/metrics")).body)["partialSuccess"]
        assert partial["rejectedDataPoints"] == "1"


async def test_json_that_is_none_of_it_is_told_by_place(tmp_path: Path) -> None:
    cases = {
        b"{": "no JSON", b"[]": "$: must be an object (is list)", b'{"resourceSpans": 7}': "$.resourceSpans: must be an array (is int)",
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name": 7}]}]}]}': "$.resourceSpans[0].scopeSpans[0].spans[0].name: must be a text (is int)",
    }  # fmt: skip
    async with opened(tmp_path) as here:
        for body, said in cases.items():
            answer = await here.post(body, JSON)
            told = orjson.loads(answer.body)
            assert (answer.status, told["code"]) == (400, 3)
            assert said in told["message"]
        assert here.spooled() == []

"""A request that is sent again, because it was not answered, becomes the same events: nothing is counted twice."""

from collections.abc import Sequence
from pathlib import Path

import aiohttp
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from sidecar.frames import Record
from sidecar.intake import Intake
from sidecar.otlp.doors import OtlpDoors
from sidecar.otlp.wrapping import Traces
from sidecar.spool import Full, Stored
from tests.sidecar.test_proxy import listening
from tests.sidecar_otlp.spans import chat, request
from tests.sidecar_otlp.test_http import of_a1


class Forgetful(Intake):
    """Keeps what it is given, and says of the first of each that it did not."""

    def __init__(self) -> None:
        self.kept: list[Record] = []
        self.times = 0

    async def take(self, tenant: str, agent: str, records: Sequence[Record]) -> Stored | Full:
        self.kept += records
        self.times += 1
        return Full("no room") if self.times % 2 else Stored(len(records))


async def test_what_has_no_moment_of_its_own_is_the_same_when_it_is_sent_again(tmp_path: Path) -> None:
    logs, metrics = ExportLogsServiceRequest(), ExportMetricsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "no moment"
    metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="depth").gauge.data_points.add(as_int=3)
    call = chat(b"parent00")
    call.start_time_unix_nano = call.end_time_unix_nano = 0
    intake = Forgetful()
    headers = {"Content-Type": "application/x-protobuf"}
    async with listening(OtlpDoors(intake, of_a1).application()) as url, aiohttp.ClientSession() as http:
        for path, made in (("logs", logs), ("metrics", metrics), ("traces", request(call))):
            intake.kept.clear()
            for status in (503, 200, 503, 200):
                async with http.post(f"{url}/v1/{path}", data=made.SerializeToString(), headers=headers) as response:
                    assert response.status == status
            half = len(intake.kept) // 2
            first, later = intake.kept[:half], intake.kept[half:]
            assert first[: half // 2] == first[half // 2 :], "sent again it is the same, byte for byte"
            assert later[: half // 2] == later[half // 2 :]
            assert first != later, "what was answered and comes again is another"


@given(st.data())
def test_of_spans_that_are_judged_again_the_same_are_billed(data: st.DataObject) -> None:
    """Whatever tree they make, however they are cut into requests, and whether each request or all of them come again."""
    count = data.draw(st.integers(2, 7))
    parents = {str(number): "" if not number else str(data.draw(st.integers(0, number - 1))) for number in range(count)}
    calling = data.draw(st.sets(st.sampled_from(sorted(parents))))
    order = data.draw(st.permutations(sorted(parents)))
    size = data.draw(st.integers(1, 3))
    cut = [order[begin : begin + size] for begin in range(0, count, size)]
    sent = cut + cut if data.draw(st.booleans()) else [batch for batch in cut for _ in range(2)]
    traces, first = Traces(), dict[str, bool]()
    for batch in sent:
        told = traces.judge("t", {span: parents[span] for span in batch}, [span for span in batch if span in calling], batch[0])
        for span in calling.intersection(batch):
            billed = span not in told.wrappers and span not in told.inner
            assert first.setdefault(span, billed) == billed

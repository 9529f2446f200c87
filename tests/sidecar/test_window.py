"""The last ten seconds of requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.window import Window


def test_an_empty_window_claims_no_latency() -> None:
    traffic = Window().traffic(100.0)
    assert (traffic.requests, traffic.latency_ms, traffic.error_rate) == (0, None, None)


def test_requests_are_forgotten_after_ten_seconds() -> None:
    window = Window()
    window.add(100.0, 50.0, failed=True)
    window.add(105.0, 10.0, failed=False)
    assert window.traffic(109.0).error_rate == 0.5
    assert window.traffic(112.0).error_rate == 0.0
    assert window.traffic(120.0).requests == 0


def test_trouble_lasts_since_the_first_failed_request_of_the_window_began() -> None:
    window = Window()
    window.add(100.0, 50, failed=False)
    assert window.traffic(100.0).failing_for_s is None
    window.add(104.0, 500, failed=True)
    window.add(106.0, 10, failed=True)
    assert window.traffic(107.0).failing_for_s == pytest.approx(3.5)
    assert window.traffic(125.0, pending_since=[112.0]).failing_for_s == pytest.approx(13.0)


def test_a_request_nobody_answers_shows_while_it_lasts() -> None:
    traffic = Window().traffic(100.0, pending_since=[80.0, 99.0])
    assert (traffic.requests, traffic.errors, traffic.latency_ms) == (1, 1, 20_000.0)


@given(st.lists(st.floats(min_value=0.1, max_value=100_000), min_size=1, max_size=200))
def test_the_95th_percentile_is_at_most_five_percent_high(latencies: list[float]) -> None:
    window = Window()
    for latency in latencies:
        window.add(7.0, latency, failed=False)
    found = window.traffic(8.0).latency_p95_ms
    exact = sorted(latencies)[-(-len(latencies) * 95 // 100) - 1]
    assert found is not None
    assert exact * 0.999 <= found <= exact * 1.051

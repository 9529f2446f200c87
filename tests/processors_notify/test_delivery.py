"""What follows from one attempt to deliver."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.notify.delivery import (
    LONGEST_RETRY_AFTER,
    Away,
    Delivered,
    Done,
    Failed,
    GiveUp,
    Patience,
    Refused,
    TryAgain,
    decide,
    of_status,
    pause_after,
)
from processors.notify.settings import InvalidWebhookError, NotifySettings

PATIENCE = Patience()
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_and_stay_bounded(attempt: int, chance: float) -> None:
    pause = pause_after(attempt, PATIENCE, chance)
    assert timedelta(seconds=0.5) <= pause <= PATIENCE.longest_pause
    assert pause_after(attempt + 1, PATIENCE, chance) >= pause


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Delivered),
        (204, Delivered),
        (302, Refused),
        (400, Refused),
        (404, Refused),
        (408, Away),
        (429, Away),
        (500, Failed),
        (503, Away),
    ],
)
def test_answers_mean_what_they_say(status: int, expected: type) -> None:
    assert isinstance(of_status(status, None, NOW), expected)


def test_retry_after_is_honoured_as_seconds_and_as_a_date() -> None:
    assert of_status(429, "17", NOW) == Away("HTTP 429", timedelta(seconds=17))
    assert of_status(503, "Fri, 20 Nov 2026 12:01:00 GMT", NOW) == Away("HTTP 503", timedelta(minutes=1))
    assert of_status(503, "soon", NOW) == Away("HTTP 503", None)
    decision = decide(Away("HTTP 429", timedelta(seconds=17)), 1, timedelta(0), PATIENCE, 0.0)
    assert decision == TryAgain(timedelta(seconds=17), "HTTP 429")
    far = decide(Away("HTTP 429", timedelta(days=9)), 1, timedelta(0), PATIENCE, 0.0)
    assert far == TryAgain(LONGEST_RETRY_AFTER, "HTTP 429")


def test_an_endpoint_that_is_away_is_tried_for_a_day_and_one_that_fails_a_dozen_times() -> None:
    assert decide(Delivered(), 1, timedelta(0), PATIENCE, 0.5) == Done()
    assert isinstance(decide(Away("ConnectError"), 500, timedelta(hours=23), PATIENCE, 0.5), TryAgain)
    assert decide(Away("ConnectError"), 500, timedelta(hours=24), PATIENCE, 0.5) == GiveUp("ConnectError, for 24.0 h")
    assert isinstance(decide(Failed("HTTP 500"), 11, timedelta(0), PATIENCE, 0.5), TryAgain)
    assert decide(Failed("HTTP 500"), 12, timedelta(0), PATIENCE, 0.5) == GiveUp("HTTP 500, 12 times")
    assert decide(Refused("HTTP 404"), 1, timedelta(0), PATIENCE, 0.5) == GiveUp("HTTP 404")


def test_addresses_are_checked_and_never_shown() -> None:
    settings = NotifySettings.model_validate(
        {"webhook_urls": "https://hooks.test/T0/secret, http://x.test/b,https://hooks.test/T0/secret"}
    )
    assert settings.webhooks() == ("https://hooks.test/T0/secret", "http://x.test/b")
    assert "secret" not in repr(settings)
    with pytest.raises(InvalidWebhookError, match="address 1 of 1") as caught:
        NotifySettings.model_validate({"webhook_urls": "ftp://hooks.test/secret"}).webhooks()
    assert "secret" not in str(caught.value)

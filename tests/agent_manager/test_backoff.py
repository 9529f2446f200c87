from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from agent_manager.healing.backoff import Allowed, Exhausted, delay_s, next_restart, remembered
from schemas.state import HealingConfig

NOW = datetime(2026, 11, 1, tzinfo=UTC)
draws = st.floats(min_value=0, max_value=1, exclude_max=True)
policies = st.builds(
    HealingConfig,
    max_restarts=st.integers(1, 50),
    window_s=st.floats(1, 10_000),
    backoff_initial_s=st.floats(0, 100),
    backoff_max_s=st.floats(0.1, 1000),
    reset_after_s=st.floats(1, 10_000),
)
histories = st.lists(st.floats(0, 20_000), max_size=60).map(
    lambda ages: tuple(sorted(NOW - timedelta(seconds=age) for age in ages))
)


@given(st.integers(-5, 10_000), policies, draws)
def test_a_delay_lies_between_half_and_the_whole_of_its_step_and_never_beyond_the_longest(
    attempt: int, policy: HealingConfig, draw: float
) -> None:
    delay = delay_s(attempt, policy, draw)
    assert 0 <= delay <= policy.backoff_max_s
    if attempt <= 0:
        assert delay == 0
    else:
        whole = min(policy.backoff_max_s, policy.backoff_initial_s * 2.0 ** min(attempt - 1, 60))
        assert whole / 2 <= delay <= whole


@given(st.integers(0, 1000), policies, draws)
def test_with_the_same_draw_each_further_attempt_waits_at_least_as_long(attempt: int, policy: HealingConfig, draw: float) -> None:
    assert delay_s(attempt, policy, draw) <= delay_s(attempt + 1, policy, draw)


@given(st.integers(2, 30), policies)
def test_the_draw_spreads_restarts_so_that_agents_do_not_come_back_all_at_once(attempt: int, policy: HealingConfig) -> None:
    early, late = delay_s(attempt, policy, 0.0), delay_s(attempt, policy, 0.999)
    assert early < late or late == 0


@given(histories, policies, draws)
def test_it_gives_up_exactly_when_the_window_holds_the_most_restarts_allowed(
    history: tuple[datetime, ...], policy: HealingConfig, draw: float
) -> None:
    inside = sum(1 for at in history if NOW - at < timedelta(seconds=policy.window_s))
    result = next_restart(history, policy, draw, NOW)
    assert isinstance(result, Exhausted) == (inside >= policy.max_restarts)


@given(histories, policies, draws)
def test_a_restart_is_never_due_before_the_last_one(history: tuple[datetime, ...], policy: HealingConfig, draw: float) -> None:
    result = next_restart(history, policy, draw, NOW)
    if isinstance(result, Allowed) and history:
        assert result.due_at >= max(history)


@given(histories, policies)
def test_a_healthy_spell_of_the_stated_length_forgets_every_restart(history: tuple[datetime, ...], policy: HealingConfig) -> None:
    long_ago = NOW - timedelta(seconds=policy.reset_after_s + 0.001)
    assert remembered(history, policy, healthy_since=long_ago, now=NOW) == ()
    kept = remembered(history, policy, healthy_since=None, now=NOW)
    assert set(kept) <= set(history)
    assert all(at in kept for at in history if NOW - at < timedelta(seconds=policy.window_s))

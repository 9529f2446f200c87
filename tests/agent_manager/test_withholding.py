"""What speaks against a restart: people at work, others that are down, money that is spent, a fleet in trouble, a cut way."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent_manager.healing.backoff import delay_s, next_restart, remembered
from agent_manager.healing.maintenance import ends_at
from agent_manager.healing.roll import FleetLimits, Roll, Standing
from agent_manager.healing.verdict import Sick
from agent_manager.healing.wakefulness import Awake, Away, ClockJumped, Looked, compare
from agent_manager.healing.withholding import FleetUnwell, MoneySpent, NeedsOthers, UnderMaintenance, money_spent
from agent_manager.lifecycle.reconcile import Alive, Ended, Leave, Restart, decide, standing
from schemas.budgets import BudgetFlag
from schemas.maintenance import MaintenanceWindow
from schemas.state import HealingConfig
from tests.agent_manager.test_reconcile import NOW, circumstances
from tests.cli.fleet_values import record

LIMITS = FleetLimits(share=0.5, least=4, trial=timedelta(seconds=60))


def test_the_defaults_wait_0_1_2_4_up_to_300_seconds_and_forget_after_ten_healthy_minutes() -> None:
    policy = HealingConfig()
    assert [delay_s(attempt, policy, 1.0) for attempt in range(5)] == [0, 1, 2, 4, 8]
    assert delay_s(50, policy, 1.0) == 300
    restarts = (NOW - timedelta(minutes=9),)
    well_since = NOW - timedelta(minutes=10)
    assert remembered(restarts, policy, healthy_since=well_since, now=NOW) == ()
    assert remembered(restarts, policy, healthy_since=well_since + timedelta(seconds=1), now=NOW) == restarts


def test_restarts_noted_by_a_clock_that_was_ahead_are_not_waited_for() -> None:
    policy = HealingConfig()
    ahead = (NOW + timedelta(hours=1),)
    kept = remembered(ahead, policy, healthy_since=None, now=NOW)
    assert kept == (NOW,)
    later = NOW + timedelta(seconds=2)
    allowed = next_restart(kept, policy, 0.5, later)
    assert getattr(allowed, "due_at", None) is not None
    assert isinstance(decide("running", Ended("gone", NOW), circumstances(restarts=kept, policy=policy), later), Restart)


@pytest.mark.parametrize(
    ("weekly", "zone", "at", "until"),
    [
        ("tue 22:00-02:00", "UTC", "2026-12-01T23:00", "2026-12-02T02:00"),
        ("tue 22:00-02:00", "UTC", "2026-12-02T01:59", "2026-12-02T02:00"),
        ("tue 22:00-02:00", "UTC", "2026-12-02T02:00", None),
        ("tue 22:00-02:00", "UTC", "2026-12-02T22:30", None),
        ("daily 03:00-04:00", "Europe/Berlin", "2026-12-05T02:30", "2026-12-05T03:00"),
        ("daily 03:00-04:00", "Europe/Berlin", "2026-12-05T03:30", None),
        # The night in which it is set forward has no half past two: the window is as long as people say it is.
        ("sun 01:00-04:00", "Europe/Berlin", "2026-03-29T01:30", "2026-03-29T02:00"),
    ],
)
def test_a_weekly_window_is_read_on_its_own_clock(weekly: str, zone: str, at: str, until: str | None) -> None:
    window = MaintenanceWindow(weekly=weekly, timezone=zone)
    ends = None if until is None else datetime.fromisoformat(until).replace(tzinfo=UTC)
    assert ends_at([window], None, datetime.fromisoformat(at).replace(tzinfo=UTC)) == ends


def test_the_window_that_ends_last_counts_and_one_that_is_over_does_not() -> None:
    once = MaintenanceWindow(begins=NOW - timedelta(hours=1), until=NOW + timedelta(hours=1))
    assert ends_at([once], None, NOW) == once.until
    assert ends_at([once], NOW + timedelta(hours=2), NOW) == NOW + timedelta(hours=2)
    assert ends_at([once], NOW - timedelta(hours=2), NOW + timedelta(hours=1)) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"begins": NOW},
        {"begins": NOW, "until": NOW},
        {"weekly": "fri 25:00-26:00"},
        {"weekly": "someday 01:00-02:00"},
        {"weekly": "fri 01:00-02:00", "begins": NOW, "until": NOW + timedelta(hours=1)},
        {"weekly": "fri 01:00-02:00", "timezone": "Middle/Earth"},
    ],
)
def test_a_window_that_says_nothing_or_two_things_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MaintenanceWindow(**wrong)


def test_maintenance_holds_back_a_restart_and_is_looked_at_again_when_it_ends() -> None:
    until = NOW + timedelta(hours=1)
    decision = decide("running", Ended("gone", NOW), circumstances(withheld=UnderMaintenance(until)), NOW)
    assert isinstance(decision, Leave)
    assert decision.wake_at == until
    assert "maintenance until 2026-11-01T13:00:00+00:00" in decision.reason


def test_what_is_held_back_is_not_counted_as_a_crash_loop() -> None:
    worn_out = tuple(NOW - timedelta(seconds=age) for age in (30, 20, 10))
    decision = decide("running", Ended("gone", NOW), circumstances(restarts=worn_out, withheld=NeedsOthers(("db",))), NOW)
    assert isinstance(decision, Leave)
    assert decision.reason == "gone; not restarted: it depends on db, which is down"


def roll(**standings: Standing) -> Roll:
    found = Roll(LIMITS)
    for agent, standing_ in standings.items():
        found.stands(f"acme.{agent}", standing_)
    return found


def test_an_agent_waits_for_what_it_needs_and_not_for_what_nobody_here_knows() -> None:
    found = roll(database="trouble", search="well", idle="down")
    found.stands("acme.chat", "trouble", ("database", "search", "elsewhere", "idle"))
    assert found.down("acme.chat") == ("database", "idle")
    found.stands("acme.database", "well")
    found.gone("acme.idle")
    assert found.down("acme.chat") == ()


def test_two_that_need_each_other_do_not_wait_for_each_other_for_ever() -> None:
    found = Roll(LIMITS)
    found.stands("acme.a", "trouble", ("b",))
    found.stands("acme.b", "trouble", ("c",))
    found.stands("acme.c", "trouble", ("a",))
    assert [found.down(f"acme.{agent}") for agent in "abc"] == [(), (), ()]


def test_the_dependency_of_another_tenant_is_not_ours() -> None:
    found = Roll(LIMITS)
    found.stands("other.database", "trouble")
    found.stands("acme.chat", "trouble", ("database",))
    assert found.down("acme.chat") == ()


def test_with_half_the_fleet_in_trouble_the_cause_is_elsewhere_and_one_is_tried_a_minute() -> None:
    found = roll(a="trouble", b="well", c="well", d="well", e="down")
    assert found.unwell() is None
    found.stands("acme.b", "trouble")
    assert found.unwell() == (2, 4)
    assert not found.trial_due(NOW)
    assert not found.trial_due(NOW + timedelta(seconds=59))
    assert found.trial_due(NOW + timedelta(seconds=60))
    found.tried(NOW + timedelta(seconds=60))
    assert not found.trial_due(NOW + timedelta(seconds=61))
    found.held = True
    found.stands("acme.a", "well")
    assert (found.unwell(), found.held) == (None, False)


def test_a_small_fleet_is_healed_whatever_the_share() -> None:
    assert roll(a="trouble", b="trouble", c="trouble").unwell() is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["well", "trouble", "gone", "down", None]))))
def test_the_roll_counts_what_is_there_whatever_came_before(said: list[tuple[str, Standing | None]]) -> None:
    found, kept = Roll(LIMITS), dict[str, Standing]()
    for agent, stands in said:
        if stands is None:
            found.gone(f"acme.{agent}")
            kept.pop(agent, None)
        else:
            found.stands(f"acme.{agent}", stands)
            kept[agent] = stands
    wanted = [one for one in kept.values() if one != "down"]
    trouble = wanted.count("trouble")
    expected = (trouble, len(wanted)) if len(wanted) >= 4 and trouble * 2 >= len(wanted) else None
    assert found.unwell() == expected


def test_a_process_that_ends_once_is_its_own_affair_and_only_again_and_again_the_fleets() -> None:
    assert standing("running", Ended("killed", NOW), (), gave_up=False) == "gone"
    assert standing("running", Ended("killed", NOW), (NOW,), gave_up=False) == "trouble"
    assert standing("stopped", Ended("killed", NOW), (NOW,), gave_up=False) == "down"
    ill = Alive(NOW, confirmed=True, was_fit=True, verdict=Sick("80% of requests fail", NOW))
    assert standing("running", ill, (), gave_up=False) == "trouble"
    assert "2 of 4 agents are in trouble" in FleetUnwell(2, 4).reason


def flag(scope: Any, of: str | None, until: datetime, tenant: str = "demo") -> BudgetFlag:
    return BudgetFlag(
        budget_id=f"b-{scope}", tenant_id=tenant, scope=scope, of=of, limit_usd=Decimal(5), spent_usd=Decimal(6),
        period="2026-11", reason="spent", since=NOW, until=until,
    )  # fmt: skip


def test_no_restart_into_a_budget_that_refuses_the_agent() -> None:
    chat, hour = record("chat", project_id="shop"), NOW + timedelta(hours=1)
    assert money_spent([flag("agent", "chat", hour)], chat, NOW) == MoneySpent("b-agent", hour)
    assert money_spent([flag("project", "shop", hour)], chat, NOW) == MoneySpent("b-project", hour)
    longest = [flag("tenant", None, hour), flag("project", "shop", NOW + timedelta(hours=3))]
    assert money_spent(longest, chat, NOW) == MoneySpent("b-project", NOW + timedelta(hours=3))
    nobody = [
        flag("agent", "other", hour), flag("project", "other", hour), flag("workspace", "w", hour),
        flag("tenant", None, hour, tenant="other"), flag("tenant", None, NOW),
    ]  # fmt: skip
    assert money_spent(nobody, chat, NOW) is None


def test_a_stuck_agent_is_restarted_only_where_that_is_wanted() -> None:
    seen = Alive(
        NOW - timedelta(minutes=5), confirmed=True, was_fit=True, verdict=Sick("stuck: no step for 900 s", NOW, stuck=True)
    )
    left = decide("running", seen, circumstances(), NOW)
    assert isinstance(left, Leave)
    assert "restart_when_stuck is off" in left.reason
    assert isinstance(decide("running", seen, circumstances(policy=HealingConfig(restart_when_stuck=True)), NOW), Restart)


def test_patience_with_what_comes_up_begins_anew_after_we_were_away() -> None:
    since = NOW - timedelta(seconds=100)
    unsaid = Alive(since, confirmed=False, was_fit=False, verdict=Sick("probe fails", since))
    assert isinstance(decide("running", unsaid, circumstances(), NOW), Restart)
    assert isinstance(decide("running", unsaid, circumstances(awake_since=NOW - timedelta(seconds=1)), NOW), Leave)


def test_a_pause_and_a_jump_of_the_clock_are_told_apart() -> None:
    def after(wall_s: float, steady_s: float) -> object:
        return compare(Looked(NOW, 50.0), Looked(NOW + timedelta(seconds=wall_s), 50.0 + steady_s))

    assert after(0.25, 0.25) == Awake()
    assert after(30, 30) == Away(timedelta(seconds=30))
    assert after(3600.25, 0.25) == ClockJumped(timedelta(hours=1))
    assert after(-3599.75, 0.25) == ClockJumped(timedelta(hours=-1))

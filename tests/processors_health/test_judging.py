"""What one event, or one silence, says about one agent."""

from collections.abc import Sequence

from processors.health.judging import Changed, Limits, Noted, Outdated, absence, judge
from processors.health.state import AgentHealth, observation, unseen
from schemas.events import AcceptedEvent
from schemas.sections import Agent, Check, Metrics, Sample
from tests.processors_health.telling import at, beat, event, fault, started, stopped, traffic

LIMITS = Limits()


def told(events: Sequence[AcceptedEvent], limits: Limits = LIMITS) -> tuple[AgentHealth, list[str]]:
    """The state after ``events``, and every change on the way as ``health/status``."""
    agent, changes = unseen(events[0]), []
    for each in events:
        verdict = judge(agent, each, limits)
        if isinstance(verdict, Changed):
            changes.append(f"{verdict.agent.health}/{verdict.agent.status}")
        if not isinstance(verdict, Outdated):
            agent = verdict.agent
    return agent, changes


def test_a_clean_start_is_verified_by_its_first_good_heartbeat() -> None:
    agent, changes = told([started(at(0)), beat(at(1))])
    assert changes == ["RECOVERING/starting", "HEALTHY/running"]
    assert (agent.name, agent.version) == ("Chat", "1.2")


def test_an_agent_without_a_process_of_its_own_is_healthy_with_its_first_good_heartbeat() -> None:
    assert told([beat(at(0))])[1] == ["HEALTHY/running"]


def test_a_reported_failure_is_decisive_and_two_good_heartbeats_end_it() -> None:
    check = Check(name="http", kind="http", ok=False, consecutive_failures=3, error="connection refused")
    events = [beat(at(0)), beat(at(5), "UNHEALTHY", checks=(check,)), beat(at(10)), beat(at(15))]
    agent, changes = told(events)
    assert changes == ["HEALTHY/running", "UNHEALTHY/running", "RECOVERING/running", "HEALTHY/running"]
    assert agent.began_at is None
    unhealthy, _ = told(events[:2])
    assert unhealthy.reason == "probe http fails (connection refused)"
    assert unhealthy.began_at == at(0)


def test_a_relapse_while_recovering_keeps_the_first_beginning_of_the_trouble() -> None:
    agent, changes = told([beat(at(0)), beat(at(5), "UNHEALTHY"), beat(at(10)), beat(at(15), "UNHEALTHY")])
    assert changes[-2:] == ["RECOVERING/running", "UNHEALTHY/running"]
    assert agent.began_at == at(0)


def test_trouble_began_when_its_sidecar_first_met_it_not_when_it_was_told() -> None:
    """The time to detect is counted from here: told from the heartbeat on, it would always be nought."""

    def lasting(name: str, seconds: float) -> Metrics:
        return traffic(0.9).model_copy(update={"samples": (Sample(name=name, value=seconds, unit="s"),)})

    hung, _ = told([beat(at(0)), beat(at(5), "UNHEALTHY", metrics=lasting("probes_failing_for", 3.2))])
    assert hung.began_at == at(1.8)
    failing, _ = told([beat(at(0)), beat(at(5)), beat(at(10), metrics=lasting("requests_failing_for", 6.5))])
    assert failing.began_at == at(3.5)
    liar, _ = told([started(at(0)), beat(at(1)), beat(at(30), "UNHEALTHY", metrics=lasting("probes_failing_for", 1e9))])
    assert liar.began_at == at(0)


def test_restarted_by_self_healing_it_says_so_until_it_is_healthy_and_its_trouble_is_not_over_before() -> None:
    why = "restarted by self-healing: probe http fails"
    events = [
        beat(at(0)),
        beat(at(5), "UNHEALTHY"),
        stopped(at(6), signal="SIGTERM", reason=why, attributes={"restarting": True}),
        event("agent.started", at(7), agent=Agent(pid=78, reason=why), attributes={"restarted": True}),
        beat(at(8)),
        beat(at(13)),
    ]
    reasons = [told(events[: n + 1])[0].reason for n in range(2, 6)]
    assert reasons == [why, f"{why}; not verified yet", f"{why}; 1 of 2 good heartbeats", ""]
    assert told(events)[1][1:] == [
        "UNHEALTHY/running", "UNHEALTHY/starting", "RECOVERING/starting", "RECOVERING/running", "HEALTHY/running",
    ]  # fmt: skip
    # Should no other follow, that is no silence anybody meant.
    assert absence(told(events[:3])[0], at(30), at(0), LIMITS) is not None


def test_a_process_killed_by_a_signal_is_unhealthy_at_once() -> None:
    agent, changes = told([beat(at(0)), stopped(at(7), signal="SIGKILL"), started(at(9)), beat(at(10)), beat(at(15))])
    assert changes[1:] == ["UNHEALTHY/error", "RECOVERING/starting", "RECOVERING/running", "HEALTHY/running"]
    crashed, _ = told([beat(at(0)), stopped(at(7), signal="SIGKILL"), beat(at(7.1), "UNHEALTHY")])
    assert crashed.reason == "process was killed by SIGKILL"
    assert crashed.began_at == at(7)
    assert agent.health == "HEALTHY"


def test_an_agent_that_gets_nowhere_is_stuck_until_it_gets_on_and_unhealthy_where_it_fails_besides() -> None:
    still = Metrics(samples=(Sample(name="no_progress_for", value=40.0, unit="s"),))
    beats = [beat(at(0)), beat(at(100), "STUCK", metrics=still), beat(at(105), "STUCK", metrics=still)]
    agent, changes = told(beats)
    assert (changes, agent.began_at, agent.status) == (["HEALTHY/running", "STUCK/running"], at(60), "running")
    assert told([*beats, beat(at(110)), beat(at(115))])[1] == [*changes, "HEALTHY/running"]
    assert told([*beats, beat(at(110), "UNHEALTHY")])[1] == [*changes, "UNHEALTHY/running"]
    assert told([*beats, started(at(110)), beat(at(111))])[1][2:] == ["RECOVERING/starting", "RECOVERING/running"]


def test_a_deliberate_stop_is_no_trouble_and_its_silence_neither() -> None:
    for stop in (stopped(at(6), exit_code=0), stopped(at(6), exit_code=-15, signal="SIGTERM", reason="stopped by command")):
        agent, changes = told([beat(at(0)), stop, beat(at(6.1), "UNHEALTHY")])
        assert changes[1:] == ["HEALTHY/stopped"]
        assert absence(agent, at(1000), at(0), LIMITS) is None


def test_heartbeats_from_before_a_stop_do_not_resurrect() -> None:
    agent, _ = told([beat(at(0)), stopped(at(10), exit_code=3)])
    verdict = judge(agent, beat(at(9), received=at(60)), LIMITS)
    assert isinstance(verdict, Outdated)


def test_a_late_bad_heartbeat_does_not_kill() -> None:
    agent, _ = told([beat(at(0)), beat(at(60))])
    assert isinstance(judge(agent, beat(at(30), "UNHEALTHY", received=at(61)), LIMITS), Outdated)


def test_an_agent_whose_clock_was_set_back_is_not_absent() -> None:
    """Its heartbeats change nothing until its clock has caught up, but it is heard."""
    agent, _ = told([beat(at(600))])
    verdict = judge(agent, beat(at(5), received=at(605)), LIMITS)
    assert isinstance(verdict, Outdated)
    assert verdict.alive is not None
    assert absence(agent, at(620), at(0), LIMITS) is not None
    assert absence(verdict.alive, at(620), at(0), LIMITS) is None
    assert verdict.alive.last_heartbeat == at(600)


def test_a_heartbeat_from_the_future_does_not_make_later_ones_old() -> None:
    agent, _ = told([beat(at(86_400 * 365), received=at(0)), beat(at(5), "UNHEALTHY")])
    assert agent.health == "UNHEALTHY"
    assert agent.last_heartbeat == at(5)


def test_most_requests_failing_is_decisive_when_there_are_some() -> None:
    assert told([beat(at(0)), beat(at(5), metrics=traffic(0.9, requests=3))])[1][-1] == "UNHEALTHY/running"
    few = traffic(1.0, requests=1)
    assert told([beat(at(0)), beat(at(5), metrics=few)])[1] == ["HEALTHY/running"]
    agent, changes = told([beat(at(0)), beat(at(5), metrics=few), beat(at(10), metrics=few)])
    assert changes[-1] == "UNHEALTHY/running"
    assert agent.began_at == at(0)


def test_slow_requests_are_trouble_only_above_the_limit() -> None:
    assert told([beat(at(0)), beat(at(5), metrics=traffic(latency_ms=2500))])[1] == ["HEALTHY/running"]
    assert told([beat(at(0)), beat(at(5), metrics=traffic(latency_ms=12_000))])[1][-1] == "UNHEALTHY/running"


def test_without_traffic_the_last_judgement_stands_for_three_heartbeats() -> None:
    """Nobody calls a broken agent: that alone does not mend it, nor is it broken for ever."""
    silent = traffic(None, None, 0)
    events = [beat(at(0)), beat(at(5), metrics=traffic(1.0))] + [beat(at(10 + 5 * n), metrics=silent) for n in range(5)]
    assert told(events[:5])[1][-1] == "UNHEALTHY/running"
    assert told(events[:6])[1][-1] == "RECOVERING/running"
    assert told(events)[1][-1] == "HEALTHY/running"


def test_one_failed_request_followed_by_no_traffic_is_no_trouble() -> None:
    silent = traffic(None, None, 0)
    assert told([beat(at(0)), beat(at(5), metrics=traffic(1.0, requests=1)), beat(at(10), metrics=silent)])[1] == [
        "HEALTHY/running"
    ]


def test_probes_may_fail_while_an_agent_is_starting_but_not_for_ever() -> None:
    loading = [started(at(0)), beat(at(1), "UNHEALTHY"), beat(at(5), "UNHEALTHY")]
    assert told(loading)[1] == ["RECOVERING/starting"]
    assert told([*loading, beat(at(11), "UNHEALTHY")])[1][-1] == "UNHEALTHY/running"


def test_a_sidecar_that_says_starting_is_believed_for_as_long_as_it_says_so() -> None:
    slow = [started(at(0)), beat(at(40), "UNHEALTHY", agent=Agent(status="starting"))]
    assert told(slow)[1] == ["RECOVERING/starting"]
    assert told([*slow, beat(at(45), "UNHEALTHY", agent=Agent(status="running"))])[1][-1] == "UNHEALTHY/running"


def test_three_missed_heartbeats_are_an_absence_that_began_with_the_last() -> None:
    agent, _ = told([beat(at(0)), beat(at(5))])
    assert absence(agent, at(20), at(0), LIMITS) is None
    verdict = absence(agent, at(21.1), at(0), LIMITS)
    assert verdict is not None
    assert (verdict.agent.health, verdict.agent.status, verdict.agent.began_at) == ("UNHEALTHY", "inactive", at(5))
    assert "3 of 5 s missed" in verdict.agent.reason
    assert absence(verdict.agent, at(500), at(0), LIMITS) is None


def test_silence_counts_from_when_we_began_to_listen() -> None:
    agent, _ = told([beat(at(0))])
    assert absence(agent, at(110), at(100), LIMITS) is None
    assert absence(agent, at(117), at(100), LIMITS) is not None


def test_absence_is_measured_by_arrival() -> None:
    agent, _ = told([beat(at(0), received=at(50))])
    assert absence(agent, at(60), at(0), LIMITS) is None


def test_faults_are_shown_at_once() -> None:
    agent, changes = told([beat(at(0)), fault("latency", at(1))])
    assert observation(agent).active_faults == ("latency",)
    assert changes == ["HEALTHY/running"]
    cleared = judge(agent, fault("latency", at(2), "fault.cleared"), LIMITS)
    assert isinstance(cleared, Noted)
    assert cleared.agent.active_faults == ()


def test_a_spool_that_drains_after_an_absence_does_not_turn_time_back() -> None:
    """The heartbeats tell of moments before the verdict; that it is over was still decided after it."""
    agent, _ = told([beat(at(0))])
    absent = absence(agent, at(60), at(0), LIMITS)
    assert absent is not None
    back = judge(absent.agent, beat(at(5), received=at(70)), LIMITS)
    assert isinstance(back, Changed)
    assert (back.agent.health, back.at, back.agent.since) == ("RECOVERING", at(60), at(60))

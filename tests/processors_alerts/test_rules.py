"""Rules files: what is shipped is valid, and what is wrong is named."""

from datetime import timedelta
from pathlib import Path

import pytest

from processors.alerts.metrics import METRICS
from processors.alerts.rules import InvalidRulesError, duration, load_rules, read_rules


def test_the_rules_shipped_can_be_used() -> None:
    rules = {rule.name: rule for rule in load_rules(None).rules}
    assert rules["agent_unhealthy"].severity == "critical"
    assert rules["agent_latency_high"].for_ == timedelta(seconds=5)
    assert rules["agent_latency_high"].threshold == 2000
    assert rules["dead_letters"].window == timedelta(minutes=5)


def test_the_example_can_be_used_and_shows_every_metric() -> None:
    path = Path(__file__).parents[2] / "examples" / "alert_rules.yaml"
    load_rules(path)
    text = path.read_text()
    assert [metric for metric in METRICS if metric not in text] == []


WRONG = """
rules:
  - {name: bad name, metric: latency_ms, threshold: 1, severity: warning}
  - {name: slow, metric: latencyms, threshold: fast, severity: loud, for: soon}
  - {name: spend, metric: spend_usd, threshold: 1, severity: info}
  - {name: wide, metric: latency_ms, threshold: 1, severity: info, scope: tenant}
  - {name: says, metric: latency_ms, threshold: 1, severity: info, summary: "{nobody}"}
  - {name: typo, metric: latency_ms, treshold: 1, severity: info}
  - {name: twice, metric: latency_ms, threshold: 1, severity: info}
  - {name: twice, metric: latency_ms, threshold: 1, severity: info}
"""


def test_every_wrong_field_is_named_with_its_file_and_rule() -> None:
    with pytest.raises(InvalidRulesError) as caught:
        read_rules(WRONG, "my-rules.yaml")
    text = str(caught.value)
    for told in (
        "my-rules.yaml cannot be used", "rule 'bad name': name:", "rule 'slow': metric:", "rule 'slow': threshold:",
        "rule 'slow': severity:", "rule 'slow': for: must be a duration", "rule 'spend': window: spend_usd is counted",
        "rule 'wide': scope: latency_ms is measured per agent", "rule 'says': summary: unknown {nobody}",
        "rule 'typo': threshold: is required", "rule 'typo': treshold:", "rule 'twice': name: is used twice",
    ):  # fmt: skip
        assert told in text


@pytest.mark.parametrize("text", ["", "rules: 3", "- a", "rules: []\nmore: 1", "rules: [", "{"])
def test_what_is_no_rules_file_is_refused(text: str) -> None:
    with pytest.raises(InvalidRulesError, match=r"x\.yaml"):
        read_rules(text, "x.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRulesError, match="AGENTOPS_RULES"):
        load_rules(tmp_path / "none.yaml")


def test_durations_are_read_in_every_unit() -> None:
    given = ["500ms", "5s", "10m", "1h", "2d", "1.5 s", 3]
    assert [duration(each).total_seconds() for each in given] == [0.5, 5, 600, 3600, 172_800, 1.5, 3]

"""Every series of every rule, and what of it is not written yet. Pure: what comes out is to be published, in order."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from processors.alerts.metrics import Metric, Scope
from processors.alerts.readings import Cleared, Reading, Stopped, Told, Wanted
from processors.alerts.rules import Rule
from processors.alerts.series import (
    Measurement,
    Series,
    Step,
    acknowledge,
    adopted,
    advance,
    clear,
    measure,
    next_moment,
    series_key,
)
from schemas.alerts import Acknowledgement, AlertChange

MOST_SERIES: Final = 100_000
"""Past this, series that hold nothing are forgotten; where all hold something, further ones are left aside and counted."""

_LOOKED_FOR_ROOM_EVERY: Final = 10_000

MOST_ACKNOWLEDGEMENTS: Final = 10_000


@dataclass(slots=True)
class Board:
    """The rules and their series. Taking the same message twice leaves it as once."""

    rules: Sequence[Rule]
    series: dict[str, Series] = field(default_factory=dict)
    unsaved: set[str] = field(default_factory=set)
    """Keys whose checkpoint is older than their state."""
    left_aside: int = 0
    most: int = MOST_SERIES
    _by_metric: dict[Metric, list[Rule]] = field(init=False)
    _by_name: dict[str, Rule] = field(init=False)
    _due: dict[str, datetime] = field(default_factory=dict, init=False)
    _of_agent: dict[tuple[str, str], set[str]] = field(init=False)
    _quiet: dict[str, datetime] = field(default_factory=dict, init=False)
    """Of what has no series, because nothing measured of it was worth one: when the newest measurement was made."""
    _not_wanted: set[tuple[str, str]] = field(default_factory=set, init=False)
    _acknowledged: dict[str, Acknowledgement] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._by_metric = defaultdict(list)
        self._of_agent = defaultdict(set)
        for rule in self.rules:
            self._by_metric[rule.metric].append(rule)
        self._by_name = {rule.name: rule for rule in self.rules}

    @property
    def metrics(self) -> frozenset[Metric]:
        """What the rules ask for."""
        return frozenset(rule.metric for rule in self.rules)

    @property
    def scopes(self) -> frozenset[tuple[Metric, Scope]]:
        """What the rules ask for, and of whom."""
        return frozenset((rule.metric, rule.whose) for rule in self.rules)

    def restore(self, saved: Iterable[Series]) -> None:
        """Takes checkpoints over. Series of rules that are gone, or measure something else now, are left out."""
        for series in saved:
            rule = self._by_name.get(series.rule)
            if rule is not None and (series.alert is None or series.alert.metric == rule.metric):
                self._put(rule, series)

    def adopt(self, change: AlertChange) -> None:
        """Takes over what ALERTS tells of a condition that cannot be read again from a stream."""
        rule = self._by_name.get(change.rule)
        if rule is None or rule.measured.source not in {"agent_states", "checks"}:
            return
        stream = change.labels.get("stream")
        key = series_key(change.rule, change.tenant_id, change.agent_id, stream)
        series = self.series.get(key) or Series(
            rule=change.rule, tenant_id=change.tenant_id, agent_id=change.agent_id, stream=stream
        )
        self._put(rule, adopted(series, change))

    def active(self) -> dict[str, AlertChange]:
        """The alerts that are firing, by id."""
        return {
            each.alert.alert_id: each.alert for each in self.series.values() if each.phase == "firing" and each.alert is not None
        }

    def take(self, told: Iterable[Told], sequence: int | None = None) -> list[AlertChange]:
        """What follows from one message; ``sequence`` is its place in its source, None for what is never read again."""
        changes: list[AlertChange] = []
        touched: dict[str, None] = {}
        for each in told:
            if isinstance(each, Reading):
                self._measure(each, sequence, touched, changes)
            elif isinstance(each, Stopped):
                if each.lasting:
                    self._not_wanted.add((each.tenant_id, each.agent_id))
                self._stop(each, sequence, touched, changes)
            elif isinstance(each, Wanted):
                self._not_wanted.discard((each.tenant_id, each.agent_id))
            elif isinstance(each, Cleared):
                self._clear(each, sequence, touched, changes)
        if sequence is not None:
            for key in touched:
                self.series[key] = self.series[key].model_copy(update={"applied": sequence})
        return changes

    def advance(self, now: datetime) -> list[AlertChange]:
        """What happened by itself up to ``now``."""
        changes: list[AlertChange] = []
        for key in [key for key, moment in self._due.items() if moment <= now]:
            rule = self._by_name[self.series[key].rule]
            self._keep(rule, advance(rule, self.series[key], now), changes)
        return changes

    def acknowledge(self, given: Acknowledgement) -> list[AlertChange]:
        """What follows from a person's acknowledgement; one for an alert not known yet is kept until it is."""
        changes: list[AlertChange] = []
        for series in list(self.series.values()):
            if series.alert is not None and series.alert.alert_id == given.alert_id:
                self._keep(self._by_name[series.rule], acknowledge(series, given), changes)
                return changes
        if len(self._acknowledged) >= MOST_ACKNOWLEDGEMENTS:
            self._acknowledged.pop(next(iter(self._acknowledged)))
        self._acknowledged[given.alert_id] = given
        return changes

    def _measure(self, reading: Reading, sequence: int | None, touched: dict[str, None], changes: list[AlertChange]) -> None:
        for rule in self._by_metric.get(reading.metric, ()):
            if reading.scope is not None and reading.scope != rule.whose:
                continue
            agent = reading.agent_id if rule.whose == "agent" else None
            if agent is not None and not rule.measured.counted and (reading.tenant_id, agent) in self._not_wanted:
                continue
            key = series_key(rule.name, reading.tenant_id, agent, reading.stream)
            series = self.series.get(key)
            if series is None:
                if self._of_no_consequence(rule, key, reading.measurement):
                    continue
                if len(self.series) >= self.most and not self._make_room():
                    self.left_aside += 1
                    continue
                series = Series(
                    rule=rule.name, tenant_id=reading.tenant_id, agent_id=agent, stream=reading.stream,
                    occurred_at=self._quiet.pop(key, None),
                )  # fmt: skip
            elif sequence is not None and sequence <= series.applied:
                continue
            touched[key] = None
            self._keep(rule, measure(rule, series, reading.measurement), changes)

    def _of_no_consequence(self, rule: Rule, key: str, measurement: Measurement) -> bool:
        """Whether nothing follows from a measurement of what has no series: a healthy fleet's all but all."""
        if rule.window is not None:
            return False
        occurred = measurement.occurred_at or measurement.at
        newest = self._quiet.get(key)
        if measurement.value is None or (newest is not None and occurred < newest):
            return True
        if rule.holds(measurement.value):
            return False
        if len(self._quiet) >= self.most:
            # As a restart would: of each, one late measurement may count that should not.
            self._quiet.clear()
        self._quiet[key] = occurred
        return True

    def _make_room(self) -> bool:
        """Forgets what a restart would forget too: agents come and go, and those that are gone must not blind us to new ones."""
        if self.left_aside % _LOOKED_FOR_ROOM_EVERY:
            # There was none a moment ago, and looking is not free.
            return False
        idle = [key for key, each in self.series.items() if not (each.worth_keeping or key in self._due or key in self.unsaved)]
        for key in idle:
            series = self.series.pop(key)
            if series.agent_id is None:
                continue
            own = self._of_agent[series.tenant_id, series.agent_id]
            own.discard(key)
            if not own:
                del self._of_agent[series.tenant_id, series.agent_id]
        return bool(idle)

    def _stop(self, stopped: Stopped, sequence: int | None, touched: dict[str, None], changes: list[AlertChange]) -> None:
        for key in sorted(self._of_agent.get((stopped.tenant_id, stopped.agent_id), ())):
            series = self.series[key]
            rule = self._by_name[series.rule]
            # A sequence counts in its own source only; a stop by command comes from another.
            from_events = not stopped.lasting and rule.measured.source == "EVENTS"
            if rule.measured.counted or (from_events and sequence is not None and sequence <= series.applied):
                continue
            if from_events:
                touched[key] = None
            self._keep(rule, clear(rule, series, stopped.at, stopped.reason), changes)

    def _clear(self, cleared: Cleared, sequence: int | None, touched: dict[str, None], changes: list[AlertChange]) -> None:
        for rule in self.rules:
            key = series_key(rule.name, cleared.tenant_id, None, cleared.stream)
            series = self.series.get(key) if rule.whose == "crossing" else None
            if series is None or (sequence is not None and sequence <= series.applied):
                continue
            touched[key] = None
            self._keep(rule, clear(rule, series, cleared.at, cleared.reason), changes)

    def _keep(self, rule: Rule, step: Step, changes: list[AlertChange]) -> None:
        self.unsaved.add(self._put(rule, step.series))
        for change in step.changes:
            changes.append(change)
            given = self._acknowledged.pop(change.alert_id, None) if change.state == "firing" else None
            if given is not None:
                changes += self.acknowledge(given)

    def _put(self, rule: Rule, series: Series) -> str:
        key = series.key
        self.series[key] = series
        if series.agent_id is not None:
            self._of_agent[series.tenant_id, series.agent_id].add(key)
        moment = next_moment(rule, series)
        if moment is None:
            self._due.pop(key, None)
        else:
            self._due[key] = moment
        return key

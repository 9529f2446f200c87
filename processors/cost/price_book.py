"""The price book: which tariff a provider's model had at a moment. Plain values; built elsewhere, asked here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Final

from processors.cost.rates import Tariff

_REMEMBERED: Final = 20_000
"""Models and days remembered; more than that means invented names, and memory stays bounded."""


@dataclass(frozen=True, slots=True)
class Window:
    """When a tariff holds: from a day on, or in a daily interval (both UTC); always when nothing is given."""

    from_day: date | None = None
    daily: tuple[time, time] | None = None
    """Start (inclusive) and end (exclusive), naive UTC; an end before the start crosses midnight."""

    def open(self, moment: datetime) -> bool:
        """Whether it holds at ``moment`` (UTC)."""
        if self.from_day is not None and moment.date() < self.from_day:
            return False
        if self.daily is None:
            return True
        start, end = self.daily
        now = moment.time()
        return start <= now < end if start <= end else now >= start or now < end


@dataclass(frozen=True, slots=True)
class Plan:
    """The tariffs of one model: the last one whose window is open holds, else the first."""

    priced_as: str
    """``provider/model`` of the price book."""
    tariffs: tuple[tuple[Window, Tariff], ...]

    def at(self, moment: datetime) -> Tariff:
        """The tariff at ``moment``."""
        if len(self.tariffs) > 1:
            for window, tariff in reversed(self.tariffs):
                if window.open(moment):
                    return tariff
        return self.tariffs[0][1]


@dataclass(frozen=True, slots=True)
class Unpriced:
    """No price applies, and why."""

    why: str


Find = Callable[[str, Mapping[str, str]], Plan | Unpriced]
"""From a model's name and the request's context (service tier, batch) to its plan."""


@dataclass(slots=True)
class PriceBook:
    """Providers by every name they are documented under, each able to find its models."""

    version: str
    providers: Mapping[str, Find]
    """By lower-case name; several names may lead to one provider."""
    _plans: dict[tuple[str, str, str | None], Plan | Unpriced] = field(default_factory=dict, init=False)

    def plan(self, provider: str, model: str, service_tier: str | None = None) -> Plan | Unpriced:
        """The plan of a model as an event names it; remembered."""
        key = (provider, model, service_tier)
        found = self._plans.get(key)
        if found is None:
            if len(self._plans) >= _REMEMBERED:
                self._plans.clear()
            found = self._plans[key] = self._look_up(provider, model, service_tier)
        return found

    def _look_up(self, provider: str, model: str, service_tier: str | None) -> Plan | Unpriced:
        name, reference = provider.strip().lower(), model.strip().lower()
        if name == "litellm":
            # LiteLLM names the real provider in front of the model.
            ahead, slash, rest = reference.partition("/")
            if slash and ahead in self.providers:
                name, reference = ahead, rest
        find = self.providers.get(name)
        if find is None:
            return Unpriced(f"unknown provider {provider[:80]!r}")
        return find(reference, context_of(service_tier))


def context_of(service_tier: str | None) -> dict[str, str]:
    """What a service tier says of a request. ``batch`` is a way of processing, whoever calls it a tier."""
    if not service_tier:
        return {}
    return {"service_tier": service_tier, "processing": "batch"} if service_tier == "batch" else {"service_tier": service_tier}

from datetime import timedelta

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from processors.health.judging import Limits


class HealthSettings(BaseSettings):
    """When an agent counts as unhealthy, and how often is written. Every field is ``AGENTOPS_HEALTH_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="AGENTOPS_HEALTH_", frozen=True, use_attribute_docstrings=True, extra="ignore")

    error_rate: float = Field(default=0.5, gt=0, le=1)
    """Share of failing requests above which an agent is in trouble: most of its callers get nothing."""
    latency_ms: float = Field(default=10_000.0, gt=0)
    """Mean latency above which an agent is in trouble; well above a slow model, below most callers' patience."""
    decisive_requests: int = Field(default=3, ge=1)
    """One heartbeat beyond a limit is enough if it stands on this many requests."""
    bad_beats: int = Field(default=2, ge=1)
    """Else this many in a row are needed."""
    good_beats: int = Field(default=2, ge=1)
    """Good heartbeats in a row that end an unhealthy spell."""
    unknown_beats: int = Field(default=3, ge=0)
    """Heartbeats without traffic during which the last verdict on traffic stands; then it counts as good."""
    missed_beats: int = Field(default=3, ge=1)
    """Heartbeats missed, by the agent's own interval, before it counts as absent."""
    starting_grace_s: float = Field(default=10.0, ge=0)
    """After a start, failing probes are not held against an agent for this long: it may still be loading."""
    writes_per_s: float = Field(default=250.0, gt=0)
    """Observations written for fresh numbers alone, all agents together; changes of health are written at once."""
    checkpoint_s: float = Field(default=30.0, gt=0)
    """Between checkpoints while nothing but numbers changed; after a change of health at most one second. What was said since
    is read again after a restart: seconds of work for ten thousand agents, which cost as much as judging them if it were written."""
    max_agents: int = Field(default=20_000, ge=1)
    """Agents watched; events of further ones are counted and left aside."""

    def limits(self) -> Limits:
        """The limits as the judge takes them."""
        return Limits(
            error_rate=self.error_rate,
            latency_ms=self.latency_ms,
            decisive_requests=self.decisive_requests,
            bad_beats=self.bad_beats,
            good_beats=self.good_beats,
            unknown_beats=self.unknown_beats,
            missed_beats=self.missed_beats,
            starting_grace=timedelta(seconds=self.starting_grace_s),
        )

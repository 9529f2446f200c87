"""Settings of the aggregate: environment variables ``AGENTOPS_AGGREGATE_<FIELD>``."""

from pydantic_settings import BaseSettings, SettingsConfigDict


class AggregateSettings(BaseSettings):
    """How much is stored at once, how often, and what DuckDB may use."""

    model_config = SettingsConfigDict(
        env_prefix="AGENTOPS_AGGREGATE_", frozen=True, use_attribute_docstrings=True, extra="ignore"
    )

    threads: int = 1
    """Threads of DuckDB. Transactions of some thousand rows cost a sixth less with one than with two."""
    memory: str = "512MB"
    """Memory of DuckDB; what needs more spills beside the file."""
    wal: str = "32MB"
    """Size of the write-ahead log after which it is folded into the file. Nothing is stored meanwhile: about two tenths of a second;
    64 MB save a microsecond of CPU an event and take twice as long."""
    batch_events: int = 10_000
    """Events in one transaction, roughly: past it nothing more is read until it is stored."""
    batch_bytes: int = 32 * 1024 * 1024
    """Bytes in one transaction, roughly."""
    busy_events: int = 4_000
    """From so many waiting events on there is no pause between transactions."""
    share: float = 0.1
    """Part of the time that may go into transactions while little comes in: a trickle is gathered for as long as that takes."""
    shortest_pause_s: float = 0.015
    """After a quiet spell a row waits so long for those that come with it: a run's events, a call's ledger entry."""
    longest_pause_s: float = 0.15
    """A row waits at most so long to be gathered with others."""
    fold_facts: int = 500_000
    """Facts after which they are folded into the sums."""
    fold_every_s: float = 15.0
    """Facts are folded at the latest after this."""
    dead_letters: int = 1_000
    """Dead letters of our own in ``dead_letters_window_s`` past which we stop: behind validate it means a bad deploy."""
    dead_letters_window_s: float = 600.0
    query_deadline_s: float = 5.0
    """A query that takes longer is interrupted."""
    audit_deadline_s: float = 30.0
    """The same for the audit, which reads everything."""
    query_threads: int = 2
    """Queries answered at the same time."""
    query_waiting: int = 64
    """Queries that may wait for a thread; more are refused at once."""

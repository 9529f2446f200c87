"""What OTLP carries."""

from typing import Final, Literal, get_args

Signal = Literal["traces", "metrics", "logs"]
SIGNALS: Final[tuple[Signal, ...]] = get_args(Signal)

REJECTED: Final = {"traces": "rejectedSpans", "metrics": "rejectedDataPoints", "logs": "rejectedLogRecords"}
"""How a partial success in JSON calls what was refused of each."""

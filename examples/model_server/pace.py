"""How long the server takes: latencies spread as those of real model APIs."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

FIRST_TOKEN_MEDIAN_S: Final = 0.22
FIRST_TOKEN_SIGMA: Final = 0.4
PREFILL_S_PER_TOKEN: Final = 0.00008
TOKEN_MEDIAN_S: Final = 0.009
TOKEN_SIGMA: Final = 0.25


@dataclass(frozen=True, slots=True)
class Pace:
    """Draws the waits of one server; ``speed`` 2 is twice as fast."""

    random: random.Random
    speed: float = 1.0

    def first_token_s(self, uncached_tokens: int) -> float:
        """Seconds to the first token: lognormal, and longer with every prompt token that no cache held."""
        drawn = self.random.lognormvariate(math.log(FIRST_TOKEN_MEDIAN_S), FIRST_TOKEN_SIGMA)
        return (drawn + uncached_tokens * PREFILL_S_PER_TOKEN) / self.speed

    def token_waits_s(self, tokens: int) -> Iterator[float]:
        """Seconds before each further token: around one lognormal pace of this response."""
        median = self.random.lognormvariate(math.log(TOKEN_MEDIAN_S), TOKEN_SIGMA)
        for _ in range(max(0, tokens - 1)):
            yield self.random.lognormvariate(math.log(median), TOKEN_SIGMA) / self.speed

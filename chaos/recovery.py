"""How long it took until everything was right again after each trouble. Pure."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Recovered:
    """A trouble that is behind us."""

    what: str
    seconds: float


@dataclass(slots=True)
class Recovery:
    """A trouble is behind us when all model calls acknowledged before its end are charged in the warehouse.

    Later troubles may fall into that time; then they count too.
    """

    longest: Recovered = Recovered("", 0.0)
    _waiting: list[tuple[float, int, str]] = field(default_factory=list)

    def over(self, at_s: float, what: str, acknowledged: int) -> None:
        """A trouble ended at ``at_s``, when so many model calls had been acknowledged."""
        self._waiting.append((at_s, acknowledged, what))

    def reached(self, at_s: float, charged: int) -> tuple[Recovered, ...]:
        """Takes notice that the warehouse has ``charged`` model calls at ``at_s``; returns what is behind us with that."""
        done = tuple(Recovered(what, at_s - since) for since, needed, what in self._waiting if charged >= needed)
        self._waiting = [each for each in self._waiting if charged < each[1]]
        for each in done:
            if each.seconds > self.longest.seconds:
                self.longest = each
        return done

    @property
    def waiting(self) -> int:
        """Troubles not behind us yet."""
        return len(self._waiting)

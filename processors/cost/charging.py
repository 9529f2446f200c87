"""What is written for the calls of a batch: charges, and one more sighting where a call was charged before. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from processors.cost.entries import Charge, one_more
from processors.cost.recognising import Again, Recognition, Stands, Taken
from processors.cost.sightings import id_text


@dataclass(slots=True)
class Charged:
    """Entries in order, and what has to be taken back for them to be right."""

    lines: dict[str, list[bytes]] = field(default_factory=dict)
    """Ledger entries by tenant."""
    entries: dict[str, list[bytes]] = field(default_factory=dict)
    """The id of each line, where its call can be known again; else nothing."""
    taken: list[tuple[str, Taken]] = field(default_factory=list)
    """By tenant."""
    again: int = 0
    """How many are one more sighting."""
    differing: int = 0
    unpriced: dict[tuple[str, str], str] = field(default_factory=dict)
    unpriced_entries: int = 0
    cost: Decimal = Decimal(0)

    @property
    def count(self) -> int:
        """How many entries."""
        return sum(map(len, self.lines.values()))


def _usd(nanos: int) -> str:
    return format(Decimal(nanos).scaleb(-9), "f")


def _why(charge: Charge, answer: Again) -> str | None:
    if not answer.differs:
        return None
    assert charge.seen is not None
    told = f"told {charge.seen.tokens:,} tokens, {_usd(charge.seen.nanos)} USD by {charge.provider}/{charge.model}"[:4000]
    return f"{told}; what stands counts {answer.tokens:,} tokens, {_usd(answer.nanos)} USD"


def charge(charges: Iterable[tuple[str, Charge]], recognition: Recognition) -> Charged:
    """Judges ``charges`` (with their tenants, in order) by what ``recognition`` knows."""
    made = Charged()
    for tenant, one in charges:
        answer = Stands() if one.seen is None else recognition.see(one.seen)
        line = one.line
        if isinstance(answer, Again):
            line = one_more(line, id_text(answer.of), _why(one, answer))
            made.again += 1
            made.differing += answer.differs
        else:
            made.cost += one.cost
            if one.unpriced is not None:
                made.unpriced_entries += 1
                made.unpriced[one.provider, one.model] = one.unpriced
        made.taken += [(tenant, taken) for taken in answer.taken]
        made.lines.setdefault(tenant, []).append(line)
        made.entries.setdefault(tenant, []).append(b"" if one.seen is None else one.seen.entry)
    return made

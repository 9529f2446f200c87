"""What one call costs by a book: its plan, the tariff of its moment, the rates of its size, the sum."""

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from schemas.prices.finding import PriceBook, Unpriced
from schemas.prices.rates import NoCostError, Rates
from schemas.prices.units import Tokens


class Priced(NamedTuple):
    """What a call costs, and by what."""

    cost: Decimal
    rates: Rates
    priced_as: str
    override: str | None


def price(
    book: PriceBook, *, provider: str, model: str, service_tier: str | None, tenant: str, moment: datetime, tokens: Tokens
) -> Priced | Unpriced:
    """The price of a call at ``moment`` (UTC); Unpriced says why there is none."""
    plan = book.plan(provider, model, service_tier, tenant)
    if isinstance(plan, Unpriced):
        return plan
    tariff = plan.at(moment)
    if isinstance(tariff, Unpriced):
        return tariff
    rates = tariff.rates(tokens.input)
    try:
        return Priced(rates.cost(tokens), rates, plan.priced_as, tariff.override)
    except NoCostError as error:
        return Unpriced(str(error))

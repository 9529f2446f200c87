"""What a user's own agreements change in a price book: discounts, own prices, models of one's own."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, PlainSerializer, model_validator

from schemas.model import Identifier, Instant, Lenient, Name, Text, Token, Wire
from schemas.prices.book import Prices, Rule, StoredBook, Version

Percent = Annotated[
    Decimal,
    Field(ge=-1000, le=100, allow_inf_nan=False),
    PlainSerializer(lambda value: format(value, "f"), return_type=str, when_used="json"),
]

EVERY_MODEL = "*"


class Override(Wire):
    """One agreement.

    Of several that fit a call the most particular holds: the tenant's own before everybody's, a model's before a
    provider's, and of equals the one in force since later.
    """

    override_id: Token
    tenant: Token | None = None
    """Absent: for every tenant."""
    provider: Name
    """As events or the book name it."""
    model: Name = EVERY_MODEL
    """``*``, the book's id of a model (however events call it), or a name exactly as events give it."""
    match: Rule | None = None
    """Instead of ``model``: which names are meant."""
    service_tier: Name | None = None
    """Only for calls of this tier."""
    discount_percent: Percent | None = None
    """Taken off every price of the book; below zero it is a surcharge."""
    prices: Prices | None = None
    """In place of all prices of the book; also for models the book does not know."""
    since: Instant | None = None
    """Holds for calls from then on; absent: always did."""
    until: Instant | None = None
    """Holds for calls before then."""
    note: Text = ""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if (self.discount_percent is None) == (self.prices is None):
            raise ValueError("say either discount_percent or prices")
        if self.match is not None and self.model != EVERY_MODEL:
            raise ValueError("say either model or match")
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise ValueError("until must lie after since")
        if self.provider != self.provider.strip().lower():
            raise ValueError("provider is written in lower case")
        return self

    def rank(self) -> tuple[bool, bool, bool, bool]:
        """How particular it is; more is more."""
        named = self.model != EVERY_MODEL
        return self.tenant is not None, named, self.match is not None, self.service_tier is not None


class Revision(Lenient):
    """What is in force from one change on: a book and all overrides. Kept for ever under ``revision.<number>``."""

    number: Annotated[int, Field(ge=1)]
    book: Version
    follows_default: bool = True
    """Whether the book moves along when cost brings a newer default."""
    overrides: tuple[Override, ...] = ()
    at: Instant
    by: Name
    reason: Text
    change: Text = ""
    """What differs from the revision before, in words."""
    change_id: Identifier | None = None
    """Of the request that made it."""

    @property
    def version(self) -> str:
        """What ledger entries name: the book, and the revision where there are overrides."""
        return f"{self.book}+r{self.number}" if self.overrides else self.book


def revision_key(number: int) -> str:
    """``revision.<number>``: its key in the bucket."""
    return f"revision.{number}"


def parts(version: str) -> tuple[str, int | None]:
    """Book and revision (None: no overrides) of what a ledger entry names."""
    book, plus, number = version.rpartition("+r")
    return (book, int(number)) if plus and number.isdecimal() else (version, None)


class PriceChange(Wire):
    """A request to ``cost.<user>.prices``: one change of what is in force."""

    change_id: Identifier
    """The same change asked again is made once."""
    action: Literal["set", "remove", "import", "use"]
    """``set`` and ``remove`` an override, ``import`` a book (not yet in force), ``use`` a book."""
    override: Override | None = None
    override_id: Token | None = None
    book: StoredBook | None = None
    version: Version | None = None
    """For ``use``; absent: cost's own default, from now on the newest."""
    revision: Annotated[int, Field(ge=0)]
    """The revision the change was made for; refused when another came in between."""
    reason: Annotated[Text, Field(min_length=1)]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needed = {"set": "override", "remove": "override_id", "import": "book"}.get(self.action)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"{self.action} needs {needed}")
        return self


class PriceChanged(Lenient):
    """The answer to a change."""

    change_id: Identifier
    revision: int
    version: str
    """What ledger entries name from now on."""
    change: Text

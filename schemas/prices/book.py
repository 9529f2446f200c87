"""A price book as a value: providers, their models, what each matches, and what it costs when."""

import gzip
import re
from base64 import b64decode, b64encode
from datetime import date, time
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Self

import orjson
from pydantic import Field, PlainSerializer, StringConstraints, field_validator, model_validator

from schemas.model import Instant, Lenient, Name, Text, Wire
from schemas.prices.units import UnitName

Price = Annotated[
    Decimal,
    Field(ge=0, le=10**9, allow_inf_nan=False),
    PlainSerializer(lambda value: format(value, "f"), return_type=str, when_used="json"),
]
"""US dollars per million (or thousand) units, exact; a decimal string in JSON."""

Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""Names one book for ever."""


class Rule(Wire):
    """Which names a model is called by; compared in lower case. Exactly one of these is given."""

    equals: Name | None = None
    starts_with: Name | None = None
    ends_with: Name | None = None
    contains: Name | None = None
    regex: Name | None = None
    """Searched for anywhere in the name."""
    any_of: tuple["Rule", ...] | None = None
    all_of: tuple["Rule", ...] | None = None

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("say exactly one of equals, starts_with, ends_with, contains, regex, any_of, all_of")
        return self

    def matches(self, name: str) -> bool:
        """Whether ``name``, in lower case, is meant."""
        if self.equals is not None:
            return name == self.equals.lower()
        if self.starts_with is not None:
            return name.startswith(self.starts_with.lower())
        if self.ends_with is not None:
            return name.endswith(self.ends_with.lower())
        if self.contains is not None:
            return self.contains.lower() in name
        if self.regex is not None:
            return re.search(self.regex, name) is not None
        if self.any_of is not None:
            return any(rule.matches(name) for rule in self.any_of)
        return all(rule.matches(name) for rule in self.all_of or ())


class Step(Wire):
    """A price for calls with more than so many input tokens; it then holds for all their tokens."""

    above: Annotated[int, Field(ge=0)]
    price: Price


class Stepped(Wire):
    """A price that depends on how large the call is."""

    base: Price
    steps: tuple[Step, ...]


Prices = dict[UnitName, Price | Stepped]


class Offer(Wire):
    """Prices, and when they hold: from a day on, or between two times of every day (UTC; the end excluded)."""

    prices: Prices = {}
    since: date | None = None
    daily: tuple[time, time] | None = None
    """An end before the start crosses midnight."""
    when: dict[str, str] = {}
    """Of a variant: what the request must say (``service_tier``, ``processing``, …)."""
    other: tuple[str, ...] = ()
    """What else is charged that an event cannot tell, such as hours of audio."""


class Model(Wire):
    """One model as one provider sells it."""

    id: Name
    match: Rule
    offers: tuple[Offer, ...] = (Offer(),)
    """The last one that holds counts, else the first. No prices at all: free."""
    variants: tuple[Offer, ...] = ()
    """Prices for special requests, each replacing single prices of the offer; the first that fits counts, price by price."""


class Provider(Wire):
    """One seller of models."""

    id: Name
    names: tuple[Name, ...] = ()
    """What else it is called, in lower case."""
    prefixes: tuple[Name, ...] = ()
    """What its own API writes in front of a model's name."""
    fallbacks: tuple[Name, ...] = ()
    """Providers whose models it also sells, at their standard prices."""
    models: tuple[Model, ...] = ()


class Book(Wire):
    """One version of all prices. Never changed: other content is another version."""

    version: Version
    source: Text = ""
    providers: tuple[Provider, ...]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        seen: dict[str, str] = {}
        for provider in self.providers:
            for name in (provider.id, *provider.names):
                if name != name.lower():
                    raise ValueError(f"provider names are written in lower case: {name}")
                if name in seen:
                    raise ValueError(f"the provider name {name!r} belongs to {seen[name]} and to {provider.id}")
                seen[name] = provider.id
        return self


def written(book: Book) -> bytes:
    """``book`` as JSON, one model a line: equal books give equal bytes, and a changed price is one changed line."""
    out = [b'{"version":%s,"source":%s,"providers":[' % (orjson.dumps(book.version), orjson.dumps(book.source))]
    for number, provider in enumerate(book.providers):
        head = orjson.dumps(provider.model_dump(mode="json", exclude_defaults=True, exclude={"models"}))
        models = b",\n".join(
            orjson.dumps(model.model_dump(mode="json", exclude_defaults=True), option=orjson.OPT_SORT_KEYS)
            for model in provider.models
        )
        out.append(b'%s\n%s,"models":[\n%s]}' % (b"," if number else b"", head[:-1], models))
    out.append(b"\n]}\n")
    return b"".join(out)


def digest(book: Book) -> str:
    """The beginning of the hash of what ``book`` says, whatever its version is called."""
    return sha256(written(book.model_copy(update={"version": "x", "source": ""}))).hexdigest()[:8]


class StoredBook(Lenient):
    """A book as it lies in the bucket ``prices`` under ``book.<version>``: small enough for one value."""

    version: Version
    source: Text = ""
    digest: Name
    models: int
    at: Instant
    by: Name
    reason: Text = ""
    packed: str
    """The book's JSON, gzip, base64."""

    @classmethod
    def pack(cls, book: Book, *, at: Instant, by: str, reason: str) -> "StoredBook":
        """``book``, ready to be stored."""
        return cls(
            version=book.version, source=book.source, digest=digest(book), models=sum(len(one.models) for one in book.providers),
            at=at, by=by, reason=reason, packed=b64encode(gzip.compress(written(book), 9, mtime=0)).decode(),
        )  # fmt: skip

    def book(self) -> Book:
        """The book itself; raises ValueError where it is damaged."""
        return Book.model_validate_json(gzip.decompress(b64decode(self.packed)))


def book_key(version: str) -> str:
    """``book.<version>``: its key in the bucket."""
    return f"book.{version}"

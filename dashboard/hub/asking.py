"""Asking the warehouse, and the budget processor: which question how often, and what to do when there is no answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import nats.errors
import orjson
from nats.aio.client import Client
from pydantic import BaseModel, ValidationError

from dashboard.model.traffic import KEPT_S
from dashboard.model.warehouse import SETTLING_S, SMOOTHED_S
from schemas.budgets import BudgetsPage, BudgetsParams
from schemas.queries import Page, QueryError
from streams import subjects
from streams.messages import FAILED

DEADLINE_S: Final = 3.0
BUDGETS_EVERY_S: Final = 2.0
"""How often the budget processor is asked while at least one tab is open; by itself, so that neither waits for the other."""

Told = TypeVar("Told", bound=BaseModel)


class NoAnswerError(Exception):
    """Nobody answered. Asking again later helps."""


class QuestionRefusedError(Exception):
    """There was an answer, but not to this question. Asking the same again does not help."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question the page keeps asking while somebody looks at it."""

    name: str
    query: str
    every_s: float
    parameters: Callable[[datetime], Mapping[str, Any]]


def _since(now: datetime, ago: timedelta) -> str:
    return (now - ago).isoformat()


_MINUTES: Final = timedelta(seconds=KEPT_S + SETTLING_S + SMOOTHED_S + 3)
_DAY: Final = timedelta(hours=24)

QUESTIONS: Final = (
    Question("throughput", "throughput", 1.0, lambda _: {}),
    Question(
        "events",
        "timeseries",
        2.0,
        lambda now: {"metric": "events", "bucket": "second", "since": _since(now, _MINUTES), "limit": 1000},
    ),
    Question(
        "errors",
        "timeseries",
        2.0,
        lambda now: {"metric": "errors", "bucket": "second", "since": _since(now, _MINUTES), "limit": 1000},
    ),
    Question("fleet", "fleet", 2.0, lambda _: {"limit": 5000}),
    Question("failures", "failures", 2.0, lambda _: {"limit": 30}),
    Question("spend_agent", "spend", 5.0, lambda now: {"by": ["agent"], "since": _since(now, _DAY), "limit": 1000}),
    Question("spend_model", "spend", 5.0, lambda now: {"by": ["model"], "since": _since(now, _DAY), "limit": 1000}),
    Question("spend_day", "spend", 10.0, lambda now: {"by": ["day"], "since": _since(now, timedelta(days=13)), "limit": 100}),
    Question(
        "model_latency",
        "latency",
        10.0,
        lambda now: {"kind": "model_call", "by": ["model"], "since": _since(now, _DAY), "limit": 1000},
    ),
)
"""Intervals while at least one tab is open; nobody looking, nothing asked."""


async def ask(client: Client, query: str, parameters: Mapping[str, Any], deadline_s: float = DEADLINE_S) -> Page:
    """The warehouse's answer to one question; raises NoAnswerError or QuestionRefusedError."""
    return await _answer(client, query, orjson.dumps(parameters), Page, "the query service", deadline_s)


async def budgets(client: Client, deadline_s: float = DEADLINE_S) -> BudgetsPage:
    """How every budget stands, by the budget processor; raises NoAnswerError or QuestionRefusedError."""
    everything = BudgetsParams().model_dump_json(exclude_none=True).encode()
    return await _answer(client, "budgets", everything, BudgetsPage, "the budget processor", deadline_s)


async def _answer(client: Client, query: str, asked: bytes, kind: type[Told], who: str, deadline_s: float) -> Told:
    try:
        reply = await client.request(subjects.query(query), asked, timeout=deadline_s)
    except nats.errors.NoRespondersError as error:
        raise NoAnswerError(f"{who} does not answer yet: it may be starting or overloaded") from error
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise NoAnswerError(f"no answer within {deadline_s:g} s") from error
    try:
        if (reply.headers or {}).get(FAILED):
            raise QuestionRefusedError(f"{query}: {QueryError.model_validate_json(reply.data).message}")
        return kind.model_validate_json(reply.data)
    except ValidationError as error:
        raise QuestionRefusedError(f"{query}: the answer cannot be read") from error


class Pollster:
    """Asks each question at its own interval, one after the other, so that a slow warehouse is never asked twice at once."""

    def __init__(self, questions: tuple[Question, ...] = QUESTIONS) -> None:
        self._questions = questions
        self._due: dict[str, float] = {}

    def forget(self) -> None:
        """Makes every question due at once."""
        self._due.clear()

    def due(self, clock_s: float) -> list[Question]:
        """The questions whose time has come."""
        return [question for question in self._questions if self._due.get(question.name, 0.0) <= clock_s]

    def asked(self, question: Question, clock_s: float) -> None:
        """Notes that a question was asked at ``clock_s``."""
        self._due[question.name] = clock_s + question.every_s

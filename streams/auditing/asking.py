"""What the warehouse says: the checks of ``query.audit``, page by page."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, Final

import nats.errors
import orjson
from nats.aio.client import Client

from schemas.queries import MAX_PAGE
from streams import subjects
from streams.auditing.accounts import Applied
from streams.auditing.report import AuditImpossibleError
from streams.messages import FAILED

_ASK_S: Final = 35.0

Row = dict[str, Any]


async def ask(client: Client, name: str, **params: Any) -> dict[str, Any]:
    """One page; raises AuditImpossibleError."""
    try:
        told = {key: value for key, value in params.items() if value is not None}
        reply = await client.request(subjects.query(name), orjson.dumps(told), timeout=_ASK_S)
    except (nats.errors.NoRespondersError, nats.errors.TimeoutError) as error:
        raise AuditImpossibleError(
            "the warehouse does not answer yet: it may be starting (reading its log) or overloaded; `agentops doctor` tells more"
        ) from error
    answer: dict[str, Any] = orjson.loads(reply.data)
    if FAILED in (reply.headers or {}):
        raise AuditImpossibleError(f"query.{name}: {answer.get('message')}")
    return answer


async def rows(client: Client, name: str = "audit", *, most: int | None = None, **params: Any) -> list[Row]:
    """All rows of an answer, or the first ``most`` and perhaps some more."""
    found: list[Row] = []
    offset: int | None = 0
    while offset is not None and (most is None or len(found) < most):
        page = await ask(client, name, limit=MAX_PAGE, offset=offset, **params)
        found += page["rows"]
        offset = page.get("next_offset")
    return found


async def applied(client: Client, stream: str, after: int, until: int, tenant: str | None) -> AsyncIterator[Applied]:
    """Every message of ``stream`` the warehouse has applied after ``after`` up to ``until``."""
    while after < until:
        page = await ask(client, "audit", stream=stream, after=after, until=until, tenant=tenant, limit=MAX_PAGE)
        for row in page["rows"]:
            money = row.get("cost_usd")
            yield Applied(
                row["sequence"], row["subject"], row["events"], row["lines"], row["unreadable"], row["rows"],
                None if money is None else Decimal(money),
            )  # fmt: skip
        if page.get("next_offset") is None:
            return
        after = page["rows"][-1]["sequence"]

"""``query.budgets``: how every budget stands, from the books themselves."""

from collections.abc import Callable
from typing import Final

import structlog
from nats import micro
from nats.aio.client import Client
from nats.micro.request import Request
from nats.micro.service import Service
from pydantic import ValidationError

from schemas.budgets import BudgetsPage, BudgetsParams
from schemas.errors import field_errors
from schemas.queries import QueryError
from service.instruments import LOOP_ERRORS
from streams import subjects
from streams.messages import CONTENT_TYPE, FAILED, JSON
from streams.services import leave, respond

log = structlog.get_logger(__name__)

NAME: Final = "budgets"
_HEADROOM: Final = 64 * 1024


class BudgetService:
    """A NATS micro service beside the warehouse's: what it tells is exact up to the ledger position it names."""

    def __init__(self, client: Client, page: Callable[[BudgetsParams], BudgetsPage]) -> None:
        self._client = client
        self._page = page
        self._service: Service | None = None

    async def start(self) -> None:
        """Begins to answer."""
        self._service = await micro.add_service(
            self._client, name="agentops-budget", version="1.0.0", description="How budgets stand, from the ledger as it grows"
        )
        await self._service.add_endpoint(name=NAME, subject=subjects.query(NAME), handler=self._answer)

    async def stop(self) -> None:
        """Answers no more."""
        service, self._service = self._service, None
        await leave(service, self._client)

    async def _answer(self, request: Request) -> None:
        headers = {CONTENT_TYPE: JSON}
        try:
            params = BudgetsParams.model_validate_json(request.data or b"{}")
            data = self._page(params).model_dump_json(exclude_none=True).encode()
            most = (self._client.max_payload or 0) - _HEADROOM
            if len(data) > most:
                data = _refused(f"the answer has {len(data):,} bytes, at most {most:,} can be sent: ask for one tenant")
                headers[FAILED] = "1"
        except ValidationError as error:
            data = _refused("the parameters are not valid", field_errors(error))
            headers[FAILED] = "1"
        except Exception as error:
            LOOP_ERRORS.labels("query").inc()
            log.exception("query.failed", query=NAME)
            data = _refused(f"the query failed: {type(error).__name__}")
            headers[FAILED] = "1"
        await respond(request, data, headers)


def _refused(message: str, errors: tuple[object, ...] = ()) -> bytes:
    return QueryError(query=NAME, message=message, errors=errors).model_dump_json(exclude_none=True).encode()  # type: ignore[arg-type]

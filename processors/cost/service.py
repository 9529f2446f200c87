"""``cost.<user>.prices`` and ``cost.<user>.corrections``: a NATS micro service for changes of money.

Who asks is the subject's user token, which publish permission pins. Every change leaves an audit record before it is answered.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import nats.errors
import structlog
from nats import micro
from nats.aio.client import Client
from nats.micro.request import Request
from nats.micro.service import Service
from pydantic import BaseModel, ValidationError

from processors.cost.changing import Refused
from processors.cost.corrections import Corrections
from processors.cost.prices import Prices
from schemas.commands import AuditRecord
from schemas.corrections import CorrectionAnswer, CorrectionRequest
from schemas.errors import FieldError, field_errors
from schemas.ids import derived_text
from schemas.prices.overrides import PriceChange, PriceChanged
from schemas.queries import QueryError
from service.instruments import LOOP_ERRORS
from streams import subjects
from streams.covering import FencedError
from streams.messages import CONTENT_TYPE, JSON
from streams.prices import UnknownVersionError
from streams.publish import publish_until_stored
from streams.services import leave, reply

log = structlog.get_logger(__name__)

VERSION: Final = "1.0.0"
EVERYBODY: Final = "all-tenants"
"""Stands for the tenant in audit subjects of what concerns every tenant."""
PRICES: Final = "prices"
LEDGER: Final = "ledger"
"""What stands for the agent in audit subjects."""
_STORED_S: Final = 20.0


class RefusedError(ValueError):
    """A request is not carried out. Trying again unchanged does not help."""

    def __init__(self, message: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(message)
        self.errors = errors


class CostService:
    """Answers requests to change money."""

    def __init__(self, client: Client, prices: Prices, instance: str) -> None:
        self._client = client
        self._prices = prices
        self._corrections = Corrections(client, instance)
        self._service: Service | None = None
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Begins to answer; of several instances one is asked."""
        self._service = await micro.add_service(
            self._client, name="agentops-cost", version=VERSION, description="Changes of prices, corrections of the ledger"
        )
        for name, subject, answer in (
            ("prices", subjects.COST_PRICES, self._price_change),
            ("corrections", subjects.COST_CORRECTIONS, self._correction),
        ):
            await self._service.add_endpoint(name=name, subject=subject, handler=self._handler(name, answer))

    async def stop(self) -> None:
        """Answers no more."""
        service, self._service = self._service, None
        await leave(service, self._client)

    def _handler(self, name: str, answer: Callable[[bytes, str], Awaitable[BaseModel]]) -> Callable[[Request], Awaitable[None]]:
        async def handle(request: Request) -> None:
            user = request.subject.split(".")[1]
            found: BaseModel
            try:
                found = await answer(request.data, user)
            except ValidationError as error:
                found = QueryError(query=name, message="the request is not valid", errors=field_errors(error))
            except RefusedError as error:
                found = QueryError(query=name, message=str(error), errors=error.errors)
            except (nats.errors.Error, TimeoutError, OSError, FencedError) as error:
                found = QueryError(query=name, message=f"not now ({error!r}): asking the same again is safe")
            except Exception as error:
                LOOP_ERRORS.labels("cost_service").inc()
                log.exception("cost_service.failed", endpoint=name)
                found = QueryError(query=name, message=f"failed: {type(error).__name__}")
            await reply(request, found)

        return handle

    async def _price_change(self, data: bytes, user: str) -> PriceChanged:
        wanted = PriceChange.model_validate_json(data)
        now = datetime.now(UTC)

        async def told(changed: PriceChanged) -> None:
            tenant = wanted.override.tenant if wanted.override is not None and wanted.override.tenant is not None else EVERYBODY
            params: dict[str, Any] = {"change": changed.change, "revision": changed.revision, "version": changed.version}
            if wanted.override is not None:
                params["override"] = wanted.override.model_dump(mode="json", exclude_none=True)
            audit_id = derived_text("audit", PRICES, wanted.change_id)
            await self._audit(audit_id, tenant, PRICES, user, f"prices.{wanted.action}", params, wanted.reason, now)

        async with self._changing, asyncio.timeout(_STORED_S):
            found = await self._prices.make(wanted, user, now, told)
        if isinstance(found, Refused):
            raise RefusedError(found.why, (FieldError(loc=found.loc, msg=found.why),))
        return found

    async def _correction(self, data: bytes, user: str) -> CorrectionAnswer:
        request = CorrectionRequest.model_validate_json(data)
        now = datetime.now(UTC)
        book = None
        if request.version is not None:
            try:
                book = await self._prices.version(request.version)
            except UnknownVersionError as error:
                raise RefusedError(f"{error}: `agentops prices history` lists them") from error
        async with asyncio.timeout(_STORED_S):
            answer = await self._corrections.carry_out(request, book, user, now)
            params = {
                "correction_id": request.correction_id, "version": request.version, "asked": len(request.entries),
                "corrected": answer.corrected, "before_usd": format(answer.before_usd, "f"), "after_usd": format(answer.after_usd, "f"),
                "first_entry": request.entries[0].entry_id,
            }  # fmt: skip
            # The same request asked again (the answer was lost) tells the same record again.
            first, last = request.entries[0].entry_id, request.entries[-1].entry_id
            audit_id = derived_text("audit", LEDGER, request.correction_id, first, last, str(answer.corrected))
            await self._audit(audit_id, request.tenant, LEDGER, user, f"ledger.{request.action}", params, request.reason, now)
        return answer

    async def _audit(
        self, audit_id: str, tenant: str, what: str, user: str, action: str, params: Mapping[str, Any], reason: str, now: datetime
    ) -> None:
        record = AuditRecord(
            audit_id=audit_id, at=now, tenant_id=tenant, agent_id=what, actor=user, action=action, params=dict(params),
            outcome="success", reason=reason,
        )  # fmt: skip
        data = record.model_dump_json(exclude_none=True).encode()
        await publish_until_stored(
            self._client, subjects.audit(tenant, what), data, message_id=audit_id, headers={CONTENT_TYPE: JSON}
        )

"""``content.<user>.policy``: a NATS micro service that changes content policies, and leaves an audit record of each change.

Who asks is the subject's user token, which publish permission pins.
"""

import asyncio
from datetime import UTC, datetime
from typing import Final

import nats.errors
import structlog
from nats import micro
from nats.aio.client import Client
from nats.micro.request import Request
from nats.micro.service import Service
from pydantic import BaseModel, ValidationError

from privacy.patterns import UnusablePatternError, made
from schemas.commands import AuditRecord
from schemas.content import ContentChange, ContentChanged, ContentPolicy
from schemas.errors import FieldError, field_errors
from schemas.ids import derived_text
from schemas.queries import QueryError
from service.instruments import LOOP_ERRORS
from streams import subjects, topology
from streams.kv import BucketMissingError, ChangedMeanwhileError, TypedBucket
from streams.messages import CONTENT_TYPE, JSON
from streams.publish import publish_until_stored
from streams.services import leave, reply

log = structlog.get_logger(__name__)

VERSION: Final = "1.0.0"
NAME: Final = "content"
"""Stands for the agent in audit subjects."""
_STORED_S: Final = 20.0


class PolicyService:
    """Answers requests to change a policy; of several instances one is asked."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._service: Service | None = None

    async def start(self) -> None:
        """Begins to answer."""
        self._service = await micro.add_service(
            self._client, name="agentops-content", version=VERSION, description="Changes of content policies"
        )
        await self._service.add_endpoint(name="policy", subject=subjects.CONTENT_POLICY, handler=self._handle)

    async def stop(self) -> None:
        """Answers no more."""
        service, self._service = self._service, None
        await leave(service, self._client)

    async def _handle(self, request: Request) -> None:
        answer: BaseModel
        try:
            async with asyncio.timeout(_STORED_S):
                answer = await self._change(ContentChange.model_validate_json(request.data), request.subject.split(".")[1])
        except ValidationError as error:
            answer = QueryError(query=NAME, message="the request is not valid", errors=field_errors(error))
        except UnusablePatternError as error:
            answer = QueryError(query=NAME, message=str(error), errors=(FieldError(loc="$.patterns", msg=str(error)),))
        except ChangedMeanwhileError:
            answer = QueryError(query=NAME, message="somebody else changed this policy meanwhile: look at it, and ask again")
        except (nats.errors.Error, BucketMissingError, TimeoutError, OSError) as error:
            answer = QueryError(query=NAME, message=f"not now ({error!r}): asking the same again is safe")
        except Exception as error:
            LOOP_ERRORS.labels("policy_service").inc()
            log.exception("policy_service.failed")
            answer = QueryError(query=NAME, message=f"failed: {type(error).__name__}")
        await reply(request, answer)

    async def _change(self, wanted: ContentChange, user: str) -> ContentChanged:
        """The policy as it is from now on. Raises what ``_handle`` tells of."""
        made(wanted.patterns)
        now = datetime.now(UTC)
        policy = ContentPolicy(
            tenant_id=wanted.tenant_id, mode=wanted.mode, kinds=wanted.kinds, patterns=wanted.patterns, updated_at=now,
            updated_by=user, reason=wanted.reason,
        )  # fmt: skip
        bucket = await TypedBucket.open(self._client, topology.CONTENT, ContentPolicy)
        before = await bucket.get(wanted.tenant_id)
        if wanted.revision != (0 if before is None else before.revision):
            raise ChangedMeanwhileError(wanted.tenant_id)
        # First the record: a change nobody can find out about would be worse than a record of one that failed.
        await self._audit(wanted, None if before is None else before.value, user, now)
        revision = await bucket.update(wanted.tenant_id, policy, wanted.revision)
        log.info("policy.changed", tenant=wanted.tenant_id, mode=policy.mode, by=user, patterns=len(policy.patterns))
        return ContentChanged(policy=policy, revision=revision)

    async def _audit(self, wanted: ContentChange, before: ContentPolicy | None, user: str, now: datetime) -> None:
        audit_id = derived_text("audit", NAME, wanted.change_id)
        record = AuditRecord(
            audit_id=audit_id, at=now, tenant_id=wanted.tenant_id, agent_id=NAME, actor=user, action="content.set",
            params={
                "mode": wanted.mode, "before": "off" if before is None else before.mode, "kinds": list(wanted.kinds),
                "patterns": [each.model_dump() for each in wanted.patterns],
            },
            outcome="success", reason=wanted.reason,
        )  # fmt: skip
        await publish_until_stored(
            self._client, subjects.audit(wanted.tenant_id, NAME), record.model_dump_json(exclude_none=True).encode(),
            message_id=audit_id, headers={CONTENT_TYPE: JSON},
        )  # fmt: skip

"""A NATS micro service through which people change the values of one bucket: judged, audited, then written."""

import asyncio
from datetime import UTC, datetime
from typing import Any, Final, Generic

import nats.errors
import orjson
import structlog
from nats import micro
from nats.aio.client import Client
from nats.micro.request import Request
from nats.micro.service import Service
from pydantic import BaseModel, ValidationError

from schemas.changes import RecordChange, RecordChanged
from schemas.commands import AuditRecord
from schemas.errors import FieldError, field_errors
from schemas.ids import derived_text
from schemas.queries import QueryError
from service.instruments import LOOP_ERRORS
from streams import subjects
from streams.kv import BucketMissingError, ChangedMeanwhileError, TypedBucket, Value
from streams.messages import CONTENT_TYPE, JSON
from streams.publish import NotStoredError, publish_until_stored
from streams.services import leave, reply

log = structlog.get_logger(__name__)

VERSION: Final = "1.0.0"
_STORED_S: Final = 20.0
_TOKENS: Final = 3


class RecordChanges(Generic[Value]):
    """Answers on ``<word>.<user>.<tenant>``; of several instances one is asked. A value's key is ``<tenant>.<record id>``.

    What is audited is ``<word>.set`` or ``<word>.delete`` of the stand-in agent ``<word>``, by the user, with the value.
    """

    def __init__(self, client: Client, word: str, bucket: str, model: type[Value], id_field: str) -> None:
        self._client = client
        self._word = word
        self._bucket = bucket
        self._model = model
        self._id_field = id_field
        self._service: Service | None = None

    async def start(self) -> None:
        """Begins to answer."""
        self._service = await micro.add_service(
            self._client, name=f"agentops-{self._word}", version=VERSION, description=f"Changes of {self._word}"
        )
        await self._service.add_endpoint(name="change", subject=subjects.changes(self._word), handler=self._handle)

    async def stop(self) -> None:
        """Answers no more."""
        service, self._service = self._service, None
        await leave(service, self._client)

    async def _handle(self, request: Request) -> None:
        answer: BaseModel
        try:
            async with asyncio.timeout(_STORED_S):
                _, user, tenant = request.subject.split(".")
                answer = await self._change(RecordChange.model_validate_json(request.data), user, tenant)
        except ValidationError as error:
            answer = self._refused("the request is not valid", field_errors(error))
        except ChangedMeanwhileError:
            answer = self._refused("somebody else changed this meanwhile: look at it, and ask again")
        except (nats.errors.Error, NotStoredError, BucketMissingError, TimeoutError, OSError) as error:
            answer = self._refused(f"not now ({error!r}): asking the same again is safe")
        except Exception as error:
            LOOP_ERRORS.labels(f"{self._word}_changes").inc()
            log.exception("changes.failed", of=self._word)
            answer = self._refused(f"failed: {type(error).__name__}")
        await reply(request, answer)

    def _refused(self, message: str, errors: tuple[FieldError, ...] = ()) -> QueryError:
        return QueryError(query=self._word, message=message, errors=errors)

    async def _change(self, wanted: RecordChange, user: str, tenant: str) -> RecordChanged:
        now = datetime.now(UTC)
        value = None if wanted.value is None else self._made(wanted, user, tenant, now)
        bucket = await TypedBucket.open(self._client, self._bucket, self._model)
        key = f"{tenant}.{wanted.record_id}"
        if wanted.revision != await bucket.revision(key):
            raise ChangedMeanwhileError(key)
        if value is None and wanted.revision == 0:
            return RecordChanged(record_id=wanted.record_id, revision=0)
        # First the record: a change nobody can find out about would be worse than a record of one that failed.
        await self._audit(wanted, value, user, tenant, now)
        if value is None:
            await bucket.delete(key, wanted.revision)
            revision = 0
        else:
            revision = await bucket.update(key, value, wanted.revision)
        log.info("record.changed", of=self._word, key=key, by=user, removed=value is None)
        return RecordChanged(record_id=wanted.record_id, revision=revision)

    def _made(self, wanted: RecordChange, user: str, tenant: str, now: datetime) -> Value:
        """The value as it is to be written; whose it is and who wrote it is not the asker's to say. Raises ValidationError."""
        own: dict[str, Any] = {"tenant_id": tenant, self._id_field: wanted.record_id}
        if "updated_by" in self._model.model_fields:
            own |= {"updated_by": user, "updated_at": now.isoformat()}
        return self._model.model_validate_json(orjson.dumps({**(wanted.value or {}), **own}))

    async def _audit(self, wanted: RecordChange, value: Value | None, user: str, tenant: str, now: datetime) -> None:
        audit_id = derived_text("audit", self._word, tenant, wanted.change_id)
        record = AuditRecord(
            audit_id=audit_id, at=now, tenant_id=tenant, agent_id=self._word, actor=user,
            action=f"{self._word}.{'delete' if value is None else 'set'}",
            params={self._id_field: wanted.record_id} if value is None else value.model_dump(mode="json", exclude_none=True),
            outcome="success", reason=wanted.reason,
        )  # fmt: skip
        await publish_until_stored(
            self._client, subjects.audit(tenant, self._word), record.model_dump_json(exclude_none=True).encode(),
            message_id=audit_id, headers={CONTENT_TYPE: JSON},
        )  # fmt: skip

"""Which dead letters were published again, when and by whom, as AUDIT tells."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final
from uuid import uuid4

import nats.js.errors
from nats.aio.client import Client
from pydantic import ValidationError

from schemas.commands import AuditRecord
from schemas.dead_letters import DeadLetter
from schemas.ids import is_token
from streams import subjects, topology
from streams.messages import CONTENT_TYPE, JSON
from streams.publish import publish
from streams.reader import OrderedReader, Source

ACTION: Final = "dead.replayed"
_LETTERS: Final = "letters"
_TOGETHER: Final = 1000
"""Letters told of in one record: some 40 kB."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """When a letter was last published again, and by whom."""

    at: datetime
    by: str


async def record(client: Client, letters: Iterable[DeadLetter], *, actor: str, person: str, now: datetime) -> None:
    """Tells AUDIT that ``letters`` were published again; raises NotStoredError."""
    for tenant, of_tenant in groupby(sorted(letters, key=lambda letter: letter.tenant_id), lambda letter: letter.tenant_id):
        ids = [letter.letter_id for letter in of_tenant]
        for first in range(0, len(ids), _TOGETHER):
            told = AuditRecord(
                audit_id=str(uuid4()), at=now, tenant_id=tenant if is_token(tenant) else subjects.UNKNOWN,
                agent_id=subjects.REPLAYS_AUDITED, actor=actor, action=ACTION,
                params={"person": person, _LETTERS: ids[first : first + _TOGETHER]}, outcome="success",
            )  # fmt: skip
            data = told.model_dump_json(exclude_none=True).encode()
            subject = subjects.audited_replays(tenant)
            await publish(client, subject, data, message_id=told.audit_id, headers={CONTENT_TYPE: JSON})


async def read(client: Client) -> Mapping[str, Replayed]:
    """What AUDIT tells now, by letter id; nothing where there is no AUDIT."""
    found: dict[str, Replayed] = {}
    wanted = subjects.audited_replays()
    try:
        info = await client.jsm().stream_info(topology.AUDIT, subjects_filter=wanted)
    except nats.js.errors.NotFoundError:
        return found
    if not sum((info.state.subjects or {}).values()):
        return found
    reader = OrderedReader(client, Source(topology.AUDIT, (wanted,)))
    try:
        while messages := await reader.fetch(200, 2.0):
            for message in messages:
                try:
                    told = AuditRecord.model_validate_json(message.data)
                except ValidationError:
                    continue
                for letter in told.params.get(_LETTERS, ()):
                    found[letter] = Replayed(told.at, str(told.params.get("person", told.actor)))
            if messages[-1].pending == 0:
                break
    finally:
        await reader.close()
    return found

"""Batches torn on purpose: a part is stored, its record is not, and nobody is answered."""

import asyncio
from dataclasses import dataclass, field

import pytest
from nats.aio.client import Client

from schemas.coverage import Coverage
from streams import torn
from streams.covering import CoveredWriter
from streams.outgoing import Outgoing
from streams.torn import Send


async def store_part(client: Client, batch_id: str, outputs: tuple[Outgoing, ...]) -> None:
    """Stores ``outputs`` as a torn batch leaves them: under the batch's id, in its order, without a record."""
    for number, out in enumerate(outputs, 1):
        headers = {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number), **out.headers}
        if number < len(outputs):
            await client.publish(out.subject, out.data, headers=headers)
        else:
            await client.request(out.subject, out.data, timeout=5, headers=headers | {"Nats-Batch-Commit": "1"})


def torn_id(coverage: Coverage, chance: str = "0123456789abcdef") -> str:
    """The id of the batch that ``coverage`` closes."""
    return torn.batch_id(coverage.processor, coverage.partition, coverage.last_sequence, chance)


@dataclass(slots=True)
class Tearing:
    """While it is armed, every batch of ``processor`` with two outputs or more is torn in the middle."""

    processor: str
    deadly: bool = False
    """Whether the writer never learns of it: its connection is gone, with its lease, and it does nothing more."""
    partition: int = 0
    armed: bool = True
    whole: bool = False
    """Whether every output is stored, and only the record is not."""
    happened: asyncio.Event = field(default_factory=asyncio.Event)
    stored: int = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on."""
        original = CoveredWriter._send

        async def send(writer: CoveredWriter, sending: Send) -> int:
            outputs = sending.outputs
            mine = (writer.processor, writer.partition) == (self.processor, self.partition)
            if not (self.armed and mine and len(outputs) > 1):
                return await original(writer, sending)
            self.armed = False
            part = outputs if self.whole else outputs[: len(outputs) // 2]
            await store_part(writer._client, torn_id(sending.coverage), part)
            self.stored = len(part)
            self.happened.set()
            if self.deadly:
                await writer._client.close()
                await asyncio.get_running_loop().create_future()
            raise TimeoutError

        monkeypatch.setattr(CoveredWriter, "_send", send)

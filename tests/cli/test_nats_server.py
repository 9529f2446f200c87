"""The NATS server of ``agentops up``: started again when it dies, and when it has become useless."""

import asyncio
import resource
from pathlib import Path

import psutil
import pytest

from agent_manager.cli.up.nats_server import OwnServer
from streams.apply import apply
from streams.connect import connect
from streams.publish import NotStoredError, publish
from tests.conftest import until


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="only Linux can limit the files of a running process")
async def test_a_server_whose_writes_failed_is_started_again_and_takes_messages_again(tmp_path: Path) -> None:
    """Its stream is out of service after one failed write, as after a full disk, although the process lives on."""
    said: list[str] = []
    server = OwnServer(tmp_path, None, said.append, lambda: None)
    await server.start()
    keeping = asyncio.create_task(server.keep(), name="keep")
    client = await connect(server.settings(), "test")
    try:
        await apply(client)
        await publish(client, "telemetry.acme.a.step", b"{}")
        broken = server.pid()
        assert broken is not None
        psutil.Process(broken).rlimit(resource.RLIMIT_FSIZE, (100, 100))
        with pytest.raises(NotStoredError):
            for _ in range(20):
                await publish(client, "telemetry.acme.a.step", b"x" * 10_000, timeout_s=0.5)
        await until(lambda: server.pid() not in {None, broken}, "another server", 20)

        async def stored() -> bool:
            try:
                return await publish(client, "telemetry.acme.a.step", b"{}", timeout_s=1) > 1
            except NotStoredError:
                return False

        await until(stored, "a message is acknowledged", 10)
        assert "started again" in said[0], said
    finally:
        await client.close()
        await server.stop(5)
        await keeping

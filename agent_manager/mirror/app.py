"""One mirror, put together."""

import asyncio

import structlog

from agent_manager.mirror.mirroring import Mirroring
from agent_manager.mirror.settings import MirrorSettings
from service.door import HealthDoor
from service.running import end
from service.signals import stop_event
from streams.settings import NatsSettings
from streams.waiting import Nats

log = structlog.get_logger(__name__)


async def serve(settings: MirrorSettings, nats_settings: NatsSettings) -> bool:
    """Runs a mirror until SIGTERM or SIGINT; whether that was why it ended. Raises OSError where the health port is taken."""
    until, nats = stop_event(), Nats(nats_settings, "mirror")
    mirroring = Mirroring(settings, nats)

    def waiting_for() -> dict[str, str]:
        missing = dict.fromkeys(mirroring.follower.unread, "not read yet")
        if nats.client is None:
            missing["nats"] = "not connected"
        if not mirroring.documents.whole or mirroring.away is not None:
            missing["firestore"] = mirroring.away or "not heard yet"
        return missing

    async def follow() -> None:
        await mirroring.follower.run(await nats.connect())

    door = HealthDoor("mirror", waiting_for, settings.health_host, settings.health_port)
    port = await door.start()
    log.info(
        "mirror.started", project=settings.project, tenant=settings.tenant, health_url=f"http://{settings.health_host}:{port}"
    )
    parts = (follow(), mirroring.documents.listen(), mirroring.run(), until.wait())
    tasks = [
        asyncio.create_task(part, name=name) for part, name in zip(parts, ("fleet", "listener", "writer", "stop"), strict=True)
    ]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await mirroring.close()
    await end(tasks, 2.0)
    await nats.close()
    await door.stop()
    if tasks[-1] not in done:
        log.error("mirror.task_died", tasks=sorted(task.get_name() for task in done))
        return False
    log.info("mirror.stopped")
    return True

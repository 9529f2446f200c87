"""The HTTP shell around an agent: one route that is a run, a health check, an orderly end."""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

import aiohttp
from aiohttp import web

from _shared.ids import read_traceparent
from _shared.models import ModelClient, ModelError
from _shared.runs import Run, describe, recorded_run
from _shared.settings import Settings
from _shared.telemetry import Outbox

logger = logging.getLogger(__name__)

MOST_IN_FLIGHT: Final = 64
MOST_BODY_BYTES: Final = 1_000_000
MODEL_TIMEOUT_S: Final = 60.0
_FINISH_S: Final = 0.7
_CANCEL_S: Final = 0.1
_FLUSH_S: Final = 0.6

Task = TypeVar("Task")


class BadRequestError(Exception):
    """The request can never be served as it is."""


class Agent(Protocol[Task]):
    """What an agent does: reads a request's body and performs it as a run."""

    path: str
    workflow_id: str

    def read(self, body: Mapping[str, Any]) -> Task:
        """The task asked for; raises BadRequestError where there is none."""

    async def perform(self, task: Task, run: Run, model: ModelClient) -> dict[str, Any]:
        """Does it, and returns the answer's fields."""


class _Shell:
    def __init__(self, settings: Settings, agent: Agent[Any], outbox: Outbox, model: ModelClient) -> None:
        self._settings = settings
        self._agent = agent
        self._outbox = outbox
        self._model = model
        self._running: set[asyncio.Task[web.Response]] = set()
        self._stopping = False

    def application(self) -> web.Application:
        application = web.Application(client_max_size=MOST_BODY_BYTES)
        application.router.add_get("/health", self._health)
        application.router.add_post(self._agent.path, self._handle)
        return application

    async def stop(self) -> None:
        """Lets runs finish for 0.7 s, then cancels them; each ends with an event and an answer either way."""
        self._stopping = True
        if self._running:
            await asyncio.wait(self._running, timeout=_FINISH_S)
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=_CANCEL_S)

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _handle(self, request: web.Request) -> web.Response:
        if self._stopping or len(self._running) >= MOST_IN_FLIGHT:
            return _failure(503, "unavailable", "stopping" if self._stopping else f"{MOST_IN_FLIGHT} requests are in flight")
        try:
            body = json.loads(await request.read())
            if not isinstance(body, dict):
                raise BadRequestError("the body must be a JSON object")
            task = self._agent.read(body)
        except ValueError:
            return _failure(400, "bad_request", "the body is not JSON")
        except BadRequestError as error:
            return _failure(400, "bad_request", str(error))
        running = asyncio.create_task(self._run(task, request.headers.get("traceparent")), name="run")
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        try:
            return await running
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            return _failure(503, "unavailable", "the agent is stopping")

    async def _run(self, task: Any, traceparent: str | None) -> web.Response:
        run_id: dict[str, str] = {}
        try:
            with recorded_run(self._settings, self._outbox, self._agent.workflow_id, read_traceparent(traceparent)) as run:
                run_id = {"run_id": run.run_id, "trace_id": run.trace_id}
                answer = await self._agent.perform(task, run, self._model)
        except ModelError as error:
            logger.warning("run %s failed: %s: %s", run_id["run_id"], error.kind, error)
            return _failure(502, error.kind, str(error), run_id)
        except Exception as error:  # noqa: BLE001
            # A request is the edge here: one that fails must not take the others with it. No traceback in the
            # log: its last line would be the error's text, which may quote the request.
            logger.error("run %s failed: %s %s", run_id.get("run_id"), type(error).__name__, describe(error)["message"])
            return _failure(500, "internal_error", "the agent failed", run_id)
        return web.json_response({**answer, **run_id})


def _failure(status: int, kind: str, message: str, more: Mapping[str, str] | None = None) -> web.Response:
    headers = {"Retry-After": "1"} if status == 503 else None
    return web.json_response({"error": {"type": kind, "message": message}, **(more or {})}, status=status, headers=headers)


async def _serve(settings: Settings, agent: Agent[Any]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    outbox = Outbox(settings.sidecar_url)
    outbox.start()
    timeout = aiohttp.ClientTimeout(total=MODEL_TIMEOUT_S, connect=5.0)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        shell = _Shell(settings, agent, outbox, ModelClient(settings, session))
        runner = web.AppRunner(shell.application(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", settings.port).start()
        print(f"{settings.agent_id} listening on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await stop.wait()
        await shell.stop()
        await runner.cleanup()
    await outbox.close(_FLUSH_S)


def serve(settings: Settings, agent: Agent[Any]) -> None:
    """Serves ``agent`` on loopback until SIGTERM or SIGINT; stops within two seconds, events sent first."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(settings, agent))

"""Asking: one loop a probe, for as long as the sidecar runs."""

import asyncio
import time
from collections.abc import Callable, Sequence

import aiohttp
import structlog
from yarl import URL

from schemas.sections import Check
from schemas.state import ProbeConfig
from service.instruments import LOOP_ERRORS, PROBE_FAILURES
from sidecar.probes import Answer, Health, Standing, check, failing_since, judge, name_of, overall
from sidecar.process import state

log = structlog.get_logger(__name__)


class Prober:
    """Probes the agent at ``target`` and as a process; ``changed`` is called whenever a verdict changes."""

    def __init__(
        self,
        target: str,
        probes: Sequence[ProbeConfig],
        agent_pid: Callable[[], int | None],
        changed: Callable[[], None],
        *,
        grace_s: float,
    ) -> None:
        self._target = target.rstrip("/")
        self._url = URL(target)
        self._agent_pid = agent_pid
        self._changed = changed
        self._probes = {self._unique(probes, index): probe for index, probe in enumerate(probes)}
        self._standings = {name: Standing() for name in self._probes}
        self._grace_ends = time.monotonic() + grace_s

    @staticmethod
    def _unique(probes: Sequence[ProbeConfig], index: int) -> str:
        name = name_of(probes[index])
        same = [other for other in probes[:index] if name_of(other) == name]
        return f"{name} #{len(same) + 1}" if same else name

    def checks(self) -> tuple[Check, ...]:
        """The latest answer of each probe."""
        return tuple(check(self._probes[name], standing) for name, standing in self._standings.items())

    def health(self, ended: str | None) -> Health:
        """All probes together; ``ended`` says how the agent's process ended, if it did."""
        return overall(self._standings, ended)

    def failing_for_s(self) -> float | None:
        """How long what the probes condemn the agent for has lasted; None where they do not."""
        since = failing_since(self._standings.values())
        return None if since is None else time.monotonic() - since

    async def run(self) -> None:
        """Probes until cancelled."""
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            asyncio.TaskGroup() as group,
        ):
            for name, probe in self._probes.items():
                group.create_task(self._repeat(session, name, probe), name=f"probe {name}")

    async def _repeat(self, session: aiohttp.ClientSession, name: str, probe: ProbeConfig) -> None:
        while True:
            began_at = time.monotonic()
            try:
                self._judge(name, probe, await self._ask(session, probe))
            except Exception:
                LOOP_ERRORS.labels("probe").inc()
                log.exception("probe.broken", probe=name)
            waiting = self._standings[name].verdict == "starting"
            # An agent that comes up is seen at once, not an interval later.
            interval = min(probe.interval_s, 0.1) if waiting else probe.interval_s
            await asyncio.sleep(max(0.01, interval - (time.monotonic() - began_at)))

    def _judge(self, name: str, probe: ProbeConfig, answer: Answer) -> None:
        before = self._standings[name]
        in_grace = time.monotonic() < self._grace_ends
        standing = self._standings[name] = judge(before, answer, probe, in_grace=in_grace)
        if not answer.ok:
            PROBE_FAILURES.labels(name).inc()
        if standing.verdict != before.verdict:
            log.info("probe.changed", probe=name, was=before.verdict, now=standing.verdict, error=answer.error)
            self._changed()

    async def _ask(self, session: aiohttp.ClientSession, probe: ProbeConfig) -> Answer:
        began_at = time.monotonic()
        try:
            async with asyncio.timeout(probe.timeout_s):
                error = await self._problem(session, probe)
        except TimeoutError:
            error = f"no answer within {probe.timeout_s:g} s"
        except (aiohttp.ClientError, OSError) as failure:
            error = str(failure) or type(failure).__name__
        latency_ms = round((time.monotonic() - began_at) * 1000, 3)
        return Answer(error is None, latency_ms, error, time.monotonic())

    async def _problem(self, session: aiohttp.ClientSession, probe: ProbeConfig) -> str | None:
        match probe.kind:
            case "http":
                async with session.get(URL(self._target + probe.path, encoded=True), allow_redirects=False) as response:
                    return None if 200 <= response.status < 400 else f"HTTP {response.status}"
            case "tcp":
                _, writer = await asyncio.open_connection(self._url.host, self._url.port)
                writer.close()
                return None
            case "process":
                pid = self._agent_pid()
                return "no process" if pid is None else state(pid)

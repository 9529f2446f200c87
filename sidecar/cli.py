"""The command line of a sidecar: ``python -m sidecar``, ``agentops sidecar``."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from schemas.errors import field_errors
from service import logs
from service.running import run
from sidecar.app import serve
from sidecar.listener import CannotStartError
from sidecar.settings import SidecarSettings
from streams.settings import NatsSettings


def parser() -> argparse.ArgumentParser:
    """The options. Every one may also be given as the environment variable AGENTOPS_SIDECAR_<OPTION>."""
    found = argparse.ArgumentParser(
        prog="agentops sidecar",
        usage="%(prog)s --agent-id ID --tenant TENANT [options] (--command CMD … | -- CMD … | --url URL)",
        description="Runs beside one agent: probes, measures and proxies it, takes its events, enforces faults.",
        epilog="NATS is found by NATS_URL, NATS_USER, NATS_PASSWORD and so on; where it is away, events wait on disk.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = found.add_argument
    add("--agent-id", metavar="ID", help="1 to 64 of A-Z a-z 0-9 _ -")
    add("--tenant", metavar="T", help="tenant the agent belongs to")
    add("--workspace", metavar="W")
    add("--project", metavar="P")
    add("--name", help="shown to people (default: the agent's id)")
    add("--version", help="version of the agent")
    add("--agent-type", metavar="TYPE")
    add("--command", nargs=argparse.REMAINDER, metavar="CMD", help="the agent's command: everything after this")
    add("--url", help="an agent that runs already, instead of a command")
    add("--pid", type=int, help="with --url: the agent's process on this machine")
    add("--port", type=int, help="the agent's own port, told to it as PORT (default 0: a free one)")
    add("--proxy-port", type=int, metavar="PORT", help="where the proxy listens (default 0: a free one)")
    add("--door-port", type=int, metavar="PORT", help="where POST /v1/events listens (default 0: a free one)")
    add("--otlp-port", type=int, metavar="PORT", help="where OTLP/HTTP listens besides the door (default: only at the door)")
    add("--otlp-grpc-port", type=int, metavar="PORT", help="where OTLP/gRPC listens (default: nowhere)")
    add(
        "--metering",
        action="append",
        metavar="PROVIDER",
        help="meter the agent's calls of this model provider: openai, anthropic, gemini, …; repeatable (default: none)",
    )
    add("--metering-port", type=int, metavar="PORT", help="where the metering proxy listens (default 0: a free one)")
    add("--host", help="address of proxy and doors (default 127.0.0.1)")
    add("--advertise", metavar="HOST", help="host name under which others reach the proxy")
    add(
        "--probe",
        dest="probes",
        action="append",
        metavar="SPEC",
        help="http[:/path] | tcp | process, then [:interval=1,timeout=2,failures=3,successes=1]; or a ProbeConfig as JSON; "
        "repeatable (default: process, or tcp with --url)",
    )
    add("--heartbeat", dest="heartbeat_s", type=float, metavar="SECONDS", help="between heartbeats (default 5)")
    add(
        "--stuck-after",
        dest="stuck_after_s",
        type=float,
        metavar="SECONDS",
        help="no step for so long with a run open: STUCK; 0 never (default 600)",
    )
    add("--stuck-repeats", type=int, metavar="N", help="the same steps repeated more often: STUCK; 0 never (default 20)")
    add("--start-grace", dest="start_grace_s", type=float, metavar="SECONDS", help="patience with a starting agent (default 10)")
    add("--stop-timeout", dest="stop_timeout_s", type=float, metavar="SECONDS", help="from TERM to KILL (default 5)")
    add("--data", metavar="DIR", help="data directory (default $AGENTOPS_DATA, else ./data)")
    add("--working-directory", metavar="DIR", help="where the command runs")
    add("--restarted", metavar="REASON", help="why this instance takes the place of an earlier one")
    return found


def split(argv: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The sidecar's own arguments, and the agent's command: all that follows the first ``--command`` or ``--``.

    One word with spaces in it is a command line as a shell would read it.
    """
    arguments = list(argv)
    marks = [arguments.index(mark) for mark in ("--command", "--") if mark in arguments]
    if not marks:
        return arguments, ()
    own, command = arguments[: min(marks)], arguments[min(marks) + 1 :]
    if command[:1] == ["--"]:
        command = command[1:]
    if len(command) == 1 and " " in command[0]:
        command = shlex.split(command[0])
    return own, tuple(command)


_OPTION = {
    "heartbeat_s": "heartbeat",
    "stuck_after_s": "stuck-after",
    "start_grace_s": "start-grace",
    "stop_timeout_s": "stop-timeout",
    "probes": "probe",
}


def _option(loc: str) -> str:
    """The option of a setting; those that have none are environment variables."""
    name = loc.removeprefix("$").removeprefix(".").partition("[")[0]
    if name in {"spool_max_bytes", "spool_sync", "log_level", "log_lines_per_s", "log_burst"} or name.startswith("upstream_"):
        return f"AGENTOPS_SIDECAR_{name.upper()}"
    return f"--{_OPTION.get(name, name.replace('_', '-'))}" if name else "options"


def read(argv: Sequence[str]) -> SidecarSettings:
    """The settings in ``argv`` and the environment; exits with 2 and the reason where they are wrong."""
    found = parser()
    own, command = split(argv)
    given: dict[str, Any] = vars(found.parse_args(own))
    given.pop("command", None)
    if command:
        given["command"] = command
    try:
        settings = SidecarSettings(**given)
    except ValidationError as error:
        found.error("; ".join(one.told(_option(one.loc)) for one in field_errors(error)))
    if bool(settings.command) == bool(settings.url):
        found.error("give either the agent's --command or its --url")
    if settings.pid is not None and settings.url is None:
        found.error("--pid goes with --url: the process of a --command is known")
    if settings.url is not None and not settings.url.startswith(("http://", "https://")):
        found.error("--url begins with http:// or https://")
    return settings


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a sidecar until SIGTERM or SIGINT; returns the exit code: 0 stopped as asked, 1 could not start or failed, 2 wrong use."""
    settings = read(sys.argv[1:] if argv is None else argv)
    logs.configure("sidecar")
    try:
        asked = run(serve(settings, NatsSettings()))
    except CannotStartError as error:
        print(f"sidecar of {settings.agent_id}: {error}", file=sys.stderr)
        return 1
    return 0 if asked else 1

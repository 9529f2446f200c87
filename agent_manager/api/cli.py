"""The command line of an API: ``python -m agent_manager.api``, ``agentops api``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from agent_manager.api.settings import PORT, ApiSettings
from schemas.errors import field_errors
from service import logs
from service.running import run
from streams.settings import NatsSettings


def parser() -> argparse.ArgumentParser:
    """The options. Every one may also be given as the environment variable AGENTOPS_API_<OPTION>."""
    found = argparse.ArgumentParser(
        prog="agentops api",
        description="Agents over HTTP, for whoever has an API key (`agentops keys create NAME --tenant T --role viewer`) or a token.",
        epilog="NATS is found by NATS_URL, NATS_USER, NATS_PASSWORD and so on; while it is away, requests are answered 503.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = found.add_argument
    add("--host", help="where to listen (default 127.0.0.1)")
    add("--port", type=int, help=f"0 takes a free one (default {PORT})")
    add("--tls-certificate", type=Path, metavar="FILE", help="speak HTTPS with this certificate")
    add("--tls-key", type=Path, metavar="FILE", help="and its key")
    add("--oidc-issuer", metavar="URL", help="take tokens of this OpenID provider, too")
    add("--oidc-audience", metavar="NAME", help="the audience its tokens for this API name")
    add("--oidc-jwks-url", metavar="URL", help="where its keys are (default: found by discovery)")
    add("--max-connections", type=int, metavar="N", help="at once (default 512)")
    add("--data", metavar="DIR", help="data directory of a running `agentops up`, to find its NATS; an API itself keeps nothing")
    return found


def read(argv: Sequence[str]) -> ApiSettings:
    """The settings in ``argv`` and the environment; exits with 2 and the reason where they are wrong."""
    found = parser()
    given = vars(found.parse_args(argv))
    given.pop("data", None)
    try:
        return ApiSettings(**given)
    except ValidationError as error:
        names = ((one, one.loc.removeprefix("$").removeprefix(".").replace("_", "-")) for one in field_errors(error))
        found.error("; ".join(one.told(f"--{name}" if name else "options") for one, name in names))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs an API until SIGTERM or SIGINT; returns the exit code: 0 stopped as asked, 1 could not start or failed, 2 wrong use."""
    settings = read(sys.argv[1:] if argv is None else argv)
    logs.configure("api")
    # Loaded here, so that --help does not wait for FastAPI.
    import uvloop  # noqa: PLC0415

    from agent_manager.api.app import CannotServeError, serve  # noqa: PLC0415

    try:
        asked = run(serve(settings, NatsSettings()), loop_factory=uvloop.new_event_loop)
    except CannotServeError as error:
        print(f"api: {error}", file=sys.stderr)
        return 1
    return 0 if asked else 1

"""The command line of a gateway: ``python -m sidecar.gateway``, ``agentops gateway``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from schemas.errors import field_errors
from service import logs
from service.running import run
from sidecar.gateway.settings import PORT, GatewaySettings
from sidecar.listener import CannotStartError
from streams.settings import NatsSettings


def parser() -> argparse.ArgumentParser:
    """The options. Every one may also be given as the environment variable AGENTOPS_GATEWAY_<OPTION>."""
    found = argparse.ArgumentParser(
        prog="agentops gateway",
        description="Takes events of agents that have no sidecar, from whoever has an API key (`agentops keys create`).",
        epilog="NATS is found by NATS_URL, NATS_USER, NATS_PASSWORD and so on; while it is away, senders are answered 503.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = found.add_argument
    add("--host", help="where to listen (default 127.0.0.1)")
    add("--port", type=int, help=f"0 takes a free one (default {PORT})")
    add("--otlp-port", type=int, metavar="PORT", help="OTLP over HTTP (default 4318, where that is free)")
    add("--otlp-grpc-port", type=int, metavar="PORT", help="OTLP over gRPC (default 4317, where that is free)")
    add("--tls-certificate", type=Path, metavar="FILE", help="speak HTTPS with this certificate")
    add("--tls-key", type=Path, metavar="FILE", help="and its key")
    add("--events-per-s", type=float, metavar="N", help="of one tenant; beyond it 429 (default 5000)")
    add("--max-connections", type=int, metavar="N", help="at once (default 512)")
    add(
        "--data",
        metavar="DIR",
        help="data directory of a running `agentops up`, to find its NATS; a gateway itself keeps nothing",
    )
    return found


def read(argv: Sequence[str]) -> GatewaySettings:
    """The settings in ``argv`` and the environment; exits with 2 and the reason where they are wrong."""
    found = parser()
    given = vars(found.parse_args(argv))
    given.pop("data", None)
    try:
        return GatewaySettings(**given)
    except ValidationError as error:
        found.error(
            "; ".join(
                one.told(f"--{one.loc.removeprefix('$').removeprefix('.').replace('_', '-')}") for one in field_errors(error)
            )
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a gateway until SIGTERM or SIGINT; returns the exit code: 0 stopped as asked, 1 could not start or failed, 2 wrong use."""
    settings = read(sys.argv[1:] if argv is None else argv)
    logs.configure("gateway")
    # Loaded here, so that --help does not wait for FastAPI.
    import uvloop  # noqa: PLC0415

    from sidecar.gateway.app import serve  # noqa: PLC0415

    try:
        asked = run(serve(settings, NatsSettings()), loop_factory=uvloop.new_event_loop)
    except CannotStartError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    return 0 if asked else 1

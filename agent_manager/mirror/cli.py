"""The command line of a mirror: ``python -m agent_manager.mirror``, ``agentops mirror``."""

import argparse
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from agent_manager.mirror.settings import MirrorSettings
from schemas.errors import field_errors
from service import logs
from service.running import run
from streams.settings import NatsSettings


def parser() -> argparse.ArgumentParser:
    """The options. Every one may also be given as the environment variable AGENTOPS_MIRROR_<OPTION>."""
    found = argparse.ArgumentParser(
        prog="agentops mirror",
        description="Keeps a document of each agent in Firestore, and carries out what others ask by changing it.",
        epilog="NATS is found by NATS_URL, NATS_USER, NATS_PASSWORD and so on; FIRESTORE_EMULATOR_HOST names an emulator.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = found.add_argument
    add("--project", metavar="ID", help="the Google Cloud project")
    add("--tenant", metavar="TENANT", help="whose agents")
    add("--database", metavar="NAME", help="of the project (default: (default))")
    add("--collection", metavar="NAME", help="where the documents are (default agents)")
    add(
        "--data", metavar="DIR", help="data directory of a running `agentops up`, to find its NATS; a mirror itself keeps nothing"
    )
    return found


def read(argv: Sequence[str]) -> MirrorSettings:
    """The settings in ``argv`` and the environment; exits with 2 and the reason where they are wrong."""
    found = parser()
    given = vars(found.parse_args(argv))
    given.pop("data", None)
    try:
        return MirrorSettings(**given)
    except ValidationError as error:
        found.error("; ".join(one.told(f"--{one.loc.removeprefix('$').removeprefix('.')}") for one in field_errors(error)))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a mirror until SIGTERM or SIGINT; returns the exit code: 0 stopped as asked, 1 could not start or failed, 2 wrong use."""
    settings = read(sys.argv[1:] if argv is None else argv)
    logs.configure("mirror")
    try:
        from agent_manager.mirror.app import serve  # noqa: PLC0415 - Google's clients take seconds, and may be missing
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("google"):
            raise
        print("mirror: Google's clients are not installed: pip install 'agentops[google]'", file=sys.stderr)
        return 1
    try:
        asked = run(serve(settings, NatsSettings()))
    except (OSError, ValueError) as error:
        print(f"mirror: {error}", file=sys.stderr)
        return 1
    return 0 if asked else 1

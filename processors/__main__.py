"""``python -m processors [NAME…]``: the named processors, all by default, in this process."""

import argparse
import os
import sys
from collections.abc import Sequence

# Small batches: starting threads for them costs more than it gains. Read by polars when it is imported.
os.environ.setdefault("POLARS_MAX_THREADS", "1")

import uvloop

from processors.runner import ALL, RunnerSettings, serve
from service import logs
from service.running import run
from streams.connect import CannotConnectError
from streams.settings import NatsSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m processors", description="Run stream processors.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(ALL)} (default: all)")
    parser.add_argument("--data", metavar="DIR", help="data directory (default: AGENTOPS_DATA or ./data)")
    parser.add_argument("--health-port", type=int, metavar="N", help="health door; 0 takes any (default: AGENTOPS_HEALTH_PORT)")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in ALL]
    if unknown:
        parser.error(f"no such processor: {', '.join(unknown)} (there are {', '.join(ALL)})")
    names = tuple(dict.fromkeys(given.names)) or ALL
    overrides = {"data": given.data, "health_port": given.health_port}
    settings = RunnerSettings(**{key: value for key, value in overrides.items() if value is not None})
    logs.configure("processors" if names == ALL else "processors-" + "-".join(names))
    try:
        run(serve(names, settings, NatsSettings()), loop_factory=uvloop.new_event_loop)
    except (CannotConnectError, OSError, ValueError) as error:
        # ValueError: settings or rules that cannot be used say themselves what is wrong.
        print(f"processors: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

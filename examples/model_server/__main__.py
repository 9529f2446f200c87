"""``python -m examples.model_server --port N``: serves until SIGTERM or SIGINT."""

import argparse
import asyncio
import os
import random
import signal
from collections.abc import Sequence

from aiohttp import web

from examples.model_server.app import MODELS, ModelServer
from examples.model_server.pace import Pace


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.model_server", description="A local OpenAI-compatible model server."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port, printed at start")
    parser.add_argument("--seed", type=int, default=None, help="makes the latencies of one run repeatable")
    parser.add_argument(
        "--speed", type=_speed, default=os.environ.get("MODEL_SERVER_SPEED", "1"), help="2 is twice as fast (MODEL_SERVER_SPEED)"
    )
    parser.add_argument(
        "--model", action="append", dest="models", help=f"a model to serve, repeatable; default: {', '.join(MODELS)}"
    )
    return parser.parse_args(argv)


def _speed(text: str) -> float:
    speed = float(text)
    if not speed > 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return speed


async def serve(host: str, port: int, server: ModelServer) -> None:
    """Serves until a signal asks to stop; responses under way have one second to finish."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        print(f"model server listening on http://{host}:{runner.addresses[0][1]}/v1", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def main() -> None:
    asked = arguments()
    asyncio.run(serve(asked.host, asked.port, ModelServer(Pace(random.Random(asked.seed), asked.speed), asked.models or MODELS)))


if __name__ == "__main__":
    main()

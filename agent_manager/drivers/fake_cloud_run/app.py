"""The stand-in as a program."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from agent_manager.drivers.fake_cloud_run.cloud import Cloud
from agent_manager.drivers.fake_cloud_run.server import FakeCloudRun
from service.signals import stop_event

_WORDS = """\
Cloud Run's Admin API is played on {target}: nothing is kept, no container runs.
Point a manager at it:  AGENTOPS_CLOUD_RUN_ENDPOINT={target} agentops up
and give an agent an agent.yaml with
  driver: cloud_run
  cloud_run: {{project: {project}, region: {region}, {field}: {name}}}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="agentops dev fake-cloud-run", description="Play Cloud Run's Admin API, without an account."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8099, help="0 takes any (default: 8099)")
    parser.add_argument("--project", default="demo")
    parser.add_argument("--region", default="europe-west1")
    parser.add_argument("--service", action="append", metavar="NAME", help="a service that is deployed; may be repeated")
    parser.add_argument("--worker-pool", action="append", metavar="NAME", help="a worker pool that is deployed; may be repeated")
    parser.add_argument("--operation-seconds", type=float, default=2.0, metavar="S", help="how long a change takes (default: 2)")
    given = parser.parse_args(arguments)
    services, pools = given.service or [], given.worker_pool or []
    if not services and not pools:
        services = ["demo-agent"]

    async def serve() -> None:
        stop = stop_event()
        cloud = Cloud(operation_s=given.operation_seconds)
        place = f"projects/{given.project}/locations/{given.region}"
        for name in services:
            cloud.deploy(f"{place}/services/{name}")
        for name in pools:
            cloud.deploy(f"{place}/workerPools/{name}")
        server = FakeCloudRun(cloud)
        target = await server.start(given.host, given.port)
        field, name = ("service", services[0]) if services else ("worker_pool", pools[0])
        print(_WORDS.format(target=target, project=given.project, region=given.region, field=field, name=name), flush=True)
        try:
            await stop.wait()
        finally:
            await server.stop()

    try:
        asyncio.run(serve())
    except OSError as error:
        print(f"agentops dev fake-cloud-run: {error}", file=sys.stderr)
        return 1
    return 0

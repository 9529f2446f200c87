# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from pathlib import Path
from typing import Annotated

import typer


def up(
    demo: Annotated[bool, typer.Option("--demo", help="With two example agents, a local model server and a driver that keeps them busy.")] = False,
    data: Annotated[Path, typer.Option("--data", envvar="AGENTOPS_DATA", help="Where everything is kept.")] = Path("data"),
    nats_port: Annotated[int | None, typer.Option("--nats-port", min=1, max=65535, help="[default: last time's, else a free one]", show_default=False)] = None,
    dashboard_port: Annotated[int, typer.Option("--dashboard-port", min=1, max=65535)] = 8800,
    no_dashboard: Annotated[bool, typer.Option("--no-dashboard", help="Without the page.")] = False,
    gateway_port: Annotated[int | None, typer.Option("--gateway-port", min=1, max=65535, help="Where agents without sidecars send events. [default: 8810, where that is free]", show_default=False)] = None,
    no_gateway: Annotated[bool, typer.Option("--no-gateway", help="Without the gateway.")] = False,
    api_port: Annotated[int | None, typer.Option("--api-port", min=1, max=65535, help="Where the REST API is. [default: 8820, where that is free]", show_default=False)] = None,
    no_api: Annotated[bool, typer.Option("--no-api", help="Without the REST API.")] = False,
    agents: Annotated[Path | None, typer.Option("--agents", envvar="AGENTOPS_AGENTS", help="Folder of agent folders (agent.yaml) to run.", show_default=False)] = None,
) -> None:  # fmt: skip
    """Start the whole system and stay with it: NATS server, processors, agent manager, dashboard, gateway, REST API. Ctrl-C stops all of it, data is kept.

    With NATS_URL set, no server is started and that one is used.
    """
    from agent_manager.cli.up.app import start
    from service.leaving import leave

    start(
        demo=demo,
        data=data,
        nats_port=nats_port,
        dashboard_port=None if no_dashboard else dashboard_port,
        agents=agents,
        gateway_port=gateway_port,
        no_gateway=no_gateway,
        api_port=api_port,
        no_api=no_api,
    )
    leave(0)

"""Options that several commands share, with their help."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="AGENTOPS_DATA",
        help="Data directory of the system [default: ./data]",
        show_default=False,
        rich_help_panel="Connection",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
OneTenant = Annotated[str | None, typer.Option("--tenant", "-t", help="Tenant; needed only where an agent id exists in several.")]
ByTenant = Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the answer.")]

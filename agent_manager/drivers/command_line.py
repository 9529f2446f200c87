"""The command line of a sidecar, the leader of an agent's process group. Carries no secret: command lines are public."""

import sys
from collections.abc import Callable
from pathlib import Path

from agent_manager.drivers.driver import Ports
from schemas.state import AgentRecord

CommandLine = Callable[[AgentRecord, Ports, Path], list[str]]


def agent_command(record: AgentRecord) -> list[str]:
    """The agent's own command; a leading ``python`` means the interpreter that runs us."""
    first, *rest = record.command
    return [sys.executable if first in {"python", "python3"} else first, *rest]


def sidecar(record: AgentRecord, ports: Ports, data: Path) -> list[str]:
    """``python -m sidecar … -- COMMAND``."""
    line = [sys.executable, "-m", "sidecar", "--agent-id", record.agent_id, "--tenant", record.tenant_id]
    if record.workspace_id is not None:
        line += ["--workspace", record.workspace_id]
    if record.project_id is not None:
        line += ["--project", record.project_id]
    line += ["--name", record.name, "--version", record.version, "--agent-type", record.agent_type]
    line += ["--port", str(ports.agent), "--proxy-port", str(ports.proxy), "--door-port", str(ports.door)]
    for route in record.metering:
        line += ["--metering", route]
    for probe in record.probes:
        line += ["--probe", probe.model_dump_json()]
    line += ["--heartbeat", f"{record.heartbeat_interval_s:g}", "--stop-timeout", f"{record.stop_timeout_s:g}"]
    line += ["--stuck-after", f"{record.stuck.after_s:g}", "--stuck-repeats", str(record.stuck.repeats)]
    line += ["--data", str(data)]
    line += ["--working-directory", record.working_directory]
    return [*line, "--", *agent_command(record)]

"""What a sidecar ends with its agent: all that is left of it, and nobody else's process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from sidecar.agent_log import AgentLog

LEADER = """
import json, subprocess, sys
from sidecar import process
orphan = subprocess.run(["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"], capture_output=True, text=True, check=True)
print(int(orphan.stdout), flush=True)
sys.stdin.readline()
print(json.dumps([stray.pid for stray in process._strays()]), flush=True)
"""


def test_orphans_of_the_agent_are_found_and_the_rest_of_a_pipeline_is_not() -> None:
    """A shell puts ``tee`` of ``agentops sidecar … | tee log`` into the process group that the sidecar leads."""
    with subprocess.Popen(
        [sys.executable, "-c", LEADER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
    ) as leader:
        assert leader.stdout is not None
        orphan = int(leader.stdout.readline())
        with subprocess.Popen(["sleep", "600"], process_group=leader.pid) as beside:
            strays, _ = leader.communicate("\n")
            beside.kill()
        os.kill(orphan, signal.SIGKILL)
    assert json.loads(strays) == [orphan]


def test_a_log_that_cannot_be_rotated_goes_on_and_touches_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = AgentLog(tmp_path / "logs" / "agent.log", part_bytes=10)
    log.write(b"first part")
    moved = (tmp_path / "logs").rename(tmp_path / "away")
    with (tmp_path / "innocent").open("wb", buffering=0) as innocent:
        log.write(b"second")
        log.write(b"third")
        assert innocent.tell() == 0
    assert (moved / "agent.log").read_bytes() == b"first partsecondthird"
    (tmp_path / "away").rename(tmp_path / "logs")
    log.write(b"fourth")
    assert (tmp_path / "logs" / "agent.log").read_bytes() == b"fourth"
    log.close()

"""Every snippet of the documentation, and the example, run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.sidecar.running import Sidecar, Telemetry

ROOT: Final = Path(__file__).resolve().parents[2]
SNIPPETS: Final = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tracer.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs_in_an_agent_without_a_sidecar(number: int, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AGENT")} | {"PYTHONPATH": str(ROOT)}
    code = SNIPPETS[number].replace("AgentTracer()", 'AgentTracer(exporters=[], tenant="acme")')
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
        timeout=60,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) >= 6


async def test_the_example_reports_a_run_its_tool_and_its_call(sidecar: Sidecar, telemetry: Telemetry) -> None:
    await sidecar.start(command=[sys.executable, str(ROOT / "examples" / "traced_agent.py")], PYTHONPATH=str(ROOT))
    run = await telemetry.find("run.completed", run__workflow_id="answer", within_s=30)
    assert run["attributes"] == {"question_characters": 9}
    call = await telemetry.find("model_call.completed")
    assert call["resource_usage"]["input_tokens"] == 40
    assert (await telemetry.find("tool_call.completed"))["trace"]["trace_id"] == run["trace"]["trace_id"]

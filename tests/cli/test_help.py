import asyncio
import sys
import time
from pathlib import Path

import pytest

from tests.cli.calling import ROOT, agentops, begin, environment

GROUPS = ("agents", "faults", "events", "alerts", "budgets", "dead", "streams", "query")


async def test_help_loads_nothing_heavy() -> None:
    """The bound is CPU time of the process, so that a busy machine does not matter."""
    process = await begin("--help", variables={})
    out, err = await process.communicate()
    assert process.returncode == 0, err
    for group in (*GROUPS, "up", "doctor", "audit", "env", "version", "sidecar", "processors"):
        assert group in out.decode()
    code = (
        "import sys; sys.argv=['agentops','--help']\n"
        "from agent_manager.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('nats','pydantic','structlog','httpx','orjson') if m in sys.modules], file=sys.stderr)"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env=environment(), cwd=ROOT, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert err.decode().strip() == "[]"


async def test_every_group_explains_itself_with_an_example() -> None:
    said = await asyncio.gather(
        agentops("agents", "--help", variables={}),
        agentops("events", "publish", "--help", variables={}),
        agentops("query", "spend", "--help", variables={}),
    )
    assert [one.code for one in said] == [0, 0, 0], [one.err for one in said]
    assert "healing" in said[0].out
    assert "Example" in said[1].out
    assert "--by" in said[2].out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["agents", "start"], 2, "which agents?"),
        (["faults", "inject", "a", "error", "--rate", "3"], 2, "--rate"),
        (["faults", "inject", "a", "error", "--duration", "soon"], 2, "--duration"),
        (["query", "runs", "--limit", "0"], 2, "--limit"),
        (["query", "nonsense"], 2, "nonsense"),
        (["up", "--agents", "/nonexistent"], 1, "--agents"),
    ],
)
async def test_wrong_usage_is_one_sentence(arguments: list[str], code: int, told: str) -> None:
    said = await agentops(*arguments, variables={})
    assert told in said.failed(code)


async def test_without_a_system_every_command_says_how_to_get_one(tmp_path: Path) -> None:
    began = time.monotonic()
    said = await agentops("agents", "list", variables={"AGENTOPS_DATA": str(tmp_path)})
    assert "agentops up" in said.failed()
    assert time.monotonic() - began < 15
    said = await agentops("env", variables={"AGENTOPS_DATA": str(tmp_path)})
    assert "agentops up" in said.failed()


async def test_a_damaged_up_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text("{")
    said = await agentops("alerts", "list", variables={"AGENTOPS_DATA": str(tmp_path)})
    assert "up.json is damaged" in said.failed()

"""What the pages under docs/integrations say is run as it stands; only the port is another."""

import asyncio
import re
import tomllib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import until
from tests.integrations.environment import LOCK, interpreter
from tests.integrations.model_server import ANSWERING, ASKING, Usage
from tests.integrations.watching import Watched, watching
from tests.processors_cost.test_cost import priced
from tests.processors_validate.running import accepted, drained, ledger

PAGES: Final = Path(__file__).resolve().parents[2] / "docs" / "integrations"
BLOCK: Final = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BOTH: Final = ((ASKING, "0.000149600"), (ANSWERING, "0.000565800"))


@dataclass(frozen=True, slots=True)
class Page:
    """A page's files, and the commands that are to be run with them."""

    name: str
    files: dict[str, str]
    commands: tuple[str, ...]


def page(path: Path) -> Page:
    """What stands in the page at ``path``."""
    files, commands = {}, []
    for language, name, body in BLOCK.findall(path.read_text()):
        if language == "python":
            assert name, f"{path.name}: a Python block without a file's name is run by nobody"
            files[name] = body
        elif name == "run":
            commands.append(body)
    return Page(path.stem, files, tuple(commands))


PAGES_READ: Final = [page(path) for path in sorted(PAGES.glob("*.md")) if path.stem not in {"README", "any-sdk"}]
"""``any-sdk.md`` is run by test_metered.py, with a proxy."""
SAYS: Final[dict[str, tuple[tuple[Usage, str], ...]]] = {"openai-sdk": BOTH[1:], "otlp": BOTH[1:]}
"""What a page's calls come to where it is not the question about the weather, asked with a tool."""
RUNS: Final = {"openai-agents": 2}


@pytest.fixture(scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    python = await asyncio.to_thread(interpreter)
    async with watching(python, tmp_path_factory.mktemp("pages"), "--otlp-port", "0") as found:
        yield found


@pytest.mark.parametrize("page", PAGES_READ, ids=lambda page: page.name)
async def test_a_reader_who_does_what_the_page_says_sees_what_it_says(watched: Watched, page: Page, tmp_path: Path) -> None:
    for name, text in page.files.items():
        (tmp_path / name).write_text(text)
    known = {entry.entry_id for entry in await ledger(watched.client)}
    told = {event.event_id for event in await accepted(watched.client)}
    assert page.commands
    for command in page.commands:
        await watched.shell(command.replace("localhost:4318", f"127.0.0.1:{watched.sidecar.run['otlp_port']}"), tmp_path)

    async def over() -> bool:
        ended = [e for e in await accepted(watched.client) if e.event_id not in told and e.event_type == "run.completed"]
        return len(ended) == RUNS.get(page.name, 1)

    await until(over, f"the runs of {page.name} are over", 30)
    await drained(watched.client)
    await priced(watched.client)
    entries = sorted(
        (entry for entry in await ledger(watched.client) if entry.entry_id not in known), key=lambda entry: entry.occurred_at
    )
    assert [
        (
            Usage(one.input_tokens, one.output_tokens, one.cache_read_tokens, one.cache_write_tokens, one.reasoning_tokens),
            f"{one.cost_usd:f}",
        )
        for one in entries
    ] == list(SAYS.get(page.name, BOTH)) * RUNS.get(page.name, 1)


def test_the_index_names_every_page() -> None:
    index = (PAGES / "README.md").read_text()
    assert [path.name for path in PAGES.glob("*.md") if path.stem != "README" and f"]({path.name})" not in index] == []


def test_what_is_locked_is_what_the_project_asks_for() -> None:
    extras = tomllib.loads((PAGES.parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    locked = {line.split("==")[0] for line in LOCK.read_text().splitlines() if "==" in line}
    asked = {re.split(r"[\[>=<]", wanted)[0] for wanted in extras["integrations"]}
    assert asked <= locked

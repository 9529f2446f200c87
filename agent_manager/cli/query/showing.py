"""``query NAME``: asked and printed."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from nats.aio.client import Client

from agent_manager.cli import output, readable
from agent_manager.cli.connection import Place, run
from agent_manager.cli.query import parameters, ranges, tables
from agent_manager.cli.query.asking import ask
from schemas.queries import QUERIES, Page

Form = Literal["table", "wide", "json", "csv"]


def _where(name: str, asked: Mapping[str, Any], given: Mapping[str, Any], now: datetime) -> str:
    if given.get("since") is not None or "since" not in QUERIES[name].model_fields:
        return ""
    since = readable.instant(asked.get("since"))
    looked = "24 h" if since is None else readable.duration((now - since).total_seconds())
    return f" in the last {looked}; --since 7d looks further back"


def show(data: Path | None, name: str, given: Mapping[str, Any], form: Form) -> None:
    """Asks and prints; a note tells when there is more."""
    now = datetime.now(UTC)
    asked = parameters.request(name, given, now)
    if name == "timeseries":
        asked = ranges.completed(asked, now)

    async def work(client: Client, _: Place) -> Page:
        return await ask(client, name, asked)

    page = run(data, work)
    if form == "json":
        output.write_json(page.model_dump(mode="json"))
    elif form == "csv":
        sys.stdout.write(tables.as_csv(page))
    else:
        if name == "timeseries":
            page = ranges.trimmed(page)
        columns, cells = tables.table(page, now, every=form == "wide")
        output.write_table(columns, cells, empty=f"{name}: nothing found{_where(name, asked, given, now)}")
        if page.next_offset is not None:
            output.note(f"there is more: --offset {page.next_offset}")

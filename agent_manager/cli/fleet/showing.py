"""``agents list``, ``agents show`` and ``faults list``."""

from datetime import UTC, datetime
from pathlib import Path

from nats.aio.client import Client

from agent_manager.cli import output
from agent_manager.cli.connection import Place, run
from agent_manager.cli.fleet import reading, tables
from agent_manager.cli.fleet.rows import Fleet, agent_row, agent_rows, standing

_NO_AGENTS = (
    "no agents yet. Start the examples with `agentops up --demo`, or put a folder with agent.yaml where AGENTOPS_AGENTS points"
)


async def _fleet(client: Client, _: Place) -> Fleet:
    return await reading.fleet(client)


def agents(data: Path | None, tenant: str | None, *, as_json: bool) -> None:
    """Every agent."""
    rows = agent_rows(run(data, _fleet), now := datetime.now(UTC), tenant)
    if as_json:
        output.write_json([row.as_json() for row in rows])
    else:
        output.write_table(tables.AGENT_COLUMNS, tables.agent_cells(rows, now), empty=_NO_AGENTS)


def agent(data: Path | None, agent_id: str, tenant: str | None, *, as_json: bool) -> None:
    """One agent."""
    fleet = run(data, _fleet)
    key = reading.key_of(fleet, agent_id, tenant)
    row = agent_row(key, fleet, now := datetime.now(UTC))
    record, history = fleet.records.get(key), fleet.releases.get(key)
    if as_json:
        told = {"record": record.model_dump(mode="json") if record else None, "versions": tables.versions_told(history)}
        output.write_json(row.as_json() | told)
    else:
        output.write_facts([*tables.agent_facts(row, now), *tables.record_facts(record, history, now)])


def faults(data: Path | None, agent_id: str | None, tenant: str | None, *, as_json: bool) -> None:
    """Every fault now asked of an agent."""
    fleet, now = run(data, _fleet), datetime.now(UTC)
    wanted = reading.key_of(fleet, agent_id, tenant) if agent_id else None
    found = [
        (key, fault, fault.kind in (seen.active_faults if (seen := fleet.observations.get(key)) else ()))
        for key, kept in sorted(fleet.faults.items())
        if (wanted is None or key == wanted) and (tenant is None or kept.tenant_id == tenant)
        for fault in standing(kept, now)
    ]
    if as_json:
        output.write_json(
            [
                {
                    "tenant_id": key.partition(".")[0],
                    "agent_id": key.partition(".")[2],
                    **fault.model_dump(mode="json"),
                    "in_force": in_force,
                }
                for key, fault, in_force in found
            ]
        )
    else:
        cells = [tables.fault_cells(key.partition(".")[2], fault, in_force, now) for key, fault, in_force in found]
        output.write_table(tables.FAULT_COLUMNS, cells, empty="no faults are injected")

"""``alerts list``, ``alerts tail``, ``alerts ack``."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from agent_manager.cli import output, readable
from agent_manager.cli.alerts import reading, states
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fitting import Column
from agent_manager.cli.fleet.orders import person
from agent_manager.cli.positions import last_sequence
from schemas.alerts import Acknowledgement, AlertChange
from streams import topology
from streams.kv import BucketMissingError, TypedBucket

_COLUMNS = (
    Column("ALERT"), Column("STATE"), Column("SEVERITY", rank=1), Column("RULE", rank=3),
    Column("AGENT", rank=2), Column("SINCE", rank=4), Column("CHANGED", rank=5), Column("SUMMARY", wrap=True),
)  # fmt: skip
_CONFIRMED_S: Final = 3.0


def _who(change: AlertChange) -> str:
    return f"{change.tenant_id}/{change.agent_id}" if change.agent_id else change.tenant_id


def _cells(change: AlertChange, short: str, now: datetime) -> list[str]:
    by = (
        f" (acknowledged by {change.acknowledged_by}{f': {change.note}' if change.note else ''})"
        if change.acknowledged_by
        else ""
    )
    return [
        short, change.state, change.severity, change.rule, _who(change), readable.short_clock(change.started_at, now),
        readable.age(change.at, now), f"{change.summary}{by}",
    ]  # fmt: skip


def list_(
    data: Path | None, *, state: str, tenant: str | None, agent: str | None, severity: str | None, limit: int, as_json: bool
) -> None:
    """The latest state of each alert, newest first."""

    async def work(client: Client, _: Place) -> list[AlertChange]:
        return await reading.changes(client, tenant)

    found = states.wanted(states.latest(run(data, work)), state=state, tenant=tenant, agent=agent, severity=severity)[:limit]
    if as_json:
        output.write_json([change.model_dump(mode="json", exclude_none=True) for change in found])
    else:
        now = datetime.now(UTC)
        short = states.short([change.alert_id for change in found])
        output.write_table(
            _COLUMNS,
            [_cells(change, short[change.alert_id], now) for change in found],
            empty="no alerts" if state == "all" else f"no {state} alerts",
        )


def tail(data: Path | None, tenant: str | None, most: int | None, *, as_json: bool) -> None:
    """Every change from now on, until Ctrl-C or ``most`` were printed."""

    async def work(client: Client, _: Place) -> None:
        left = most
        output.note("waiting for alerts; Ctrl-C ends")
        async with aclosing(reading.coming(client, tenant)) as changes:
            async for change in changes:
                if as_json:
                    output.write_json_line(change.model_dump(mode="json", exclude_none=True))
                else:
                    clock = change.at.astimezone().strftime("%H:%M:%S")
                    output.write_line(
                        f"{clock}  {change.state}  {change.severity}  {change.rule}  {_who(change)}  {change.summary}  [{change.alert_id}]"
                    )
                if left is not None:
                    left -= 1
                    if left <= 0:
                        return

    run(data, work, on_disconnect=lambda: output.note("connection lost, trying again"))


async def _confirmed(client: Client, alert_id: str, after: int) -> bool:
    try:
        async with asyncio.timeout(_CONFIRMED_S), aclosing(reading.coming(client, after=after)) as changes:
            async for change in changes:
                if change.alert_id == alert_id and change.state == "acknowledged":
                    return True
    except TimeoutError:
        pass
    return False


def acknowledge(data: Path | None, given: str, note: str | None, by: str | None, *, as_json: bool) -> None:
    """Records that a person has seen an alert; the alerts processor tells everybody."""

    async def work(client: Client, _: Place) -> tuple[Acknowledgement, bool]:
        matching = states.matching(states.latest(await reading.changes(client)), given)
        if not matching:
            raise CommandFailedError(f"there is no alert {given!r}", "`agentops alerts list --state all` shows them")
        if len(matching) > 1:
            raise CommandFailedError(
                f"{len(matching)} alerts begin with {given!r}",
                f"Give more of the id: {', '.join(change.alert_id for change in matching[:5])}",
            )
        change = matching[0]
        if change.state == "resolved":
            raise CommandFailedError(f"alert {change.alert_id} is resolved already", "Nothing is left to acknowledge")
        said = Acknowledgement(alert_id=change.alert_id, by=by or person(), at=datetime.now(UTC), note=note)
        before = await last_sequence(client, topology.ALERTS)
        try:
            await (await TypedBucket.open(client, topology.ACKNOWLEDGEMENTS, Acknowledgement)).put(change.alert_id, said)
        except BucketMissingError as error:
            raise CommandFailedError("bucket 'acknowledgements' does not exist", "Run `agentops streams apply`") from error
        except (nats.errors.Error, TimeoutError) as error:
            raise CommandFailedError(
                f"the acknowledgement was not stored ({type(error).__name__})", "Try again; see `agentops doctor`"
            ) from error
        return said, change.state == "acknowledged" or await _confirmed(client, change.alert_id, before)

    said, confirmed = run(data, work)
    if as_json:
        output.write_json(said.model_dump(mode="json", exclude_none=True) | {"confirmed": confirmed})
    else:
        output.write_line(f"alert {said.alert_id}: acknowledged by {said.by}")
        if not confirmed:
            output.note("recorded, but the alerts processor has not said so yet; is it running? See `agentops doctor`")

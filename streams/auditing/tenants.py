"""What each tenant has in the range: events promised beside rows that bear its name, and its money."""

from decimal import Decimal
from typing import Any

from nats.aio.client import Client

from streams import topology
from streams.auditing import asking
from streams.auditing.accounts import Findings
from streams.auditing.scope import Range
from streams.auditing.standing import Standing

_COUNTED = {topology.EVENTS: "events", topology.LEDGER: "entries", topology.ALERTS: "alert_changes"}


async def tenants(
    client: Client, standing: Standing, wanted: Range, tenant: str | None, told: dict[str, dict[str, Any]], findings: Findings
) -> int:
    """Adds the figures of one stream to ``told``, by tenant; returns what the stream carries in all."""
    name = standing.name
    rows = await asking.rows(
        client, check="tenants", stream=name, after=wanted.after, until=wanted.last, tenant=tenant
    ) if not wanted.empty else []  # fmt: skip
    if not any(findings.bad(f"{name}.{check}") for check in ("rows", "counts", "applied")):
        for row in rows:
            expected = row["events"] - row["unreadable"]
            if row["rows"] != expected:
                findings.add(
                    "error", f"{name}.tenants",
                    f"{row['rows']:,} rows of {name} bear the name of tenant {row['tenant_id']}, its messages carry {expected:,}",
                    tenant_id=row["tenant_id"], expected=expected, found=row["rows"],
                )  # fmt: skip
    for row in rows:
        figures = told.setdefault(row["tenant_id"], {})
        figures[_COUNTED[name]] = row["events"]
        if name == topology.EVENTS:
            figures["dead"] = row["dead"]
        if name == topology.LEDGER:
            figures |= {"charges": row["charges"] or 0, "corrections": row["corrections"] or 0, "unpriced": row["unpriced"] or 0}
            figures["cost_usd"] = format(Decimal(row["cost_usd"] or 0), "f")
    return sum(row["events"] for row in rows)


async def sums(client: Client, findings: Findings) -> None:
    """Whether the rollups are the sums of their rows, and the sums of agents those of the rollups."""
    for row in await asking.rows(client, check="sums"):
        if row["kind"] == "agents":
            _agents(row, findings)
            continue
        if row["kind"] == "money":
            _money(row, findings)
            continue
        if row["rows"] != row["summed"]:
            what = f"{row['summed']:,} of {row['rows']:,} rows"
        else:
            what = f"${row['summed_usd']} of ${row['cost_usd']}"
        findings.add(
            "error", "sums", f"the sums by {row['grain']} of {row['kind']} hold {what}",
            grain=row["grain"], kind=row["kind"], expected=row["rows"], found=row["summed"],
        )  # fmt: skip


def _money(row: dict[str, Any], findings: Findings) -> None:
    wrong, grain = row["rows"] - row["summed"], row["grain"]
    findings.add(
        "error", "sums",
        f"{wrong:,} of {row['rows']:,} sums of dollars by day, tenant and model (of the sums by {grain}) are not those of the ledger's entries; one of them: {row['first']}",
        grain=grain, kind="money", expected=row["rows"], found=row["summed"],
    )  # fmt: skip


def _agents(row: dict[str, Any], findings: Findings) -> None:
    wrong, grain = row["rows"] - row["summed"], row["grain"]
    which = "moments agents were last seen" if grain == "seen" else f"sums of agents by {grain}"
    findings.add(
        "error", "sums", f"{wrong:,} of {row['rows']:,} {which} are not what the sums by name say; one of them: {row['first']}",
        grain=grain, kind="agents", expected=row["rows"], found=row["summed"],
    )  # fmt: skip

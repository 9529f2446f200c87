"""Calls against charges: what the warehouse's billing check says, in words."""

from typing import Final

from nats.aio.client import Client

from schemas.queries import MAX_PAGE
from streams.auditing import asking
from streams.auditing.accounts import Findings
from streams.auditing.scope import Range

_WRONG: Final = {
    "missing": "has no ledger entry",
    "doubled": "was charged more than once",
    "stray": "has a charge, but is no billable call of the input it was priced from",
    "entry twice": "has a correction that stands twice",
    "corrected twice": "was corrected twice",
    "corrects nothing": "has a correction of an entry that does not exist",
    "other amount": "has a reversal of another amount than the entry it takes back",
}
CHECKS: Final = tuple(f"billing.{problem.replace(' ', '_')}" for problem in _WRONG)


async def billing(client: Client, parts: list[Range], check: str, tenant: str | None, findings: Findings) -> None:
    """Calls and charges of ``parts`` of EVENTS (``check`` is ``billing``), or corrections in ``parts`` of LEDGER (``corrections``)."""
    told: set[tuple[str, ...]] = set()
    for part in parts:
        rows = await asking.rows(client, check=check, after=part.after, until=part.last, tenant=tenant, most=MAX_PAGE)
        for row in rows:
            known = (row["problem"], row["tenant_id"], row["event_id"], row["entry_id"] or "")
            if known in told:
                # A charge priced from two parts at once is looked at with both.
                continue
            told.add(known)
            about = {"event_id": row["event_id"], "tenant_id": row["tenant_id"], "entries": row["entries"]}
            if row["entry_id"]:
                about["entry_id"] = row["entry_id"]
            findings.add(
                "error", f"billing.{row['problem'].replace(' ', '_')}",
                f"model call {row['event_id']} of {row['tenant_id']}/{row['agent_id']} {_WRONG[row['problem']]}", **about,
            )  # fmt: skip

"""``agentops content test|get``: what a text would become, and what was too large for its event."""

import sys
from collections.abc import Sequence
from pathlib import Path

from nats.aio.client import Client

from agent_manager.cli import output
from agent_manager.cli.connection import Place, run
from agent_manager.cli.content.changing import chosen, patterns
from agent_manager.cli.content.showing import bucket
from agent_manager.cli.failure import CommandFailedError
from privacy.redaction import Tally
from privacy.rules import ready
from privacy.sizes import REFERENCE
from privacy.values import Cleaner
from schemas.content import PERSONAL_KINDS, ContentPolicy
from streams.large_content import ContentMissingError, fetch


def try_(
    data: Path | None, text: str | None, tenant: str | None, kinds: str | None, given: Sequence[str] | None, *, as_json: bool
) -> None:
    """Prints ``text`` as it would stand in an event, and what was found in it."""

    async def work(client: Client, _: Place) -> ContentPolicy | None:
        entry = await (await bucket(client)).get(tenant or "")
        return None if entry is None else entry.value

    policy = (None if tenant is None else run(data, work)) or ContentPolicy(tenant_id=tenant or "nobody")
    wanted_kinds, wanted_patterns = chosen(kinds), patterns(given)
    rules = ready(
        policy.model_copy(
            update={
                "mode": "redacted" if tenant is None else policy.mode,
                "kinds": policy.kinds if wanted_kinds is None else wanted_kinds,
                "patterns": policy.patterns if wanted_patterns is None else wanted_patterns,
            }
        )
    )
    tally = Tally()
    before = sys.stdin.read() if text is None else text
    after = Cleaner(rules, tally).text(before)
    if as_json:
        output.write_json(
            {
                "text": after,
                "found": tally.found,
                "content": policy.mode,
                "kinds": list(PERSONAL_KINDS if wanted_kinds is None else wanted_kinds),
            }
        )
        return
    output.write_line(after)
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.found.items())) or "nothing"
    output.note(f"found: {found}")
    if tenant is not None and rules.drops_content:
        output.note(f"as a prompt or completion of {tenant} it would be dropped altogether: its mode is off")


def get(data: Path | None, reference: str) -> None:
    """Prints content by its reference."""
    wanted = reference.strip().removeprefix(REFERENCE).rstrip("]")

    async def work(client: Client, _: Place) -> str:
        try:
            return await fetch(client, wanted)
        except ContentMissingError as error:
            raise CommandFailedError(
                f"there is no content {wanted!r}", "It is kept as long as events are, 30 days, and while there is room"
            ) from error

    output.write_line(run(data, work))

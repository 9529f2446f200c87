"""Large content goes to the object store before the events that refer to it are stored; what does not get there is cut off."""

from collections.abc import Sequence
from typing import Final

import structlog
from nats.aio.client import Client

from privacy.sizes import without_reference
from processors.validate.judging import Judged
from service.instruments import CONTENT_STORED
from streams import large_content

log = structlog.get_logger(__name__)

_MOST: Final = 64
"""Of one batch: more would hold up the events behind them. The others are cut off, and counted."""


async def keep(client: Client, judged: Sequence[Judged]) -> None:
    """Every accepted line in ``judged`` that still refers to content refers to content that is there."""
    wanted = {large.reference: large.text for one in judged for candidate in one.accepted for large in candidate.large}
    if not wanted:
        return
    taken = dict(list(wanted.items())[:_MOST])
    failed = await large_content.keep(client, taken) | dict.fromkeys(set(wanted) - set(taken), f"more than {_MOST} at once")
    CONTENT_STORED.labels("stored").inc(len(wanted) - len(failed))
    if not failed:
        return
    CONTENT_STORED.labels("lost").inc(len(failed))
    log.warning("content.not_stored", values=len(failed), reason=next(iter(failed.values())))
    for one in judged:
        for place, candidate in enumerate(one.accepted):
            line = candidate.line
            for large in candidate.large:
                if large.reference in failed:
                    line = without_reference(line, large.reference)
            one.accepted[place] = candidate._replace(line=line)

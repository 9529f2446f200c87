"""The price shelf as the command line opens it: with a sentence where something is missing."""

from nats.aio.client import Client

from agent_manager.cli.failure import CommandFailedError
from schemas.prices.finding import PriceBook
from schemas.prices.overrides import Revision
from streams.kv import BucketMissingError
from streams.prices import PriceShelf, UnknownVersionError


async def opened(client: Client) -> PriceShelf:
    """The shelf; raises CommandFailedError where the bucket is missing."""
    try:
        return await PriceShelf.open(client)
    except BucketMissingError as error:
        raise CommandFailedError("there are no prices yet: the bucket is missing", "Run `agentops streams apply`") from error


async def in_force(shelf: PriceShelf) -> Revision:
    """The newest revision; raises CommandFailedError where cost never ran."""
    newest = await shelf.newest()
    if newest is None:
        raise CommandFailedError("there are no prices yet", "Cost puts its own there when it starts: python -m processors cost")
    return newest


async def prices(shelf: PriceShelf, version: str | None) -> PriceBook:
    """The prices of ``version``, or those in force; raises CommandFailedError."""
    try:
        return await shelf.enforced(await in_force(shelf)) if version is None else await shelf.version(version)
    except UnknownVersionError as error:
        raise CommandFailedError(str(error), "`agentops prices history` lists all there are", code=2) from error

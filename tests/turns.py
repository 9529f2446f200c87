"""A turn nobody disputes: for a processor that a test runs by itself."""


class Mine:
    """Always this instance's."""

    async def mine(self) -> None:
        return

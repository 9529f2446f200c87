"""Where content lands is asked of a tenant that keeps all of it."""

from collections.abc import Iterator

import pytest

from schemas.content import ContentPolicy
from sidecar.content import IN_FORCE


@pytest.fixture(autouse=True)
def _content_full() -> Iterator[None]:
    IN_FORCE.tell("acme", ContentPolicy(tenant_id="acme", mode="full"))
    yield
    IN_FORCE.tell("acme", None)


@pytest.fixture
def content_off(_content_full: None) -> None:
    """As long as nobody has said anything."""
    IN_FORCE.tell("acme", None)

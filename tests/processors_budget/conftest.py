"""A warehouse where a test wants one."""

from tests.processors_aggregate.conftest import running

__all__ = ["running"]

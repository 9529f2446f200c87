"""Flags by which doors refuse: kept current from a bucket in NATS, remembered on disk, asked by every door that spends money."""

from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import structlog
from nats.aio.client import Client
from pydantic import BaseModel, TypeAdapter, ValidationError

from streams.following import follow
from streams.kv import TypedBucket

log = structlog.get_logger(__name__)

_AGAIN_S: Final = 2.0
Flag = TypeVar("Flag", bound=BaseModel)


class Scoped(Protocol):
    """What every flag says: whom it concerns."""

    @property
    def tenant_id(self) -> str:
        """Its tenant."""
        ...

    @property
    def scope(self) -> str:
        """Of what kind ``of`` is."""
        ...

    @property
    def of(self) -> str | None:
        """The one it concerns; None: the whole tenant."""
        ...


class Whose:
    """Who calls: the agent of this sidecar, for itself or for another project of its tenant."""

    def __init__(self, tenant: str, agent: str, workspace: str | None, project: str | None) -> None:
        self._tenant = tenant
        self._own = {"agent": agent, "workspace": workspace, "project": project}

    def concerns(self, flag: Scoped, project: str | None = None) -> bool:
        """Whether ``flag`` concerns a call of ours; ``project`` stands in for our own."""
        if flag.tenant_id != self._tenant:
            return False
        if flag.scope == "tenant":
            return flag.of is None
        wanted = project if flag.scope == "project" and project is not None else self._own.get(flag.scope)
        return wanted is not None and flag.of == wanted


class Flags(Generic[Flag]):
    """The flags of one bucket that may concern this sidecar: all of its tenant's.

    A small file remembers them, so that a sidecar restarted while NATS is away goes on refusing.
    """

    def __init__(self, model: type[Flag], tenant: str, path: Path, name: str) -> None:
        self._tenant = tenant
        self._path = path
        self._name = name
        self._page: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, dict[str, model]])  # type: ignore[valid-type]
        self._flags: dict[str, Flag] = {}
        try:
            self._flags = dict(self._page.validate_json(path.read_bytes()).get("flags", {}))
        except FileNotFoundError:
            pass
        except (ValidationError, OSError) as error:
            log.warning("flags.memory_unreadable", path=path.name, error=str(error))

    def all(self) -> list[Flag]:
        """Those known now."""
        return list(self._flags.values())

    def concern_us(self, flag: Flag) -> bool:  # noqa: ARG002
        """Whether it is worth a line in the log."""
        return True

    def tell(self, key: str, flag: Flag | None) -> None:
        """The flag under ``key`` is now this one; None: there is none."""
        if flag is not None and getattr(flag, "tenant_id", None) == self._tenant:
            if self._flags.get(key) != flag:
                self._flags[key] = flag
                if self.concern_us(flag):
                    log.warning("flags.refusing", flags=self._name, flag=key, reason=getattr(flag, "reason", ""))
                self._write()
        elif (gone := self._flags.pop(key, None)) is not None:
            if self.concern_us(gone):
                log.info("flags.ended", flags=self._name, flag=key)
            self._write()

    def only(self, keys: set[str]) -> None:
        """Every flag but these is gone."""
        for key in [key for key in self._flags if key not in keys]:
            self.tell(key, None)

    def _write(self) -> None:
        draft = self._path.with_suffix(".new")
        try:
            draft.write_bytes(self._page.dump_json({"flags": self._flags}))
            draft.replace(self._path)
        except OSError as error:
            log.error("flags.memory_unwritable", path=self._path.name, error=str(error))


class FlagWatch(Generic[Flag]):
    """Follows the tenant's keys in one bucket of flags."""

    def __init__(self, tenant: str, bucket: str, model: type[Flag], flags: Flags[Flag]) -> None:
        self._tenant = tenant
        self._bucket = bucket
        self._model = model
        self._flags = flags

    async def _read(self, bucket: TypedBucket[Flag]) -> None:
        self._flags.only(await bucket.keys())

    async def run(self, client: Client) -> None:
        """Follows until cancelled; while NATS is away what was known stands."""
        keys = f"{self._tenant}.>"
        await follow(client, self._bucket, self._model, self._read, self._flags.tell, keys=keys, name="flags", again_s=_AGAIN_S)

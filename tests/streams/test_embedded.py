"""The embedded server: loopback, credentials, permissions, and clear words when it cannot start."""

import asyncio
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client
from nats.js.api import StorageType, StreamConfig

from schemas.model import Wire
from streams.connect import CannotConnectError, connect
from streams.embedded import EmbeddedServer, ServerError
from streams.kv import BucketMissingError, ChangedMeanwhileError, TypedBucket
from streams.publish import NotStoredError, publish
from streams.settings import NatsSettings
from tests.conftest import until


@pytest.mark.parametrize(
    ("user", "subject", "refused"),
    [
        ("operator", "command.demo.operator.chat", False),
        ("operator", "command.demo.dashboard.chat", True),
        ("operator", "ledger.demo", True),
        ("operator", "events.demo.run", True),
        ("operator", "$JS.API.STREAM.PURGE.TELEMETRY", True),
        ("operator", "$JS.API.STREAM.UPDATE.TELEMETRY", False),
        ("operator", "$KV.leases.validate.0", True),
        ("dashboard", "command.demo.dashboard.chat", False),
        ("dashboard", "command.demo.operator.chat", True),
        ("dashboard", "telemetry.demo.a.run", True),
        ("sidecar", "telemetry.demo.a.run", False),
        ("sidecar", "command.demo.sidecar.chat", True),
        ("sidecar", "alerts.demo.info.x", True),
        ("sidecar", "agent.manager.command", True),
        ("sidecar", "agent.chat.response", False),
        ("sidecar", "$JS.API.STREAM.PURGE.LEDGER", True),
        ("sidecar", "$JS.API.CONSUMER.DELETE.TELEMETRY.validate-0", True),
        ("sidecar", "$JS.API.CONSUMER.CREATE.KV_faults", False),
        ("dashboard", "$JS.API.STREAM.DELETE.EVENTS", True),
        ("dashboard", "$JS.API.CONSUMER.MSG.NEXT.COMMANDS.manager", True),
        ("system", "ledger.demo", False),
    ],
)
async def test_each_user_may_publish_only_what_its_role_needs(
    server: EmbeddedServer, user: str, subject: str, refused: bool
) -> None:
    said: list[str] = []
    client = Client()

    async def failed(error: Exception) -> None:
        said.append(str(error).lower())

    def violated() -> bool:
        return any("permissions violation" in line for line in said)

    await client.connect(servers=server.settings().servers(), error_cb=failed, **server.settings(user).options())
    await client.publish(subject, b"{}")
    if refused:
        await until(violated, "the server says no")
    else:
        for _ in range(2):
            await client.flush()
        assert not violated()
    await client.close()


async def test_a_wrong_password_is_told_at_once_and_never_shown(server: EmbeddedServer) -> None:
    wrong = server.settings().model_copy(update={"user": "operator"})
    with pytest.raises(CannotConnectError) as caught:
        await connect(wrong, "test", patience_s=5)
    assert "NATS_PASSWORD" in str(caught.value)
    password = server.settings().password
    assert password is not None
    assert password.get_secret_value() not in str(caught.value)


async def test_an_absent_server_is_told_after_the_patience() -> None:
    with pytest.raises(CannotConnectError, match="cannot connect to NATS at nats://127.0.0.1:9"):
        await connect(NatsSettings(url="nats://someone:secret@127.0.0.1:9"), "test", patience_s=0.5)


async def test_a_file_of_the_settings_that_is_none_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(CannotConnectError, match=r"NATS_CREDENTIALS names .*none.creds, which is no file"):
        await connect(NatsSettings(credentials=tmp_path / "none.creds"), "test", patience_s=60)


async def test_credentials_and_port_stay_the_same_over_restarts_and_are_private(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "nats")
    await server.start()
    first = server.credentials
    await server.stop()
    again = EmbeddedServer(tmp_path / "nats")
    await again.start()
    await again.stop()
    assert again.credentials == first
    assert (tmp_path / "nats" / "credentials.json").stat().st_mode & 0o077 == 0
    assert not list((tmp_path / "nats").glob("*.new"))


async def test_a_taken_port_is_named(server: EmbeddedServer, tmp_path: Path) -> None:
    assert server.credentials is not None
    with pytest.raises(ServerError, match=f"port {server.credentials.port} for NATS is taken"):
        await EmbeddedServer(tmp_path / "other", port=server.credentials.port).start()


async def test_a_broken_data_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "nats").write_text("a file stands where the directory should be")
    with pytest.raises(ServerError, match="choose another with --data"):
        await EmbeddedServer(tmp_path / "nats").start()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "credentials.json").write_text("not json")
    with pytest.raises(ServerError, match="not usable"):
        await EmbeddedServer(tmp_path / "kept").start()


class Colour(Wire):
    name: str


async def test_a_stream_that_cannot_be_read_is_named_with_what_to_do(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "nats")
    await server.start()
    client = await connect(server.settings(), "test")
    await client.jetstream().add_stream(StreamConfig(name="BOOKS", subjects=["books"], storage=StorageType.FILE))
    await client.close()
    await server.stop()
    (about,) = (tmp_path / "nats").rglob("streams/BOOKS/meta.inf")
    about.write_bytes(b"nothing of the kind")
    with pytest.raises(ServerError, match=r"stream BOOKS is damaged. Put a backup in the place of .*jetstream"):
        await EmbeddedServer(tmp_path / "nats").start(1.0)


async def test_a_bucket_keeps_types_and_refuses_a_stale_update(client: Client) -> None:
    bucket = await TypedBucket.open(client, "registry", Colour)
    assert await bucket.get("demo.chat") is None
    first = await bucket.update("demo.chat", Colour(name="red"), 0)
    await bucket.update("demo.chat", Colour(name="green"), first)
    with pytest.raises(ChangedMeanwhileError):
        await bucket.update("demo.chat", Colour(name="blue"), first)
    kept = await bucket.get("demo.chat")
    assert kept is not None
    assert kept.value == Colour(name="green")
    assert [entry.value for entry in await bucket.history("demo.chat")] == [Colour(name="red"), Colour(name="green")]
    assert await bucket.all() == {"demo.chat": Colour(name="green")}
    await bucket.delete("demo.chat")
    assert await bucket.all() == {}


async def test_a_missing_bucket_says_what_to_run(client: Client) -> None:
    with pytest.raises(BucketMissingError, match="agentops streams apply"):
        await TypedBucket.open(client, "nonsense", Colour)


async def test_a_watch_sees_what_is_there_and_what_comes_even_after_the_server_was_killed(
    server: EmbeddedServer, client: Client
) -> None:
    bucket = await TypedBucket.open(client, "registry", Colour)
    await bucket.put("demo.a", Colour(name="red"))
    seen: list[tuple[str, str | None]] = []

    async def look() -> None:
        async for entry in bucket.watch():
            seen.append((entry.key, entry.value.name if entry.value else None))

    looking = asyncio.create_task(look())
    await until(lambda: ("demo.a", "red") in seen, "the present value")
    await server.kill()
    await server.start()
    await until(lambda: client.is_connected, "reconnected")
    await bucket.put("demo.b", Colour(name="green"))
    await until(lambda: ("demo.b", "green") in seen, "the change after the restart", 20)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def test_a_value_that_cannot_be_read_is_no_deletion(client: Client) -> None:
    """Whoever watches goes on with what was known: an agent whose record a newer version wrote is not removed."""
    bucket = await TypedBucket.open(client, "registry", Colour)
    await bucket.put("demo.a", Colour(name="red"))
    seen: list[tuple[str, str | None]] = []

    async def look() -> None:
        async for entry in bucket.watch():
            seen.append((entry.key, entry.value.name if entry.value else None))

    looking = asyncio.create_task(look())
    await until(lambda: seen == [("demo.a", "red")], "the present value")
    await client.jetstream().publish("$KV.registry.demo.a", b"{")
    await bucket.put("demo.b", Colour(name="green"))
    await bucket.delete("demo.b")
    await until(lambda: ("demo.b", None) in seen, "the deletion")
    assert seen == [("demo.a", "red"), ("demo.b", "green"), ("demo.b", None)]
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def test_publishing_to_no_stream_is_no_success(client: Client) -> None:
    with pytest.raises(NotStoredError):
        await publish(client, "nobody.listens", b"{}", timeout_s=1)


async def test_a_repeated_message_id_is_stored_once(client: Client) -> None:
    first = await publish(client, "telemetry.demo.a.run", b"{}", message_id="same")
    again = await publish(client, "telemetry.demo.a.run", b"{}", message_id="same")
    assert first == again
    assert (await client.jsm().stream_info("TELEMETRY")).state.messages == 1


async def test_a_full_stream_refuses_and_says_so(client: Client) -> None:
    info = await client.jsm().stream_info("TELEMETRY")
    info.config.max_bytes = 2000
    await client.jsm().update_stream(info.config)
    with pytest.raises(NotStoredError, match="maximum bytes"):
        for number in range(20):
            await publish(client, "telemetry.demo.a.run", b"x" * 400, message_id=str(number))


async def test_nats_errors_are_not_swallowed_by_a_closed_connection(client: Client) -> None:
    await client.close()
    with pytest.raises((NotStoredError, nats.errors.ConnectionClosedError)):
        await publish(client, "telemetry.demo.a.run", b"{}")


@pytest.mark.parametrize(("ours", "given"), [("512MiB", None), ("3GiB", "3GiB")])
async def test_the_server_collects_its_garbage_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: str, given: str | None
) -> None:
    """A limit of its own, unless the environment says another."""
    monkeypatch.delenv("GOMEMLIMIT", raising=False)
    if given is not None:
        monkeypatch.setenv("GOMEMLIMIT", given)
    server = EmbeddedServer(tmp_path / "nats", dies_with_parent=True)
    await server.start()
    try:
        assert server.process is not None
        environment = Path(f"/proc/{server.process.pid}/environ").read_bytes().split(b"\0")
        assert f"GOMEMLIMIT={ours}".encode() in environment
    finally:
        await server.stop()

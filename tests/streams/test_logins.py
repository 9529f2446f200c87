"""Every way to log in at a NATS server that is not ours: token, certificates, a credentials file; for clients and for brokers."""

import asyncio
import base64
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import nkeys
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from streams.broker import broker
from streams.connect import CannotConnectError, connect
from streams.embedded import binary
from streams.settings import NatsSettings
from tests.conftest import until


@asynccontextmanager
async def listening(directory: Path, configuration: str) -> AsyncIterator[str]:
    """A nats-server with that configuration; its address."""
    told = directory / "server.conf"
    told.write_text(f'host: 127.0.0.1\nport: -1\nports_file_dir: "{directory}"\n{configuration}\n')
    process = await asyncio.create_subprocess_exec(binary(), "-c", str(told), stderr=asyncio.subprocess.DEVNULL)
    try:
        ports = directory / f"nats-server_{process.pid}.ports"
        await until(lambda: ports.exists() and b"nats" in ports.read_bytes(), "the server listens")
        yield str(json.loads(ports.read_text())["nats"][0])
    finally:
        process.kill()
        await process.wait()


async def works(settings: NatsSettings) -> None:
    """A client answers a broker of the same settings."""
    client = await connect(settings, "client", patience_s=5)

    async def answer(message: Any) -> None:
        await message.respond(b"heard " + message.data)

    await client.subscribe("asked", cb=answer)
    own = broker(settings, "broker")
    await own.start()
    heard = await own.request("you", "asked", timeout=5)
    assert heard.body == b"heard you"
    await own.stop()
    await client.close()


def authority(directory: Path) -> None:
    """``ca.pem``, and a certificate and key of ``server`` and of ``client`` signed by it."""
    now = datetime.now(UTC)

    def made(
        name: str, issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None
    ) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer, signing = issuer or (subject, key)
        certificate = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(signer).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1)).add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), False)
            .sign(signing, hashes.SHA256())
        )  # fmt: skip
        (directory / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        told = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (directory / f"{name}.key").write_bytes(told)
        return subject, key

    root = made("ca", None)
    made("server", root)
    made("client", root)


def pair(prefix: int) -> tuple[nkeys.KeyPair, bytes]:
    """A key pair of that kind, with its seed."""
    seed = nkeys.encode_seed(os.urandom(32), prefix)
    return nkeys.from_seed(bytearray(seed)), bytes(seed)


def token(signer: nkeys.KeyPair, subject: nkeys.KeyPair, kind: str, more: dict[str, Any]) -> str:
    """A JWT as NATS wants it: ``signer`` says of ``subject`` what ``more`` says."""

    def part(told: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(told).encode()).rstrip(b"=").decode()

    claims = {
        "iat": int(time.time()), "iss": signer.public_key.decode(), "sub": subject.public_key.decode(), "name": kind,
        "jti": base64.b32encode(hashlib.sha256(os.urandom(16)).digest()).rstrip(b"=").decode(),
        "nats": {"type": kind, "version": 2, **more},
    }  # fmt: skip
    signed = f"{part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{part(claims)}"
    return f"{signed}.{base64.urlsafe_b64encode(signer.sign(signed.encode())).rstrip(b'=').decode()}"


async def test_a_token(tmp_path: Path) -> None:
    async with listening(tmp_path, "authorization { token: s3cret }") as url:
        await works(NatsSettings(url=url, token=SecretStr("s3cret")))
        with pytest.raises(CannotConnectError) as refused:
            await connect(NatsSettings(url=url, token=SecretStr("wr0ng")), "client", patience_s=5)
        assert "wr0ng" not in str(refused.value)


async def test_certificates_of_both_sides(tmp_path: Path) -> None:
    authority(tmp_path)
    parts = {name: tmp_path / name for name in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")}
    tls = f'tls {{ cert_file: "{parts["server.pem"]}", key_file: "{parts["server.key"]}", ca_file: "{parts["ca.pem"]}", verify: true }}'
    async with listening(tmp_path, tls) as url:
        own = NatsSettings(url=url, tls_ca=parts["ca.pem"], tls_certificate=parts["client.pem"], tls_key=parts["client.key"])
        await works(own)
        with pytest.raises(CannotConnectError):
            await connect(own.model_copy(update={"tls_certificate": None, "tls_key": None}), "client", patience_s=1)
        with pytest.raises(CannotConnectError, match="certificate"):
            await connect(own.model_copy(update={"tls_ca": None}), "client", patience_s=1)


async def test_a_credentials_file(tmp_path: Path) -> None:
    operator, account, system = (
        pair(nkeys.PREFIX_BYTE_OPERATOR)[0],
        pair(nkeys.PREFIX_BYTE_ACCOUNT)[0],
        pair(nkeys.PREFIX_BYTE_ACCOUNT)[0],
    )
    user, seed = pair(nkeys.PREFIX_BYTE_USER)
    limits = {"limits": {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1, "leaf": -1}}
    known = ", ".join(f"{one.public_key.decode()}: {token(operator, one, 'account', limits)}" for one in (account, system))
    trust = f"operator: {token(operator, operator, 'operator', {})}\nsystem_account: {system.public_key.decode()}\n"
    told = tmp_path / "agentops.creds"
    told.write_text(
        f"-----BEGIN NATS USER JWT-----\n{token(account, user, 'user', {'subs': -1, 'data': -1, 'payload': -1})}\n"
        f"------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed.decode()}\n------END USER NKEY SEED------\n"
    )
    async with listening(tmp_path, f"{trust}resolver: MEMORY\nresolver_preload: {{ {known} }}") as url:
        await works(NatsSettings(url=url, credentials=told))
        with pytest.raises(CannotConnectError):
            await connect(NatsSettings(url=url), "client", patience_s=1)

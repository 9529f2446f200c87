"""Bearer tokens of an identity provider: a real one as far as HTTP goes, with keys that change, come late, and go."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError

from agent_manager.api.callers import token_of
from agent_manager.api.settings import ApiSettings
from service.ports import free_port
from tests.agent_manager.world import World
from tests.api.running import Api, is_problem

AUDIENCE = "agentops"


class Issuer:
    """Publishes keys, and signs with any."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.published: dict[str, rsa.RSAPrivateKey] = {}
        self.reads = 0
        self.use = "sig"
        self._runner: web.AppRunner | None = None

    def make(self, kid: str, *, publish: bool = True) -> rsa.RSAPrivateKey:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        if publish:
            self.published[kid] = key
        return key

    async def start(self) -> None:
        async def discovery(_: web.Request) -> web.Response:
            return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})

        async def keys(_: web.Request) -> web.Response:
            self.reads += 1
            told = [
                json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": kid, "alg": "RS256", "use": self.use}
                for kid, key in self.published.items()
            ]
            return web.json_response({"keys": told})

        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", discovery)
        app.router.add_get("/keys", keys)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def token(self, key: Any, kid: str | None = "k1", algorithm: str = "RS256", **changes: Any) -> dict[str, str]:
        claims = {
            "iss": self.url, "aud": AUDIENCE, "sub": "alice@example.org", "exp": time.time() + 300, "agentops_role": "operator",
            "agentops_tenants": ["acme"],
        } | changes  # fmt: skip
        kept = {name: value for name, value in claims.items() if value is not None}
        made = jwt.encode(kept, key, algorithm=algorithm, headers={} if kid is None else {"kid": kid})
        return {"Authorization": f"Bearer {made}"}


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer()
    made.make("k1")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def api(stopped_api: Api, issuer: Issuer) -> Api:
    await stopped_api.start(AGENTOPS_API_OIDC_ISSUER=issuer.url, AGENTOPS_API_OIDC_AUDIENCE=AUDIENCE)
    return stopped_api


async def test_a_good_token_lets_in_as_what_it_says_and_its_holder_is_in_the_audit_trail(
    world: World, issuer: Issuer, api: Api
) -> None:
    key = issuer.published["k1"]
    good = issuer.token(key)
    answer = await api.ask("POST", "/api/v1/agents/one/restart", None, headers=good)
    assert answer.status_code == 200, answer.text
    record = await world.audited(answer.json()["command_id"])
    assert record.actor == token_of("alice@example.org")
    assert record.actor.startswith("oidc-alice_example_org-")
    is_problem(await api.ask("DELETE", "/api/v1/agents/one", None, headers=good), 403, "forbidden")
    viewer = issuer.token(key, agentops_role=["something", "viewer"], agentops_tenants="globex acme")
    assert (await api.ask("GET", "/api/v1/agents/one", None, headers=viewer)).status_code == 200
    is_problem(await api.ask("POST", "/api/v1/agents/one/stop", None, headers=viewer), 403, "forbidden")
    is_problem(await api.ask("GET", "/v1/runs", None, headers=viewer), 400, "tenant_needed")
    everywhere = issuer.token(key, agentops_tenants="*")
    assert len((await api.ask("GET", "/api/v1/agents", None, headers=everywhere)).json()["items"]) == 2
    elsewhere = issuer.token(key, agentops_tenants=["globex"])
    is_problem(await api.ask("GET", "/api/v1/agents/one", None, headers=elsewhere), 404, "not_found")
    assert (await api.ask("GET", "/api/v1/agents/one", "viewer")).status_code == 200, "API keys are good besides"


async def test_a_token_that_is_not_good_is_refused_whatever_it_says(issuer: Issuer, api: Api) -> None:
    key, stranger = issuer.published["k1"], issuer.make("k1", publish=False)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    unsigned = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in (
            {"alg": "none", "kid": "k1"},
            {"iss": issuer.url, "aud": AUDIENCE, "sub": "a", "exp": time.time() + 300, "agentops_role": "admin", "agentops_tenants": "*"},
        )
    )  # fmt: skip
    by_public = jwt.api_jws.PyJWS().encode(
        b'{"sub":"a"}', base64.b64encode(public).decode(), algorithm="HS256", headers={"kid": "k1"}
    )
    bad = {
        "expired": issuer.token(key, exp=time.time() - 120),
        "without an end": issuer.token(key, exp=None),
        "not yet good": issuer.token(key, nbf=time.time() + 600),
        "for somebody else": issuer.token(key, aud="another"),
        "of somebody else": issuer.token(key, iss="https://example.org"),
        "without a holder": issuer.token(key, sub=None),
        "signed by a stranger": issuer.token(stranger),
        "by another algorithm than the key's": issuer.token(key, algorithm="PS256"),
        "unsigned": {"Authorization": f"Bearer {unsigned}."},
        "signed by what everybody knows": {"Authorization": f"Bearer {by_public}"},
        "no token": {"Authorization": "Bearer eyJhbGciOiJSUzI1NiJ9.e30"},
        "endless": {"Authorization": f"Bearer {'a' * 20_000}"},
    }
    for what, headers in bad.items():
        answer = await api.ask("GET", "/api/v1/agents", None, headers=headers)
        assert answer.status_code == 401, f"{what}: {answer.text}"
        is_problem(answer, 401, "unauthorized")
    strange: tuple[dict[str, Any], ...] = (
        {"agentops_role": None},
        {"agentops_role": "owner"},
        {"agentops_tenants": []},
        {"agentops_tenants": ["a b", 3]},
    )
    for claims in strange:
        is_problem(await api.ask("GET", "/api/v1/agents", None, headers=issuer.token(key, **claims)), 403, "forbidden")
    assert "Bearer ey" not in api.log.read_text()


async def test_unknown_key_ids_do_not_become_requests_at_the_issuer(issuer: Issuer, api: Api) -> None:
    key = issuer.published["k1"]
    assert (await api.ask("GET", "/api/v1/agents", None, headers=issuer.token(key))).status_code in {200, 503}
    made_up = [api.ask("GET", "/api/v1/agents", None, headers=issuer.token(key, f"made-up-{number}")) for number in range(30)]
    for answer in await asyncio.gather(*made_up):
        is_problem(answer, 401, "unauthorized")
    assert issuer.reads == 1


async def test_an_issuer_that_is_away_is_no_reason_to_let_anybody_in_or_to_forget_its_keys(
    issuer: Issuer, stopped_api: Api
) -> None:
    key = issuer.published["k1"]
    await issuer.stop()
    await stopped_api.start(AGENTOPS_API_OIDC_ISSUER=issuer.url, AGENTOPS_API_OIDC_AUDIENCE=AUDIENCE)
    answer = await stopped_api.ask("GET", "/api/v1/agents", None, headers=issuer.token(key))
    is_problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"]
    assert (await stopped_api.ask("GET", "/api/v1/agents", "viewer")).status_code == 200


async def test_keys_that_were_read_stand_while_their_issuer_is_away(issuer: Issuer, api: Api, world: World) -> None:
    headers = issuer.token(issuer.published["k1"])
    assert (await api.ask("GET", "/api/v1/agents/one", None, headers=headers)).status_code == 200
    await issuer.stop()
    assert (await api.ask("GET", "/api/v1/agents/one", None, headers=headers)).status_code == 200
    is_problem(
        await api.ask("GET", "/api/v1/agents/one", None, headers=issuer.token(issuer.published["k1"], "k2")), 401, "unauthorized"
    )


async def test_a_key_for_encrypting_signs_nothing(stopped_api: Api, issuer: Issuer) -> None:
    issuer.use = "enc"
    await stopped_api.start(AGENTOPS_API_OIDC_ISSUER=issuer.url, AGENTOPS_API_OIDC_AUDIENCE=AUDIENCE)
    for kid in ("k1", None):
        answer = await stopped_api.ask("GET", "/api/v1/agents", None, headers=issuer.token(issuer.published["k1"], kid))
        assert answer.status_code in {401, 503}, answer.text


@pytest.mark.parametrize(
    "url", ["http://id.example.org", "http://localhost.example.org", "http://127.0.0.1@example.org", "ftp://id.example.org"]
)
def test_an_issuer_somebody_could_stand_before_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="https"):
        ApiSettings(oidc_issuer=url, oidc_audience="a")
    assert ApiSettings(oidc_issuer="http://localhost:8080/realm", oidc_audience="a").oidc_issuer

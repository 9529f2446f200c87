"""Bearer tokens of an identity provider: OpenID Connect's JWTs, checked by the provider's public keys."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
import jwt
import orjson
import structlog

from agent_manager.api.problems import ProblemError, away, unauthorized
from agent_manager.api.settings import ApiSettings
from schemas.ids import is_token
from service.instruments import API_REFUSED
from streams.users import EVERY_TENANT, Role

log = structlog.get_logger(__name__)

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a private key alone: a shared secret, or none, would let anybody who knows public things sign."""
_LEEWAY_S: Final = 30
_FETCH_S: Final = 5.0
_FRESH_S: Final = 3600.0
"""Keys are read again after so long, so that one that was withdrawn ends; while the issuer is away, what was known stands."""
_AGAIN_S: Final = 10.0
"""An unknown key id has them read again at most so often: anybody can make one up."""
_MOST_BYTES: Final = 1_000_000
_LONGEST: Final = 16_384
_ROLES: Final[tuple[Role, ...]] = ("admin", "operator", "viewer")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a good token says of its holder."""

    subject: str
    about: str
    role: Role
    tenants: frozenset[str]


class Provider:
    """One issuer, and its keys as they are known."""

    def __init__(self, settings: ApiSettings, http: httpx.AsyncClient) -> None:
        assert settings.oidc_issuer is not None
        assert settings.oidc_audience is not None
        self._issuer = settings.oidc_issuer
        self._audience = settings.oidc_audience
        self._jwks_url = settings.oidc_jwks_url
        self._role_claim = settings.oidc_role_claim
        self._tenants_claim = settings.oidc_tenants_claim
        self._http = http
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._read_at = self._tried_at = float("-inf")
        self._reading = asyncio.Lock()

    async def identity(self, token: str) -> Identity:
        """Whose token this is; raises ProblemError (401, 403, 503)."""
        try:
            head = jwt.get_unverified_header(token) if len(token) <= _LONGEST else {}
        except jwt.PyJWTError:
            head = {}
        if head.get("alg") not in ALGORITHMS:
            raise _refused("malformed", "this is neither an API key nor a token signed by a public-key algorithm")
        key = await self._key(head.get("kid"))
        try:
            # The key's own algorithm, where it has one, must be the head's: a token does not choose how it is checked.
            claims = jwt.decode(
                token, key, algorithms=[head["alg"]], audience=self._audience, issuer=self._issuer, leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            raise _refused(_word(error), f"the token is not good: {error}") from error
        return self._identity(claims)

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        subject = str(claims["sub"])
        roles = _words(claims.get(self._role_claim))
        role = next((one for one in _ROLES if one in roles), None)
        tenants = frozenset(one for one in _words(claims.get(self._tenants_claim)) if one == EVERY_TENANT or is_token(one))
        if role is None or not tenants:
            lacking = self._role_claim if role is None else self._tenants_claim
            raise ProblemError(403, "forbidden", f"the token is good, but its claim {lacking!r} names nothing here")
        told = claims.get("email") or claims.get("preferred_username") or subject
        return Identity(subject, f"{str(told)[:120]!r}", role, tenants)

    async def _key(self, kid: str | None) -> jwt.PyJWK:
        if time.monotonic() - self._read_at > _FRESH_S or kid not in self._keys:
            await self._read()
        if (found := self._keys.get(kid)) is not None:
            return found
        if not self._keys:
            raise away("the identity provider's keys cannot be read: ask again in a moment", round(_AGAIN_S))
        raise _refused("unknown_key", "the token is signed by a key that its issuer does not publish")

    async def _read(self) -> None:
        """Reads the issuer's keys, unless that was tried just now; what is known stands where it fails."""
        async with self._reading:
            if time.monotonic() - self._tried_at < _AGAIN_S:
                return
            self._tried_at = time.monotonic()
            try:
                if self._jwks_url is None:
                    found = await self._json(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                    if found.get("issuer") != self._issuer:
                        raise ValueError(f"discovery names issuer {str(found.get('issuer'))[:200]!r}")
                    self._jwks_url = str(found["jwks_uri"])
                keys = jwt.PyJWKSet.from_dict(await self._json(self._jwks_url)).keys
            except (httpx.HTTPError, jwt.PyJWTError, TimeoutError, ValueError, KeyError, TypeError) as error:
                log.warning("oidc.keys_unread", issuer=self._issuer, error=repr(error))
                return
            signing = [key for key in keys if key.public_key_use in {None, "sig"}]
            self._keys = {key.key_id: key for key in signing}
            if len(signing) == 1:
                # Where there is only one, a token need not say which.
                self._keys[None] = signing[0]
            self._read_at = time.monotonic()

    async def _json(self, url: str) -> dict[str, Any]:
        body = bytearray()
        async with asyncio.timeout(_FETCH_S), self._http.stream("GET", url, timeout=_FETCH_S, follow_redirects=False) as answer:
            answer.raise_for_status()
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > _MOST_BYTES:
                    raise ValueError(f"{url} has more than {_MOST_BYTES:,} bytes")
        found = orjson.loads(body)
        if not isinstance(found, dict):
            raise TypeError(f"{url} is no JSON object")
        return found


def _words(claim: object) -> frozenset[str]:
    if isinstance(claim, str):
        return frozenset(claim.split())
    return frozenset(one for one in claim if isinstance(one, str)) if isinstance(claim, list) else frozenset()


def _word(error: jwt.PyJWTError) -> str:
    match error:
        case jwt.ExpiredSignatureError():
            return "expired"
        case jwt.InvalidSignatureError():
            return "wrong"
        case jwt.InvalidAudienceError() | jwt.InvalidIssuerError():
            return "not_ours"
        case _:
            return "malformed"


def _refused(reason: str, detail: str) -> ProblemError:
    API_REFUSED.labels(reason).inc()
    return unauthorized(detail)

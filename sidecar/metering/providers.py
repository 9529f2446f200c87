"""Who stands behind each route of the metering proxy: one table."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

Errors = Literal["openai", "anthropic", "google", "aws"]
"""The form of a provider's error bodies, which its SDKs understand."""


@dataclass(frozen=True, slots=True)
class Route:
    """One first path segment of the proxy, and the provider it leads to."""

    name: str
    provider: str
    """As the price book calls it, unless the upstream's host says another."""
    upstream: str | None
    """Where calls go by default, path included; None: only where the user says so. ``{region}`` is the AWS region."""
    variables: tuple[str, ...]
    """Environment variables by which SDKs are told a base URL. One that the user had set is the upstream."""
    errors: Errors


_VERTEX: Final = "https://aiplatform.googleapis.com"
_LOCATION: Final = re.compile(r"/locations/([a-z0-9-]{1,40})/")

ROUTES: Final[Mapping[str, Route]] = {
    route.name: route
    for route in (
        Route("openai", "openai", "https://api.openai.com/v1", ("OPENAI_BASE_URL",), "openai"),
        Route("anthropic", "anthropic", "https://api.anthropic.com", ("ANTHROPIC_BASE_URL",), "anthropic"),
        Route("gemini", "google", "https://generativelanguage.googleapis.com", ("GOOGLE_GEMINI_BASE_URL",), "google"),
        Route("vertex", "google", _VERTEX, ("GOOGLE_VERTEX_BASE_URL",), "google"),
        Route("openrouter", "openrouter", "https://openrouter.ai/api/v1", ("OPENROUTER_BASE_URL",), "openai"),
        Route("azure", "azure", None, ("AZURE_OPENAI_ENDPOINT",), "openai"),
        Route("bedrock", "aws", "https://bedrock-runtime.{region}.amazonaws.com", ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME",), "aws"),
        Route("groq", "groq", "https://api.groq.com", ("GROQ_BASE_URL",), "openai"),
        Route("mistral", "mistral", "https://api.mistral.ai", ("MISTRAL_BASE_URL",), "openai"),
        Route("deepseek", "deepseek", "https://api.deepseek.com", ("DEEPSEEK_BASE_URL",), "openai"),
        Route("cerebras", "cerebras", "https://api.cerebras.ai", ("CEREBRAS_BASE_URL",), "openai"),
        Route("xai", "x-ai", "https://api.x.ai/v1", ("XAI_BASE_URL",), "openai"),
    )
}
"""In the order in which they are told. A path behind the route goes to the upstream's origin as it came."""

_HOSTS: Final = tuple(
    (re.compile(pattern), provider)
    for pattern, provider in (
        (r"(^|\.)openai\.com$", "openai"),
        (r"\.(openai|services\.ai|cognitiveservices)\.azure\.com$|\.azure-api\.net$", "azure"),
        (r"(^|\.)anthropic\.com$", "anthropic"),
        (r"(^|\.)googleapis\.com$", "google"),
        (r"(^|\.)openrouter\.ai$", "openrouter"),
        (r"\.amazonaws\.com$", "aws"),
        (r"(^|\.)groq\.com$", "groq"),
        (r"(^|\.)mistral\.ai$", "mistral"),
        (r"(^|\.)deepseek\.com$", "deepseek"),
        (r"(^|\.)cerebras\.ai$", "cerebras"),
        (r"(^|\.)x\.ai$", "x-ai"),
        (r"(^|\.)perplexity\.ai$", "perplexity"),
        (r"(^|\.)fireworks\.ai$", "fireworks"),
        (r"(^|\.)moonshot\.(ai|cn)$", "moonshotai"),
        (r"(^|\.)together\.(xyz|ai)$", "together"),
        (r"(^|\.)z\.ai$", "zai"),
    )
)

SENDS_USAGE_WHEN_ASKED: Final = frozenset(
    {"openai", "azure", "deepseek", "google", "openrouter", "fireworks", "moonshotai", "zai"}
)
"""Providers whose chat streams take ``stream_options``. The others end a stream with its usage unasked, or refuse the option."""

SIGNED: Final = ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")
"""How ``Authorization`` begins where a request is signed with Amazon's access keys instead of bearing a key."""
SIGNED_ELSEWHERE: Final = (
    "this request is signed with AWS access keys for the sidecar's address, and Amazon refuses such a signature at its own: "
    "set AWS_BEARER_TOKEN_BEDROCK to an Amazon Bedrock API key, which passes"
)
_AMAZON: Final = re.compile(r"\.amazonaws\.com(\.cn)?(:\d+)?$")


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where the calls of one route go."""

    route: Route
    origin: str
    """Scheme, host and port: the path of a call comes behind it as it came."""
    path: str
    """Of the base URL."""
    provider: str

    @property
    def told_path(self) -> str:
        """Behind the proxy's own address, what an SDK is told as its base URL."""
        return f"/{self.route.name}{self.path}"

    @property
    def checks_signatures(self) -> bool:
        """Whether it is Amazon itself, where a signature made for another host is refused. A gateway of the user's own may sign anew."""
        return _AMAZON.search(self.origin) is not None

    def origin_for(self, path: str) -> str:
        """The origin of a call of ``path``: Vertex AI has one for each location."""
        if self.origin == _VERTEX and (found := _LOCATION.search(path)) is not None and found[1] != "global":
            return f"https://{found[1]}-{_VERTEX.removeprefix('https://')}"
        return self.origin


class UnknownUpstreamError(ValueError):
    """A route has nowhere to lead. Telling its upstream helps."""


def provider_of(host: str, otherwise: str) -> str:
    """Who bills for calls to ``host``; ``otherwise`` where its name does not say: a gateway, or a server of the user's own."""
    return next((provider for pattern, provider in _HOSTS if pattern.search(host)), otherwise)


def upstream(route: Route, told: str | None, environment: Mapping[str, str]) -> Upstream:
    """Where ``route`` leads: as ``told``, else where the user's own variable led, else to the provider itself.

    Raises UnknownUpstreamError where nothing says.
    """
    setting = f"AGENTOPS_SIDECAR_UPSTREAM_{route.name.upper()}"
    base = told or next((environment[name] for name in route.variables if environment.get(name)), None) or route.upstream
    if base is None:
        msg = f"metering {route.name}: nothing says where it is: set {setting} (or {' or '.join(route.variables)}) to its address"
        raise UnknownUpstreamError(msg)
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
    parts = urlsplit(base.replace("{region}", region))
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None or parts.query:
        shown = f"{parts.scheme}://{parts.hostname}" if parts.hostname else "what is given"
        msg = f"metering {route.name}: {shown} is no base URL: {setting} begins with http:// or https:// and has neither login nor query"
        raise UnknownUpstreamError(msg)
    return Upstream(
        route, f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/"), provider_of(parts.hostname, route.provider)
    )

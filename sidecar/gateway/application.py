"""The gateway as a FastAPI application: its routes, what they promise, and the page that says so."""

from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response

from schemas.events import Event
from service.described import rendered
from service.door import Readiness, readiness_answer
from service.instruments import LOOP_ERRORS, REGISTRY
from sidecar.gateway.answers import Receipt, Refusal
from sidecar.gateway.doors import CLOSE, Doors, answer, refuse
from sidecar.gateway.telemetry import Report
from sidecar.submissions import NDJSON_TYPES

SERVICE: Final = "gateway"
_NDJSON: Final = "application/x-ndjson"
_AFTER: Final = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
_STATUSES: Final[dict[int, tuple[type[Receipt | Refusal], str]]] = {
    202: (Receipt, "What was accepted is stored: NATS acknowledged it. `results` says it for each event."),
    400: (Receipt, "Nothing was accepted: none of it is JSON, or the body is empty, no gzip, or was cut off (then a refusal)."),
    401: (Refusal, "No good API key."),
    403: (Receipt, "Nothing was accepted: all of it is of another tenant or agent than the key's."),
    408: (Refusal, "The body did not arrive in time."),
    413: (Refusal, "More than a megabyte (unpacked): nothing was read. Send less at once."),
    415: (Refusal, "Neither JSON nor NDJSON, or an encoding other than gzip."),
    422: (Receipt, "Nothing was accepted: all of it is JSON that breaks the contract; `errors` says where."),
    429: (Refusal, "Too many events of this tenant. Nothing was taken."),
    503: (Refusal, "NATS is away, slow or full, or the gateway is busy. Send all of it again: events are known by their id."),
}
_EXAMPLE: Final = {
    "event_version": "v1", "event_id": "01938f2e-7c1a-7b2e-9c55-3f1f6f1b2a10", "event_type": "run.started",
    "occurred_at": "2026-11-20T10:00:00Z", "tenant": {"tenant_id": "demo"}, "run": {"run_id": "r1", "agent_id": "my-agent"},
}  # fmt: skip
_REPORT: Final = {
    "agent_id": "agent-001", "service_name": "customer-support-bot", "status": "HEALTHY", "last_heartbeat": "2026-11-20T10:00:00Z",
    "metrics": {"latency_ms": 120, "error_rate": 0.01}, "active_faults": [],
}  # fmt: skip
_ABOUT: Final = """\
Takes events of agents and brings them to NATS. Every request needs an API key of a tenant: `agentops keys create NAME --tenant TENANT`.

A body is one JSON object, a JSON array of them, or NDJSON (`application/x-ndjson`), at most a megabyte, gzip or not. Events are known by
`event_id`: sending one again, because an answer was lost, does no harm. Nothing is kept here: 202 means that NATS has it, and whatever
else is answered the sender still has it.
"""


def _responses() -> dict[int | str, dict[str, Any]]:
    return {
        status: {"model": model, "description": about} | ({"headers": _AFTER} if status in {429, 503} else {})
        for status, (model, about) in _STATUSES.items()
    }


def _body(model: str, example: dict[str, Any]) -> dict[str, Any]:
    one = {"$ref": f"#/components/schemas/{model}"}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"oneOf": [one, {"type": "array", "items": one}]}, "example": example},
                _NDJSON: {"schema": {"type": "string", "description": "One JSON object a line."}},
            },
        }
    }


def _with_inputs(described: dict[str, Any]) -> dict[str, Any]:
    """The models of the bodies, which are read as bytes and so known to FastAPI by nothing."""
    components = described.setdefault("components", {}).setdefault("schemas", {})
    for model in (Event, Report):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        components |= schema.pop("$defs", {})
        components[model.__name__] = schema
    described["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    return described


class _Application(FastAPI):
    """FastAPI, with a description that names what it reads itself."""

    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            self.openapi_schema = _with_inputs(super().openapi())
        return self.openapi_schema


def application(doors: Doors, readiness: Readiness) -> FastAPI:
    """Every route. FastAPI's own pages load scripts from elsewhere, so ``/docs`` is one of ours, without any."""
    app = _Application(title="AgentOps gateway", version="v1", description=_ABOUT, docs_url=None, redoc_url=None)
    secured: dict[str, Any] = {"security": [{"bearer": []}, {"header": []}]}

    @app.post(
        "/v1/events", status_code=202, summary="Events, in the contract v1 or v0", responses=_responses(),
        openapi_extra=secured | _body("Event", _EXAMPLE),
    )  # fmt: skip
    async def events(request: Request) -> Response:
        return await doors.take("events", request)

    @app.post(
        "/api/v1/telemetry", status_code=202, summary="Reports of the older shape", responses=_responses(),
        description="A sidecar's report of status and metrics; becomes a heartbeat. Events are taken, too.",
        openapi_extra=secured | _body("Report", _REPORT),
    )  # fmt: skip
    async def reports(request: Request) -> Response:
        return await doors.take("telemetry", request)

    @app.get("/healthz", summary="Is it alive?")
    async def healthz() -> dict[str, str]:
        return {"service": SERVICE, "status": "ok"}

    @app.get("/readyz", summary="Can it take events?", responses={503: {"description": "Not now; `waiting_for` says why."}})
    async def readyz() -> Response:
        status, body = readiness_answer(SERVICE, readiness())
        return answer(status, body)

    @app.get("/metrics", summary="Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(rendered(app.openapi()))

    @app.exception_handler(StarletteHTTPException)
    async def unknown(_: Request, error: HTTPException) -> Response:
        response = refuse(error.status_code, "not_found" if error.status_code == 404 else "refused", f"{error.detail}: see /docs")
        response.headers.update(CLOSE | dict(error.headers or {}))
        return response

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        LOOP_ERRORS.labels("gateway").inc()
        return refuse(500, "failed", "the gateway failed at this request; its log says where", headers=CLOSE)

    return app


assert _NDJSON in NDJSON_TYPES

"""The API as a FastAPI application: its routes, what they promise, and the page that says so."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import Depends, FastAPI, Header, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from agent_manager.api import pages, streaming
from agent_manager.api.asking import ask
from agent_manager.api.callers import Caller, Callers
from agent_manager.api.desk import Desk
from agent_manager.api.listening import failed
from agent_manager.api.models import (
    Acknowledged,
    AgentDetail,
    AgentMetrics,
    Agents,
    Changes,
    Cleared,
    FaultOrder,
    Ordered,
    Overview,
    Registration,
    Removal,
    Seen,
)  # fmt: skip
from agent_manager.api.pages import Listed
from agent_manager.api.problems import MEDIA_TYPE, Problem, ProblemError, invalid, not_found
from agent_manager.api.settings import ApiSettings
from agent_manager.cli.fleet.rows import AgentRow, agent_row
from schemas.budgets import BudgetsPage
from schemas.commands import CommandName, CommandResponse
from schemas.errors import FieldError, json_path, shown
from schemas.ids import is_token
from schemas.model import TOKEN_PATTERN, Identifier, Instant, Token
from schemas.queries import Page
from schemas.sections import HealthStatus, Severity
from schemas.versions import CanaryParams, PromoteParams, RollbackParams
from service.described import rendered
from service.door import Readiness, readiness_answer
from service.instruments import REGISTRY
from streams.users import Role

SERVICE: Final = "api"
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_ABOUT: Final = """\
Agents read, commanded and registered over HTTP. Every request needs an API key with a role (`agentops keys create NAME --tenant T --role
viewer|operator|admin`) or a bearer token of the identity provider this API was told of. What is of another tenant is not there.

Viewers read. Operators also start, stop, restart and recover agents, inject faults and acknowledge alerts. Admins also register, change,
delete, promote and roll back agents, which decides what programs run.

A command is carried out once: it waits in NATS until its agent's turn, and its answer comes back here. With an `Idempotency-Key` the same
request sent again, because an answer was lost, is answered as it was. Whatever goes wrong is `application/problem+json`.
"""
_WORDS: Final = {
    400: "The request cannot be understood.",
    401: "No good API key or token.",
    403: "The key or token is good, but not for this.",
    404: "There is no such thing for this caller.",
    408: "The body did not arrive in time.",
    409: "It stands in the way of what there is, or several are meant.",
    413: "The body is too large.",
    415: "Another encoding than gzip.",
    422: "`errors` says which fields are wrong.",
    502: "It was tried, and failed.",
    503: "NATS or the warehouse is away. Send it again later.",
    504: "No answer in time: not begun by now, it has expired; begun, it goes on.",
}
_READING: Final = (400, 401, 403, 404, 408, 409, 413, 415, 422, 502, 503)
_COMMANDING: Final = (*_READING, 504)
_RETRY: Final = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}

AgentId = Annotated[str, Path(pattern=TOKEN_PATTERN, description="Its id.")]
OfTenant = Annotated[Token | None, Query(description="Which tenant; needed only where it is not clear.")]
Cursor = Annotated[str | None, Query(max_length=400, description="`next_cursor` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=pages.MOST)]
Since = Annotated[Instant | None, Query(description="Inclusive. Default: the last 24 hours.")]
Until = Annotated[Instant | None, Query(description="Exclusive.")]
Wait = Annotated[float, Query(ge=0.1, le=120, description="Seconds to wait for the answer; the command expires with them.")]
Once = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="Names the request: sent again it is not carried out again.",
    ),
]


def _problems(statuses: tuple[int, ...]) -> dict[int | str, dict[str, Any]]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": _WORDS[status], "content": content} | ({"headers": _RETRY} if status == 503 else {})
        for status in statuses
    }


class _Application(FastAPI):
    """FastAPI, with a description that names problems and how to be let in."""

    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            told = super().openapi()
            parts = told.setdefault("components", {})
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            parts.setdefault("schemas", {}).update(problem.pop("$defs", {}))
            parts["schemas"]["Problem"] = problem
            parts["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or an identity provider's token."},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            }
            for path, operations in told["paths"].items():
                if path.startswith(("/api/", "/v1/")):
                    for operation in operations.values():
                        operation["security"] = [{"bearer": []}, {"header": []}]
            self.openapi_schema = told
        return self.openapi_schema


def _field(error: Any) -> FieldError:
    where, *rest = error["loc"]
    path = json_path(tuple(rest)).removeprefix("$")
    value = None if error["type"] in {"missing", "json_invalid"} else shown(error.get("input"), str(rest[-1]) if rest else "")
    return FieldError(loc=f"{where}{path}"[:400], msg=str(error["msg"])[:400], value=value)


def application(settings: ApiSettings, callers: Callers, desk: Desk, readiness: Readiness) -> FastAPI:
    """Every route. FastAPI's own pages load scripts from elsewhere, so ``/docs`` is one of ours, without any."""
    app = _Application(title="AgentOps API", version="v1", description=_ABOUT, docs_url=None, redoc_url=None)
    _reading(app, callers, desk)
    _commanding(app, callers, desk)
    _registering(app, callers, desk)
    _live(app, settings, callers, desk)
    _about_itself(app, readiness)

    @app.exception_handler(ProblemError)
    async def problem(_: Request, error: ProblemError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def wrong(_: Request, error: RequestValidationError) -> Response:
        return invalid("the request is not valid", [_field(one) for one in error.errors()[:20]]).response()

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, error: HTTPException) -> Response:
        kind = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
        return ProblemError(error.status_code, kind, f"{error.detail}: see /docs", headers=error.headers).response()

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, __: Exception) -> Response:
        return failed().response()

    return app


def _asks(callers: Callers, role: Role) -> Any:
    """Who asks, at least a ``role``."""

    async def identified(request: Request) -> Caller:
        headers = request.headers
        caller = await callers.identify(headers.get("authorization"), headers.get("x-api-key"))
        caller.must_be(role)
        return caller

    return Depends(identified)


def _reading(app: FastAPI, callers: Callers, desk: Desk) -> None:
    viewer = _asks(callers, "viewer")
    told = _problems(_READING)

    @app.get("/api/v1/agents", summary="Every agent", responses=told, tags=["agents"])
    async def agents(
        caller: Caller = viewer, tenant: OfTenant = None, health: HealthStatus | None = None, tag: Annotated[str | None, Query(max_length=256)] = None,
        search: Annotated[str | None, Query(max_length=128, description="Part of the id or name.")] = None, limit: Limit = pages.DEFAULT, cursor: Cursor = None,
    ) -> Agents:  # fmt: skip
        scope, known, begin, now = (
            caller.scope(tenant) if tenant else None,
            desk.fleet.known(),
            pages.after(cursor),
            datetime.now(UTC),
        )
        wanted = (search or "").lower()
        found: list[tuple[str, AgentRow]] = []
        for key in known.agents():
            if key <= begin or not caller.sees_agent(key) or (scope is not None and not key.startswith(f"{scope}.")):
                continue
            row, record = agent_row(key, known, now), known.records.get(key)
            fits = wanted in row.agent_id.lower() or wanted in row.name.lower()
            if fits and health in {None, row.health} and (tag is None or (record is not None and tag in record.tags)):
                found.append((key, row))
                if len(found) > limit:
                    break
        following = pages.cursor(found[limit - 1][0]) if len(found) > limit else None
        return Agents(items=tuple(row for _, row in found[:limit]), next_cursor=following)

    @app.get("/api/v1/agents/{agent_id}", summary="Everything known of an agent", responses=told, tags=["agents"])
    async def agent(agent_id: AgentId, caller: Caller = viewer, tenant: OfTenant = None) -> AgentDetail:
        return desk.detail(caller, desk.fleet.key(caller, agent_id, tenant))

    @app.get("/api/v1/agents/{agent_id}/status", summary="How an agent is", responses=told, tags=["agents"])
    async def status(agent_id: AgentId, caller: Caller = viewer, tenant: OfTenant = None) -> AgentRow:
        return desk.detail(caller, desk.fleet.key(caller, agent_id, tenant)).agent

    @app.get("/api/v1/agents/{agent_id}/metrics", summary="How an agent does, now and before", responses=told, tags=["agents"])
    async def metrics(
        agent_id: AgentId, caller: Caller = viewer, tenant: OfTenant = None, since: Since = None, until: Until = None,
        metric: Literal["events", "runs", "errors", "tokens", "cost", "latency"] = "latency",
        bucket: Literal["second", "minute", "hour", "day"] = "hour", limit: Limit = pages.MOST,
    ) -> AgentMetrics:  # fmt: skip
        key = desk.fleet.key(caller, agent_id, tenant)
        return await desk.metrics(key, {"metric": metric, "bucket": bucket, "since": since, "until": until, "limit": limit})

    @app.get("/api/v1/agents/{agent_id}/logs", summary="What an agent wrote, newest first", responses=told, tags=["agents"])
    async def logs(
        agent_id: AgentId, caller: Caller = viewer, tenant: OfTenant = None, since: Since = None, until: Until = None,
        level: Annotated[Literal["debug", "info", "warning", "error", "critical"] | None, Query(description="And worse.")] = None,
        run: Identifier | None = None, trace: Identifier | None = None,
        search: Annotated[str | None, Query(min_length=1, max_length=128)] = None, limit: Limit = pages.DEFAULT, cursor: Cursor = None,
    ) -> Listed:  # fmt: skip
        of, _, one = desk.fleet.key(caller, agent_id, tenant).partition(".")
        return await _page(desk, "logs", {
            "tenant": of, "agent": one, "since": since, "until": until, "level": level, "run": run, "trace": trace, "search": search,
        }, limit, cursor)  # fmt: skip

    @app.get(
        "/api/v1/agents/{agent_id}/history",
        summary="Every change of what an agent is, newest first",
        responses=told,
        tags=["agents"],
    )
    async def history(
        agent_id: AgentId, caller: Caller = viewer, tenant: OfTenant = None, limit: Limit = pages.DEFAULT, cursor: Cursor = None
    ) -> Listed:
        begin = pages.offset(cursor)
        found = await desk.history(caller, desk.fleet.key(caller, agent_id, tenant))
        following = pages.cursor(begin + limit) if begin + limit < len(found) else None
        return Listed(items=tuple(found[begin : begin + limit]), next_cursor=following)

    @app.get("/api/v1/agents/{agent_id}/faults", summary="The faults an agent has now", responses=told, tags=["faults"])
    async def faults(agent_id: AgentId, caller: Caller = viewer, tenant: OfTenant = None) -> Listed:
        found = desk.detail(caller, desk.fleet.key(caller, agent_id, tenant)).faults
        return Listed(items=tuple(one.model_dump(mode="json", exclude_none=True) for one in found))

    @app.get("/v1/metrics/overview", summary="The fleet in a few figures", responses=told, tags=["figures"])
    async def overview(caller: Caller = viewer, tenant: OfTenant = None) -> Overview:
        return await desk.overview(caller, tenant)

    @app.get("/v1/failures/recent", summary="What failed, newest first", responses=told, tags=["figures"])
    async def failures(
        caller: Caller = viewer, tenant: OfTenant = None, agent: Token | None = None, since: Since = None, until: Until = None,
        grouped: Annotated[bool, Query(description="By error type, agent and kind.")] = False, limit: Limit = pages.DEFAULT, cursor: Cursor = None,
    ) -> Listed:  # fmt: skip
        params = _about(caller, tenant, agent) | {"since": since, "until": until, "grouped": grouped}
        return await _page(desk, "failures", params, limit, cursor)

    @app.get("/v1/runs", summary="Runs, newest first", responses=told, tags=["figures"])
    async def runs(
        caller: Caller = viewer, tenant: OfTenant = None, agent: Token | None = None, since: Since = None, until: Until = None,
        status: Literal["running", "completed", "failed"] | None = None, limit: Limit = pages.DEFAULT, cursor: Cursor = None,
    ) -> Listed:  # fmt: skip
        return await _page(
            desk, "runs", _about(caller, tenant, agent) | {"since": since, "until": until, "status": status}, limit, cursor
        )

    @app.get("/v1/runs/{run_id}", summary="One run with its spans, parents before children", responses=told, tags=["figures"])
    async def run(
        run_id: Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[^\x00]*$")], caller: Caller = viewer, tenant: OfTenant = None,
        limit: Limit = pages.MOST, cursor: Cursor = None,
    ) -> Listed:  # fmt: skip
        scope = caller.scope(tenant)
        if caller.agents:
            whose = await ask(
                desk.client, "runs", {"tenant": scope, "search": run_id, "since": _EPOCH, "limit": pages.MOST}, Page
            )
            if not any(row["run_id"] == run_id and row["agent_id"] in caller.agents for row in whose.rows):
                raise not_found(f"there is no run {run_id!r}")
        found = await _page(desk, "run", {"run_id": run_id, "tenant": scope}, limit, cursor)
        if cursor is None and not found.items:
            raise not_found(f"there is no run {run_id!r}")
        return found

    @app.get("/api/v1/alerts", summary="Alerts, newest first", responses=told, tags=["alerts"])
    async def alerts(
        caller: Caller = viewer, tenant: OfTenant = None, agent: Token | None = None, severity: Severity | None = None,
        state: Annotated[Literal["firing", "acknowledged", "resolved", "active"] | None, Query(description="`active`: firing or acknowledged.")] = None,
        since: Since = None, until: Until = None, limit: Limit = pages.DEFAULT, cursor: Cursor = None,
    ) -> Listed:  # fmt: skip
        params = _about(caller, tenant, agent) | {"severity": severity, "state": state, "since": since, "until": until}
        return await _page(desk, "alerts", params, limit, cursor)

    @app.get("/api/v1/budgets", summary="Budgets, and how they stand", responses=told, tags=["budgets"])
    async def budgets(caller: Caller = viewer, tenant: OfTenant = None, budget: Token | None = None) -> BudgetsPage:
        return await ask(desk.client, "budgets", {"tenant": caller.scope(tenant), "budget": budget}, BudgetsPage)


def _about(caller: Caller, tenant: str | None, agent: str | None) -> dict[str, Any]:
    """Whose figures; a key for some agents names one of them."""
    if caller.agents and agent not in caller.agents:
        only = next(iter(caller.agents)) if len(caller.agents) == 1 and agent is None else None
        if only is None:
            raise ProblemError(
                403, "forbidden", f"{caller.about} is for agents: say which with ?agent=: {', '.join(sorted(caller.agents))}"
            )
        agent = only
    return {"tenant": caller.scope(tenant), "agent": agent}


async def _page(desk: Desk, query: str, params: dict[str, Any], limit: int, cursor: str | None) -> Listed:
    return pages.of_query(await ask(desk.client, query, {**params, "limit": limit, "offset": pages.offset(cursor)}, Page))


def _commanding(app: FastAPI, callers: Callers, desk: Desk) -> None:
    operator = _asks(callers, "operator")
    told = _problems(_COMMANDING)

    def lifecycle(command: CommandName, summary: str) -> None:
        @app.post(
            f"/api/v1/agents/{{agent_id}}/{command}", summary=summary, responses=told, tags=["commands"], operation_id=command
        )
        async def give(
            agent_id: AgentId, caller: Caller = operator, tenant: OfTenant = None, wait_s: Wait = 30, once: Once = None,
            body: Ordered | None = None,
        ) -> CommandResponse:  # fmt: skip
            key = desk.fleet.key(caller, agent_id, tenant)
            return await desk.command(caller, key, command, (body or Ordered()).model_dump(exclude_none=True), wait_s, once)

    lifecycle("start", "Start an agent")
    lifecycle("stop", "Stop an agent; it stays stopped until it is started again")
    lifecycle("restart", "Stop an agent and start it again")
    lifecycle("recover", "Clear an agent's faults, restart it, and see that it is well")

    async def inject(
        body: FaultOrder,
        agent_id: AgentId,
        caller: Caller = operator,
        tenant: OfTenant = None,
        wait_s: Wait = 30,
        once: Once = None,
    ) -> CommandResponse:
        key = desk.fleet.key(caller, agent_id, tenant)
        return await desk.command(caller, key, "inject_fault", body.model_dump(exclude_none=True), wait_s, once)

    for path in ("faults", "inject-fault"):
        app.post(
            f"/api/v1/agents/{{agent_id}}/{path}", summary="Break an agent on purpose, for a limited time", responses=told, tags=["faults"],
            operation_id=path.replace("-", "_"),
        )(inject)  # fmt: skip

    @app.delete("/api/v1/agents/{agent_id}/faults", summary="End an agent's faults", responses=told, tags=["faults"])
    async def clear(
        agent_id: AgentId, caller: Caller = operator, tenant: OfTenant = None, wait_s: Wait = 30, once: Once = None, body: Cleared | None = None
    ) -> CommandResponse:  # fmt: skip
        key = desk.fleet.key(caller, agent_id, tenant)
        return await desk.command(caller, key, "clear_faults", (body or Cleared()).model_dump(exclude_none=True), wait_s, once)

    @app.post("/api/v1/alerts/{alert_id}/acknowledge", summary="Say that an alert was seen", responses=told, tags=["alerts"])
    async def acknowledge(
        alert_id: Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_=/-]+$")], caller: Caller = operator,
        tenant: OfTenant = None, body: Seen | None = None,
    ) -> Acknowledged:  # fmt: skip
        return await desk.acknowledge(caller, alert_id, tenant, (body or Seen()).note)


def _registering(app: FastAPI, callers: Callers, desk: Desk) -> None:
    admin = _asks(callers, "admin")
    told = _problems(_COMMANDING)

    @app.post(
        "/api/v1/agents", status_code=201, summary="Register an agent, or a version of one", responses=told, tags=["registry"]
    )
    async def register(
        body: Registration,
        response: Response,
        caller: Caller = admin,
        tenant: OfTenant = None,
        wait_s: Wait = 30,
        once: Once = None,
    ) -> CommandResponse:
        agent_id, own = body.record.get("agent_id"), body.record.get("tenant_id", tenant)
        for name, value in (("agent_id", agent_id), ("tenant_id", own)):
            if (value is not None or name == "agent_id") and not (isinstance(value, str) and is_token(value)):
                error = FieldError(loc=f"body.record.{name}", msg="use 1 to 64 of A-Z a-z 0-9 _ -", value=shown(value, name))
                raise invalid("the record is not valid", (error,))
        scope = caller.scope(own if isinstance(own, str) else None)
        if scope is None:
            raise ProblemError(400, "tenant_needed", "say whose agent it is, with record.tenant_id or ?tenant=")
        key = f"{scope}.{agent_id}"
        if not caller.sees_agent(key):
            raise ProblemError(403, "forbidden", f"{caller.about} is for other agents")
        answer = await desk.command(caller, key, "register", body.model_dump(exclude_none=True), wait_s, once)
        response.headers["Location"] = f"/api/v1/agents/{agent_id}?tenant={scope}"
        return answer

    def changing(
        method: str, path: str, command: CommandName, body: Any, summary: str
    ) -> Callable[..., Awaitable[CommandResponse]]:
        async def give(
            agent_id: AgentId, body: Any, caller: Caller = admin, tenant: OfTenant = None, wait_s: Wait = 30, once: Once = None
        ) -> CommandResponse:
            key = desk.fleet.key(caller, agent_id, tenant)
            return await desk.command(
                caller, key, command, {} if body is None else body.model_dump(exclude_none=True), wait_s, once
            )

        give.__annotations__["body"] = body
        register = app.api_route(path, methods=[method], summary=summary, responses=told, tags=["registry"], operation_id=command)
        return register(give)

    changing("PUT", "/api/v1/agents/{agent_id}", "update", Changes, "Change what an agent is")
    changing(
        "POST", "/api/v1/agents/{agent_id}/promote", "promote", PromoteParams, "Trust a version further, if it has earned it"
    )
    changing("POST", "/api/v1/agents/{agent_id}/rollback", "rollback", RollbackParams, "Go back to an earlier version")
    changing(
        "POST", "/api/v1/agents/{agent_id}/canary", "canary", CanaryParams, "Try a version, and take it back when it is not well"
    )

    @app.delete("/api/v1/agents/{agent_id}", summary="Delete an agent; its history stays", responses=told, tags=["registry"])
    async def delete(
        agent_id: AgentId, caller: Caller = admin, tenant: OfTenant = None, wait_s: Wait = 30, once: Once = None, body: Removal | None = None
    ) -> CommandResponse:  # fmt: skip
        key = desk.fleet.key(caller, agent_id, tenant)
        return await desk.command(caller, key, "delete", (body or Removal()).model_dump(exclude_none=True), wait_s, once)


def _live(app: FastAPI, settings: ApiSettings, callers: Callers, desk: Desk) -> None:
    viewer = _asks(callers, "viewer")
    stream: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "Events as they come; `id` is for `Last-Event-ID`.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    }
    open_now = 0

    @app.get(
        "/api/v1/agents/{agent_id}/events", summary="An agent's events as they come", responses=stream | _problems(_READING),
        response_class=StreamingResponse, tags=["agents"],
    )  # fmt: skip
    async def events(
        request: Request, agent_id: AgentId, caller: Caller = viewer, tenant: OfTenant = None,
        last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=64)] = None,
    ) -> Response:  # fmt: skip
        nonlocal open_now
        of, _, one = desk.fleet.key(caller, agent_id, tenant).partition(".")
        client = desk.connected()
        if open_now >= settings.max_streams:
            raise ProblemError(503, "busy", "too many live streams are open: try again later", headers={"Retry-After": "5"})
        begin = streaming.place(last_event_id) if last_event_id else await streaming.newest(client)
        headers = request.headers

        async def may_still() -> bool:
            try:
                again = await callers.identify(headers.get("authorization"), headers.get("x-api-key"))
            except ProblemError as error:
                # Not known just now is no reason to end.
                return error.problem.status == 503
            return again.sees_agent(f"{of}.{one}")

        async def told() -> Any:
            nonlocal open_now
            open_now += 1
            try:
                async for piece in streaming.events(client, of, one, begin, settings.beat_s, may_still):
                    yield piece
            finally:
                open_now -= 1

        return StreamingResponse(
            told(), media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )


def _about_itself(app: FastAPI, readiness: Readiness) -> None:
    @app.get("/healthz", summary="Is it alive?", tags=["service"])
    async def healthz() -> dict[str, str]:
        return {"service": SERVICE, "status": "ok"}

    @app.get(
        "/readyz",
        summary="Can it answer?",
        responses={503: {"description": "Not now; `waiting_for` says why."}},
        tags=["service"],
    )
    async def readyz() -> Response:
        status, body = readiness_answer(SERVICE, readiness())
        return Response(orjson.dumps(body), status, media_type="application/json")

    @app.get("/metrics", summary="Prometheus", response_class=Response, tags=["service"])
    async def metrics() -> Response:
        return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(rendered(app.openapi()))

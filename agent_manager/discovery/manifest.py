"""One ``agent.yaml``: read, judged field by field, turned into a record."""

import difflib
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from schemas.errors import json_path, shown
from schemas.maintenance import MaintenanceWindow
from schemas.model import Instant, Name, Text, Token
from schemas.state import AgentRecord, CloudRunConfig, DriverName, HealingConfig, MeteredRoute, ProbeConfig, StuckConfig
from schemas.wording import said
from streams.subjects import RESERVED_AGENT_ID

UPDATED_BY: Final = "discovery"


@dataclass(frozen=True, slots=True)
class ManifestProblem:
    """One thing wrong with one manifest, and the way out."""

    file: str
    field: str
    """JSON path, ``$`` is the whole file."""
    value: str | None
    message: str
    advice: str

    def __str__(self) -> str:
        given = "" if self.value is None else f" (given: {self.value})"
        return f"{self.file}: {self.field}: {self.message}{given}. {self.advice}"


class ManifestError(ValueError):
    """A manifest cannot be used; ``problems`` say why. Trying again helps after the file was mended."""

    def __init__(self, problems: tuple[ManifestProblem, ...]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


def _text(value: Any) -> Any:
    """YAML reads ``1.0`` and ``true`` as numbers and booleans where a text is meant."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Probe(ProbeConfig):
    model_config = ConfigDict(extra="forbid")


class _Healing(HealingConfig):
    model_config = ConfigDict(extra="forbid")


class _Stuck(StuckConfig):
    model_config = ConfigDict(extra="forbid")


class _Window(MaintenanceWindow):
    model_config = ConfigDict(extra="forbid", validate_by_name=False, validate_by_alias=True)
    begins: Instant | None = Field(default=None, alias="from")


class _CloudRun(CloudRunConfig):
    model_config = ConfigDict(extra="forbid")


class _Tenant(_Strict):
    tenant_id: Token
    workspace_id: Token | None = None
    project_id: Token | None = None


class Manifest(_Strict):
    """What may stand in ``agent.yaml``; unknown keys are mistakes."""

    agent_id: Token
    name: Name | None = None
    version: Annotated[Name, BeforeValidator(_text)] = "0.0.0"
    agent_type: Name = "service"
    description: Text = ""
    driver: DriverName = "local"
    command: Annotated[tuple[Annotated[str, BeforeValidator(_text)], ...], Field(min_length=1)] | None = None
    """Needed by local agents alone."""
    cloud_run: _CloudRun | None = None
    working_directory: str | None = None
    environment: dict[str, Annotated[str, BeforeValidator(_text)]] = {}
    environment_name: Name = "dev"
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    proxy_port: Annotated[int, Field(ge=0, le=65535)] = 0
    metering: tuple[MeteredRoute, ...] = ()
    probes: tuple[_Probe, ...] = ()
    heartbeat_interval_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    healing: _Healing = _Healing()
    stuck: _Stuck = _Stuck()
    autostart: bool = True
    stop_timeout_s: Annotated[float, Field(gt=0, le=600)] = 5.0
    tenant: _Tenant | None = None
    tags: tuple[Name, ...] = ()
    owner: Name | None = None
    model_type: Name | None = None
    provider: Name | None = None
    capabilities: tuple[Name, ...] = ()
    dependencies: tuple[Token, ...] = ()
    configuration: dict[str, JsonValue] = {}
    changelog: Text = ""
    maintenance: tuple[_Window, ...] = ()
    metadata: dict[str, JsonValue] = {}


_ADVICE: Final = {
    "missing": "Add this key",
    "string_pattern_mismatch": "Use 1 to 64 of A-Z a-z 0-9 _ -",
    "tuple_type": "Write a list, for example [python, service.py]",
    "bool_type": "Write true or false",
    "bool_parsing": "Write true or false",
    "int_type": "Write a whole number",
    "float_type": "Write a number",
    "string_type": "Write a text, in quotes if it looks like something else",
    "dict_type": "Write keys and values, indented below it",
    "model_type": "Write keys and values, indented below it",
    "too_short": "Give at least one item",
}


_NO_COMMAND: Final = ("is missing", _ADVICE["missing"])


def _advice(kind: str, loc: tuple[int | str, ...], context: dict[str, Any]) -> str:
    if kind == "extra_forbidden":
        known = _known_keys(loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), known, n=1)
        return f"Did you mean {near[0]!r}?" if near else f"Remove it; known keys are {', '.join(sorted(known))}"
    if kind == "string_pattern_mismatch" and loc[0] == "cloud_run":
        return "Use the name as Google shows it: a-z 0-9 -"
    if kind == "literal_error":
        return f"Choose {context.get('expected', 'a known value')}"
    return _ADVICE.get(kind, "Correct the value")


def _known_keys(parents: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Manifest
    if parents:
        nested: dict[str, type[BaseModel]] = {
            "probes": _Probe,
            "healing": _Healing,
            "stuck": _Stuck,
            "maintenance": _Window,
            "tenant": _Tenant,
            "cloud_run": _CloudRun,
        }
        model = nested.get(str(parents[0]), Manifest)
    return [field.alias or name for name, field in model.model_fields.items()]


def read(path: Path, *, default_tenant: str, now: datetime) -> AgentRecord:
    """The record that the manifest at ``path`` describes; raises ManifestError naming every wrong field."""
    file = str(path)

    def one(field: str, message: str, advice: str, value: object = None) -> ManifestError:
        return ManifestError((ManifestProblem(file, field, shown(value), message, advice),))

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise one("$", f"is not YAML: {where}{getattr(error, 'problem', error)}", "Mend the syntax there") from error
    except UnicodeDecodeError as error:
        raise one("$", f"is not UTF-8 text: {error.reason}", "Save the file as UTF-8") from error
    except OSError as error:
        raise one("$", f"cannot be read: {error.strerror}", "Make it readable for the manager") from error
    except (ValueError, RecursionError) as error:
        # PyYAML's own slips: a date such as 2026-13-01, a number of thousands of digits, endless nesting.
        raise one("$", f"holds a value that cannot be read: {error}", "Put it in quotes, or correct it") from error
    if not isinstance(content, dict):
        raise one("$", "must be keys and values", "Begin with agent_id and command", content)
    try:
        # By way of JSON, so that lists may stand for tuples while types stay strict.
        text = json.dumps(content, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise one("$", f"cannot be written as JSON: {error}", "Use texts as keys, and no alias that holds itself") from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        problems = tuple(
            ManifestProblem(
                file,
                json_path(item["loc"]),
                None if item["type"] == "missing" else shown(item.get("input"), str(item["loc"][-1]) if item["loc"] else ""),
                said(item),
                _advice(item["type"], item["loc"], item.get("ctx", {})),
            )
            for item in error.errors(include_url=False)[:20]
        )
        if "command" not in content and content.get("driver", "local") == "local":
            problems += (ManifestProblem(file, "$.command", None, *_NO_COMMAND),)
        raise ManifestError(problems) from error
    if manifest.agent_id == RESERVED_AGENT_ID:
        raise one("$.agent_id", "is reserved for the manager's own subjects", "Choose another id", manifest.agent_id)
    if manifest.agent_id in manifest.dependencies:
        raise one("$.dependencies", "names the agent itself", "Leave it out", manifest.agent_id)
    if (missing := _missing(manifest)) is not None:
        raise one(*missing)
    try:
        directory = (path.parent / (manifest.working_directory or ".")).resolve()
        there = directory.is_dir()
    except (OSError, ValueError, RuntimeError):
        there = False
    if not there:
        raise one("$.working_directory", "is not a directory", "Create it, or leave the key out", manifest.working_directory)
    return _record(manifest, directory, default_tenant=default_tenant, now=now)


def _missing(manifest: Manifest) -> tuple[str, str, str] | None:
    """What the chosen driver needs and the manifest lacks: field, message, advice."""
    if manifest.driver == "local":
        return None if manifest.command else ("$.command", *_NO_COMMAND)
    said = manifest.cloud_run
    if said is None:
        return (
            "$.cloud_run",
            "is missing, which driver: cloud_run needs",
            "Add it with project, region and service or worker_pool",
        )
    if said.service is None and said.worker_pool is None:
        return "$.cloud_run.service", "is missing", "Name the service, or the worker_pool, that the agent is deployed as"
    if said.service is not None and said.worker_pool is not None:
        return "$.cloud_run.worker_pool", "is given beside service", "Remove one of them"
    return None


def _record(manifest: Manifest, directory: Path, *, default_tenant: str, now: datetime) -> AgentRecord:
    tenant = manifest.tenant or _Tenant(tenant_id=default_tenant)
    return AgentRecord(
        agent_id=manifest.agent_id,
        tenant_id=tenant.tenant_id,
        workspace_id=tenant.workspace_id,
        project_id=tenant.project_id,
        name=manifest.name or manifest.agent_id,
        version=manifest.version,
        agent_type=manifest.agent_type,
        description=manifest.description,
        driver=manifest.driver,
        command=manifest.command or (),
        cloud_run=None if manifest.cloud_run is None else CloudRunConfig(**manifest.cloud_run.model_dump()),
        working_directory=str(directory),
        environment=manifest.environment,
        port=manifest.port,
        proxy_port=manifest.proxy_port,
        metering=manifest.metering,
        probes=tuple(ProbeConfig(**probe.model_dump()) for probe in manifest.probes),
        heartbeat_interval_s=manifest.heartbeat_interval_s,
        healing=HealingConfig(**manifest.healing.model_dump()),
        stuck=StuckConfig(**manifest.stuck.model_dump()),
        autostart=manifest.autostart,
        stop_timeout_s=manifest.stop_timeout_s,
        tags=manifest.tags,
        owner=manifest.owner,
        environment_name=manifest.environment_name,
        model_type=manifest.model_type,
        provider=manifest.provider,
        capabilities=manifest.capabilities,
        dependencies=manifest.dependencies,
        configuration=manifest.configuration,
        changelog=manifest.changelog,
        maintenance=tuple(MaintenanceWindow(**window.model_dump()) for window in manifest.maintenance),
        metadata=manifest.metadata,
        updated_at=now,
        updated_by=UPDATED_BY,
    )

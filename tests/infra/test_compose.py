"""The compose file and what it refers to: valid by schema, and every service starts with its command and environment."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from service.ports import free_port
from sidecar.gateway.settings import PORT, GatewaySettings
from streams.connect import CannotConnectError, connect
from streams.embedded import DENIED, ROLES, binary
from streams.settings import NatsSettings
from tests.conftest import until

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SECRETS = {
    "AGENTOPS_SYSTEM_PASSWORD": "system-password-for-tests",
    "AGENTOPS_OPERATOR_PASSWORD": "operator-password-for-tests",
    "AGENTOPS_DASHBOARD_NATS_PASSWORD": "dashboard-password-for-tests",
    "AGENTOPS_SIDECAR_PASSWORD": "sidecar-password-for-tests",
    "AGENTOPS_GATEWAY_NATS_PASSWORD": "gateway-password-for-tests",
    "AGENTOPS_API_NATS_PASSWORD": "api-password-for-tests",
    "AGENTOPS_MIRROR_NATS_PASSWORD": "mirror-password-for-tests",
    "AGENTOPS_DASHBOARD_PASSWORD": "page-password-for-tests",
}


def interpolated(text: str) -> str:
    """``${NAME:-default}`` and ``${NAME:?message}`` as compose would fill them in from ``.env``."""

    def fill(found: re.Match[str]) -> str:
        name, rule, rest = found.group(1), found.group(2), found.group(3)
        value = SECRETS.get(name)
        if value is None:
            assert rule == ":-", f"{name} has no default and is not in the example environment"
            return rest or ""
        return value

    return re.sub(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?\}", fill, text)


def test_the_compose_file_is_valid_by_the_specification() -> None:
    schema = json.loads(resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text())
    jsonschema.validate(COMPOSE, schema)


def test_the_server_is_told_every_password_that_its_configuration_names() -> None:
    named = set(re.findall(r"\$(\w+_PASSWORD)", (ROOT / "infra" / "nats" / "nats.conf").read_text()))
    assert named <= set(COMPOSE["services"]["nats"]["environment"])
    example = (ROOT / "infra" / "compose.env.example").read_text()
    assert all(f"{name}=" in example for name in named)


def test_what_the_compose_file_mounts_and_builds_exists() -> None:
    for name, service in COMPOSE["services"].items():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file(), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], (name, volume)


def test_every_door_of_the_gateway_is_reached_from_outside_its_container() -> None:
    gateway = COMPOSE["services"]["gateway"]
    inside = {int(published.split(":")[-1]) for published in gateway["ports"]}
    assert inside == {PORT, GatewaySettings().otlp_port, GatewaySettings().otlp_grpc_port}
    assert all(published.startswith("127.0.0.1:") for published in gateway["ports"])


def test_the_image_copies_every_package_the_project_has() -> None:
    dockerfile = (ROOT / "infra" / "Dockerfile").read_text()
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert {name for name in packages if f"COPY {name} {name}" in dockerfile} == packages
    for copied in re.findall(r"^COPY (?!--from)(?:--chown=\S+ )?(.+) \S+$", dockerfile, re.MULTILINE):
        for name in copied.split():
            assert (ROOT / name).exists(), name


def test_the_example_environment_names_every_secret() -> None:
    example = (ROOT / "infra" / "compose.env.example").read_text()
    needed = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    assert needed == set(SECRETS)
    assert all(f"{name}=" in example for name in needed)


def test_the_server_configuration_gives_each_user_the_rights_of_its_role() -> None:
    text = (ROOT / "infra" / "nats" / "nats.conf").read_text()
    for user, allowed in ROLES.items():
        if user == "system":
            continue
        found = re.search(rf"user: {user},.*?allow: (\[[^\]]*\])", text, re.DOTALL)
        assert found is not None, user
        assert json.loads(found.group(1)) == allowed
        denied = re.search(rf"user: {user},[^}}]*?deny: (\[[^\]]*\])", text, re.DOTALL)
        assert (json.loads(denied.group(1)) if denied else []) == DENIED.get(user, [])


@pytest.fixture
async def nats_url(tmp_path: Path) -> AsyncIterator[str]:
    """A server with the deployment's own configuration, on a free port."""
    port = free_port()
    text = (ROOT / "infra" / "nats" / "nats.conf").read_text()
    text = (
        text.replace("host: 0.0.0.0", "host: 127.0.0.1").replace("port: 4222", f"port: {port}").replace("http: 0.0.0.0:8222", "")
    )
    text = text.replace("/data/jetstream", str(tmp_path / "jetstream"))
    config = tmp_path / "nats.conf"
    config.write_text(text)
    with (tmp_path / "nats.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            binary(), "-c", str(config), env=os.environ | SECRETS, stdout=log, stderr=log
        )
    url = f"nats://127.0.0.1:{port}"

    async def answers() -> bool:
        try:
            client = await connect(
                NatsSettings.model_validate({"url": url, "user": "system", "password": SECRETS["AGENTOPS_SYSTEM_PASSWORD"]}),
                "test",
                patience_s=1,
            )
        except CannotConnectError:
            return False
        await client.close()
        return True

    await until(answers, "the server answers")
    yield url
    process.terminate()
    await process.wait()


def command_of(service: dict[str, Any]) -> list[str]:
    """What the container would run, with this environment's executables."""
    whole = [*service.get("entrypoint", ["agentops"]), *service.get("command", [])]
    executable = {"agentops": [str(Path(sys.executable).parent / "agentops")], "python": [sys.executable]}[whole[0]]
    return [*executable, *whole[1:]]


async def finished(command: list[str], environment: dict[str, str], log: Path) -> int:
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, env=environment, cwd=ROOT, stdout=output, stderr=output)
    async with asyncio.timeout(30):
        return await process.wait()


@pytest.mark.system
async def test_every_service_gets_ready_with_the_command_and_environment_of_the_compose_file(
    nats_url: str, tmp_path: Path
) -> None:
    """Only addresses differ from the containers': each service's ports are free ones of this machine."""
    services = {
        name: yaml.safe_load(interpolated(yaml.safe_dump(service)))
        for name, service in COMPOSE["services"].items()
        if name != "nats"
    }
    model_port, page_port, gateway_port, api_port = free_port(), free_port(), free_port(), free_port()
    ports = {"8090": str(model_port), "8800": str(page_port), "8810": str(gateway_port), "8820": str(api_port)}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "AGENTOPS_", "OPENAI_"))}

    def environment(name: str, health_port: int) -> dict[str, str]:
        given = {key: str(value or "") for key, value in services[name].get("environment", {}).items()}
        given = {
            key: value.replace("nats://nats:4222", nats_url).replace("model-server:8090", f"127.0.0.1:{model_port}")
            for key, value in given.items()
        }
        given |= {"AGENTOPS_HEALTH_PORT": str(health_port), "AGENTOPS_DATA": str(tmp_path / name)}
        if "AGENTOPS_AGENTS" in given:
            given["AGENTOPS_AGENTS"] = given["AGENTOPS_AGENTS"].replace("/app", str(ROOT))
        return clean | given

    log = tmp_path / "topology.log"
    assert await finished(command_of(services.pop("topology")), environment_of_topology(services, nats_url, clean), log) == 0, (
        log.read_text()
    )
    processes: dict[str, asyncio.subprocess.Process] = {}
    doors: dict[str, str] = {}
    try:
        for name, service in services.items():
            health_port = free_port()
            command = [ports.get(part, part).replace("0.0.0.0", "127.0.0.1") for part in command_of(service)]
            (tmp_path / name).mkdir()
            with (tmp_path / f"{name}.log").open("wb") as output:
                processes[name] = await asyncio.create_subprocess_exec(
                    *command, env=environment(name, health_port), cwd=ROOT, stdout=output, stderr=output, start_new_session=True
                )
            doors[name] = {
                "model-server": f"http://127.0.0.1:{model_port}/health",
                "dashboard": f"http://127.0.0.1:{page_port}/readyz",
                "gateway": f"http://127.0.0.1:{gateway_port}/readyz",
                "api": f"http://127.0.0.1:{api_port}/readyz",
            }.get(name, f"http://127.0.0.1:{health_port}/readyz")
        async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
            for name, door in doors.items():

                async def ready(door: str = door) -> bool:
                    try:
                        return (await http.get(door)).status_code == httpx.codes.OK
                    except httpx.HTTPError:
                        return False

                await until(ready, f"{name} is ready at {door}", 40)
    finally:
        for process in processes.values():
            if process.returncode is None:
                process.terminate()
        for process in processes.values():
            try:
                async with asyncio.timeout(15):
                    await process.wait()
            except TimeoutError:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
    assert {name: process.returncode for name, process in processes.items() if process.returncode != 0} == {}


def environment_of_topology(services: dict[str, Any], nats_url: str, clean: dict[str, str]) -> dict[str, str]:
    """The shared environment, at the test's server."""
    shared = {key: str(value) for key, value in services["validate"]["environment"].items()}
    return clean | shared | {"NATS_URL": nats_url, "AGENTOPS_DATA": "unused"}

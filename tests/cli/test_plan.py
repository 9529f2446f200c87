from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_manager.api.settings import ApiSettings
from agent_manager.cli.commands.query import NAMES
from agent_manager.cli.running import Endpoints, Login, UnreadableError, parse, read, write
from agent_manager.cli.up.backoff import LONGEST_S, STEADY_AFTER_S, counted, pause_s
from agent_manager.cli.up.banner import Facts, banner, status
from agent_manager.cli.up.plan import (
    API,
    API_PORT,
    DASHBOARD,
    DRIVER,
    GATEWAY,
    GATEWAY_PORT,
    MANAGER,
    MODEL_SERVER,
    STOP_STAGES,
    Child,
    Options,
    Wiring,
    children,
    parts,
    patience_s,
)
from schemas.queries import QUERIES
from sidecar.gateway.settings import GatewaySettings

USERS = {user: Login(user, f"secret-{user}") for user in ("system", "operator", "dashboard", "sidecar", "gateway", "api")}


def planned(options: Options, environment: dict[str, str], users: dict[str, Login] | None = USERS) -> dict[str, Child]:
    ports = {name: 20_000 + number for number, name in enumerate(parts(options, environment))}
    wiring = Wiring(Path("/opt/agentops"), "nats://127.0.0.1:4222", users, ports)
    return {child.name: child for child in children(options, wiring, environment)}


def test_each_part_gets_its_own_login_and_no_other() -> None:
    plan = planned(Options(Path("/data"), demo=True), {"NATS_TOKEN": "left-over", "PATH": "/bin"})
    assert list(plan) == [
        "processors-validate", "processors-aggregate", "processors-cost-health-budget-alerts-notify", MODEL_SERVER, MANAGER, DASHBOARD, DRIVER,
    ]  # fmt: skip
    assert plan[DASHBOARD].environment["NATS_USER"] == "dashboard"
    assert plan[MANAGER].environment["NATS_USER"] == "system"
    assert plan[MANAGER].environment["AGENTOPS_SIDECAR_NATS_USER"] == "sidecar"
    for child in plan.values():
        assert "NATS_TOKEN" not in child.environment
    for name in (MODEL_SERVER, DRIVER):
        assert not any(key.startswith("NATS_") for key in plan[name].environment)
    assert "secret" not in repr(plan)


def test_the_gateway_has_a_login_of_its_own_and_the_port_that_is_documented() -> None:
    child = planned(Options(Path("/data"), gateway_port=GATEWAY_PORT), {})[GATEWAY]
    assert child.environment["NATS_USER"] == "gateway"
    assert child.health_url == f"http://127.0.0.1:{GATEWAY_PORT}"
    assert GatewaySettings.model_fields["port"].default == GATEWAY_PORT
    assert GATEWAY not in planned(Options(Path("/data")), {})


def test_the_api_has_a_login_of_its_own_and_the_port_that_is_documented() -> None:
    child = planned(Options(Path("/data"), api_port=API_PORT), {})[API]
    assert child.environment["NATS_USER"] == "api"
    assert child.health_url == f"http://127.0.0.1:{API_PORT}"
    assert ApiSettings.model_fields["port"].default == API_PORT
    assert API not in planned(Options(Path("/data")), {})


def test_the_demo_brings_its_own_model_server_unless_a_key_is_given() -> None:
    own = planned(Options(Path("/data"), demo=True), {})[MANAGER].environment
    assert own["OPENAI_BASE_URL"].startswith("http://127.0.0.1:")
    plan = planned(Options(Path("/data"), demo=True), {"OPENAI_API_KEY": "k"})
    assert MODEL_SERVER not in plan
    assert plan[MANAGER].environment["OPENAI_BASE_URL"] == "https://api.openai.com/v1"
    assert MODEL_SERVER not in planned(Options(Path("/data")), {})


def test_an_outside_server_keeps_its_own_login() -> None:
    plan = planned(Options(Path("/data")), {"NATS_URL": "tls://nats.example:4222", "NATS_CREDENTIALS": "/x.creds"}, None)
    assert plan[MANAGER].environment["NATS_CREDENTIALS"] == "/x.creds"
    assert "AGENTOPS_SIDECAR_NATS_USER" not in plan[MANAGER].environment


def test_all_stages_together_stop_within_ten_seconds() -> None:
    assert sum(STOP_STAGES) + 1.5 < 10


@given(st.lists(st.floats(0, 1), min_size=len(STOP_STAGES), max_size=len(STOP_STAGES)))
def test_a_stage_has_what_those_before_it_left_over_and_all_still_stop_in_time(used: list[float]) -> None:
    elapsed = 0.0
    for stage, share in enumerate(used):
        patience = patience_s(stage, elapsed)
        assert patience >= STOP_STAGES[stage]
        elapsed += share * patience
    assert elapsed <= sum(STOP_STAGES) + 1e-9


def test_the_warehouse_has_six_seconds_when_those_before_it_were_quick() -> None:
    assert patience_s(2, 1.5) > 6
    assert patience_s(2, 9.0) == STOP_STAGES[2]


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_rest_grows_is_spread_and_has_an_end(failures: int, chance: float) -> None:
    assert 0.25 <= pause_s(failures, chance) <= LONGEST_S
    assert pause_s(failures, chance) <= pause_s(failures + 1, chance)


def test_a_long_life_forgets_earlier_failures() -> None:
    assert counted(7, STEADY_AFTER_S) == 1
    assert counted(7, 0.1) == 8


def test_the_file_of_a_running_system_is_private_and_reads_back(tmp_path: Path) -> None:
    said = Endpoints(
        "nats://127.0.0.1:1", "/data", 1, dashboard_url="http://127.0.0.1:2", users=USERS, health={"a": "http://127.0.0.1:3"}
    )
    write(tmp_path, said)
    assert read(tmp_path) == said
    assert (tmp_path / "up.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"nats_url": 1', '{"nats_url": "x", "data": "y", "pid": 1, "users": {"a": {}}}']
)
def test_a_damaged_file_is_recognised(text: str) -> None:
    with pytest.raises(UnreadableError):
        parse(text)


def test_the_banner_tells_addresses_and_what_to_try_and_hides_passwords() -> None:
    text = banner(
        Facts(
            "agentops",
            Path("/srv/my data"),
            False,
            "nats://127.0.0.1:4222",
            True,
            "http://127.0.0.1:8800",
            True,
            "a local model server",
            {"dashboard": "does not answer yet"},
        )
    )
    assert "http://127.0.0.1:8800" in text
    assert "--data '/srv/my data'" in text
    assert "dashboard: does not answer yet" in text
    assert "secret" not in text
    assert status(7, 8, {"HEALTHY": 2}, 130, "dashboard down") == "dashboard down · 7/8 services · agents: 2 HEALTHY · up 2 min"


def test_the_shell_offers_every_query_there_is() -> None:
    assert set(NAMES) == set(QUERIES)

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from agent_manager.discovery.folders import Folders
from agent_manager.discovery.manifest import ManifestError, read
from agent_manager.drivers.command_line import agent_command, sidecar
from agent_manager.drivers.driver import Ports
from agent_manager.drivers.environment import UnresolvedError, inherited, resolved
from agent_manager.registry.register import Changed, New, Same, compare
from tests.agent_manager.world import write_manifest

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def problems_of(folder: Path, text: str) -> dict[str, str]:
    path = folder / "agent.yaml"
    path.write_text(text)
    with pytest.raises(ManifestError) as caught:
        read(path, default_tenant="demo", now=NOW)
    assert all(problem.file == str(path) for problem in caught.value.problems)
    return {problem.field: f"{problem.message}|{problem.value}|{problem.advice}" for problem in caught.value.problems}


def test_a_whole_manifest_becomes_a_record(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    path = tmp_path / "agent.yaml"
    path.write_text(
        """
agent_id: chat-service
name: Chat
version: 1.2
agent_type: chat
command: [python, service.py, --port, 1]
working_directory: work
environment: {KEY: "${KEY}", LEVEL: 3, DEBUG: true}
port: 0
metering: [openai, anthropic]
probes: [{kind: http, path: /health, interval_s: 1}, {kind: process}]
heartbeat_interval_s: 5
healing: {enabled: false, max_restarts: 2}
autostart: false
stop_timeout_s: 3
tenant: {tenant_id: acme, project_id: p1}
tags: [a, b]
owner: team
metadata: {capabilities: [chat]}
"""
    )
    record = read(path, default_tenant="demo", now=NOW)
    assert (record.agent_id, record.tenant_id, record.project_id, record.version) == ("chat-service", "acme", "p1", "1.2")
    assert record.command == ("python", "service.py", "--port", "1")
    assert record.environment == {"KEY": "${KEY}", "LEVEL": "3", "DEBUG": "true"}
    assert record.working_directory == str(tmp_path / "work")
    assert record.metering == ("openai", "anthropic")
    line = " ".join(sidecar(record, Ports(1, 2, 3), tmp_path))
    assert "--metering openai --metering anthropic" in line
    assert (record.healing.enabled, record.healing.max_restarts, record.updated_by) == (False, 2, "discovery")


def test_every_wrong_field_is_named_with_its_value_and_the_way_out(tmp_path: Path) -> None:
    told = problems_of(
        tmp_path,
        'agent_id: "my agent"\ncomand: [x]\nport: "80"\nautostart: perhaps\nhealing: {max_restart: 3}\nprobes: [{kind: ping}]\nmetering: [opnai]\n',
    )
    assert told["$.agent_id"].endswith("|my agent|Use 1 to 64 of A-Z a-z 0-9 _ -")
    assert told["$.comand"].endswith("Did you mean 'command'?")
    assert told["$.command"].endswith("|None|Add this key")
    assert "|80|Write a whole number" in told["$.port"]
    assert "|perhaps|" in told["$.autostart"]
    assert told["$.healing.max_restart"].endswith("Did you mean 'max_restarts'?")
    assert "'openai', 'anthropic'" in told["$.metering[0]"]
    assert "'http', 'tcp' or 'process'" in told["$.probes[0].kind"]


def test_what_is_no_mapping_no_yaml_or_no_text_is_told_as_such(tmp_path: Path) -> None:
    assert "is not YAML: line 1" in problems_of(tmp_path, "a: [1")["$"]
    assert "must be keys and values" in problems_of(tmp_path, "- 1\n")["$"]
    assert "|[python" not in problems_of(tmp_path, "agent_id: a\ncommand: python x.py\n")["$.command"]
    path = tmp_path / "agent.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="UTF-8"):
        read(path, default_tenant="demo", now=NOW)


def test_reserved_ids_and_missing_directories_are_refused(tmp_path: Path) -> None:
    assert "reserved" in problems_of(tmp_path, "agent_id: manager\ncommand: [x]\n")["$.agent_id"]
    told = problems_of(tmp_path, "agent_id: a\ncommand: [x]\nworking_directory: nowhere\n")
    assert "not a directory" in told["$.working_directory"]


def test_one_bad_manifest_does_not_stop_the_others_and_some_folders_are_skipped(tmp_path: Path) -> None:
    write_manifest(tmp_path, "good")
    write_manifest(tmp_path, "bad", port="x")
    for skipped in ("_shared", "__pycache__", "test", "tests", "test_x", ".hidden"):
        write_manifest(tmp_path, skipped)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "agent.yaml").write_text((tmp_path / "good" / "agent.yaml").read_text())
    found = Folders([tmp_path, tmp_path / "absent"], "demo").look(NOW)
    assert [record.working_directory for record in found.records] == [str(tmp_path / "copy")]
    told = {(Path(problem.file).parent.name, problem.field) for problem in found.problems}
    assert told == {("bad", "$.port"), ("good", "$.agent_id"), (tmp_path.name, "$")}
    assert not found.complete


def test_a_mended_manifest_is_seen_at_the_next_look(tmp_path: Path) -> None:
    path = write_manifest(tmp_path, "one", port="x")
    folders = Folders([tmp_path], "demo")
    assert not folders.look(NOW).records
    path.write_text(yaml.safe_dump({"agent_id": "one", "command": ["true"], "version": "2"}))
    assert [record.version for record in folders.look(NOW).records] == ["2"]


def test_a_record_is_written_only_when_it_says_something_new(tmp_path: Path) -> None:
    write_manifest(tmp_path, "one", probes=[{"kind": "process"}])
    first = Folders([tmp_path], "demo").look(NOW).records[0]
    assert isinstance(compare(first, None, NOW), New)
    stored = type(first).model_validate_json(first.model_dump_json(exclude_none=True))
    assert isinstance(compare(first, stored, NOW), Same)
    changed = compare(first.model_copy(update={"version": "9"}), stored, NOW)
    assert isinstance(changed, Changed)
    assert changed.fields == ("version",)


def test_secrets_are_resolved_only_when_asked_and_what_is_missing_is_named() -> None:
    variables = {"KEY": "s3cret", "EMPTY": ""}
    given = {"A": "x-${KEY}-y", "B": "${GONE:-fallback}", "C": "${EMPTY:-d}", "D": "$KEY {KEY}", "E": "${EMPTY}"}
    assert resolved(given, variables) == {"A": "x-s3cret-y", "B": "fallback", "C": "d", "D": "$KEY {KEY}", "E": ""}
    with pytest.raises(UnresolvedError, match=r"environment.X names \$\{GONE\}"):
        resolved({"X": "${GONE}"}, variables)


@pytest.mark.parametrize(
    "text",
    [
        "since: 2026-13-01",
        "metadata: {2026-01-01: released}",
        "metadata: &a {itself: *a}",
        "metadata: " + "[" * 3000 + "]" * 3000,
        "version: " + "9" * 5000,
        'working_directory: "a\\0b"',
    ],
    ids=["impossible-date", "date-as-key", "endless", "deep", "huge-number", "nul"],
)
def test_what_yaml_or_json_choke_on_is_told_and_leaves_the_others_alone(tmp_path: Path, text: str) -> None:
    write_manifest(tmp_path, "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "agent.yaml").write_text(f"agent_id: bad\ncommand: [x]\n{text}\n")
    found = Folders([tmp_path], "demo").look(NOW)
    assert [record.agent_id for record in found.records] == ["good"]
    assert len(found.problems) == 1


def test_an_agent_does_not_inherit_what_is_the_managers_alone() -> None:
    kept = inherited(
        {
            "PATH": "/bin",
            "AGENTOPS_DASHBOARD_PASSWORD": "d",
            "AGENTOPS_WEBHOOK_URLS": "w",
            "NATS_PASSWORD": "p",
            "AGENTOPS_STOP_AGENTS": "1",
            "AGENTOPS_SIDECAR_URL": "u",
        }
    )
    assert kept == {"PATH": "/bin"}


def test_the_command_line_of_a_sidecar_carries_everything_but_secrets(tmp_path: Path) -> None:
    write_manifest(tmp_path, "one", environment={"K": "${K}"}, probes=[{"kind": "tcp"}], command=["python", "a.py"])
    record = Folders([tmp_path], "demo").look(NOW).records[0]
    line = sidecar(record, Ports(1, 2, 3), tmp_path)
    assert line[1:7] == ["-m", "sidecar", "--agent-id", "one", "--tenant", "acme"]
    assert line[line.index("--") + 1 :] == agent_command(record)
    assert agent_command(record)[1:] == ["a.py"]
    assert Path(agent_command(record)[0]).is_absolute()
    assert "${K}" not in " ".join(line)


def test_an_agent_on_cloud_run_needs_no_command_but_a_place(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(
        "agent_id: bot\ndriver: cloud_run\n"
        "cloud_run: {project: my-project, region: europe-west1, worker_pool: bot-pool, instances: 3}\n"
    )
    record = read(path, default_tenant="demo", now=NOW)
    assert record.cloud_run is not None
    assert (record.driver, record.command) == ("cloud_run", ())
    assert (record.cloud_run.worker_pool, record.cloud_run.service, record.cloud_run.instances) == ("bot-pool", None, 3)


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        ("agent_id: bot\n", "$.command", "Add this key"),
        ("agent_id: bot\ndriver: cloud_run\n", "$.cloud_run", "project, region and service or worker_pool"),
        ("agent_id: bot\ndriver: cloud_run\ncloud_run: {project: p, region: r}\n", "$.cloud_run.service", "worker_pool"),
        (
            "agent_id: bot\ndriver: cloud_run\ncloud_run: {project: p, region: r, service: a, worker_pool: b}\n",
            "$.cloud_run.worker_pool",
            "Remove one",
        ),
        (
            "agent_id: bot\ndriver: cloud_run\ncloud_run: {project: p, region: r, servise: a}\n",
            "$.cloud_run.servise",
            "'service'",
        ),
        (
            "agent_id: bot\ndriver: cloud_run\ncloud_run: {project: p, region: r, service: A_b}\n",
            "$.cloud_run.service",
            "as Google shows it",
        ),
    ],
)
def test_what_is_missing_for_its_driver_is_named(tmp_path: Path, text: str, field: str, said: str) -> None:
    assert said in problems_of(tmp_path, text)[field]

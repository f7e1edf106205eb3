"""compose.yaml is well formed, and opens nothing that need not be open."""

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(__file__).parent / "schemas/compose.json").read_text())
FILES = ["compose.yaml", "compose.cuda.yaml"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SECRET = re.compile(r"TOKEN|PASSWORD|SECRET|ACCESS_KEY")

every_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def problems(document: object) -> list[str]:
    return [
        f"{each.json_path}: {each.message}" for each in Draft202012Validator(SCHEMA).iter_errors(document)
    ]


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_what_the_compose_specification_says(name: str) -> None:
    assert problems(yaml.safe_load((ROOT / "docker" / name).read_text())) == []


def test_a_key_that_the_specification_does_not_know_is_noticed() -> None:
    broken = {**COMPOSE, "services": {"head": {**SERVICES["head"], "read_onyl": True}}}

    assert any("read_onyl" in each for each in problems(broken))


@every_service
def test_a_service_runs_under_the_users_own_number_without_rights(service: dict[str, Any]) -> None:
    assert service["user"] == "${CPSC_UID:-1000}:${CPSC_GID:-1000}"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service.keys().isdisjoint({"privileged", "cap_add", "devices", "network_mode", "pid", "ipc"})


@every_service
def test_a_service_can_write_to_its_volumes_and_temporary_folders_alone(service: dict[str, Any]) -> None:
    assert any(each.startswith("/tmp:") for each in service["tmpfs"])
    assert not any("docker.sock" in volume for volume in service.get("volumes", []))


@every_service
def test_a_service_has_a_bound_on_memory_and_processes(service: dict[str, Any]) -> None:
    assert service["mem_limit"]
    assert service["pids_limit"]


@every_service
def test_whatever_is_published_is_published_on_loopback(service: dict[str, Any]) -> None:
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@every_service
def test_every_secret_of_a_service_is_the_name_of_a_file_or_left_to_the_environment(
    service: dict[str, Any],
) -> None:
    secrets = {name: value for name, value in service["environment"].items() if SECRET.search(name)}

    assert all(value is None or value.startswith("/run/secrets/") for value in secrets.values())
    named = {value.removeprefix("/run/secrets/") for value in secrets.values() if value}
    assert named == set(service.get("secrets", []))


def test_every_secret_is_a_file_outside_of_the_compose_file() -> None:
    assert {name for service in SERVICES.values() for name in service.get("secrets", [])} == set(
        COMPOSE["secrets"]
    )
    assert all(set(secret) == {"file"} for secret in COMPOSE["secrets"].values())


@pytest.mark.parametrize("name", ["head", "worker", "submit"])
def test_a_node_of_the_cluster_asks_for_the_token(name: str) -> None:
    environment = SERVICES[name]["environment"]

    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"


def test_who_submits_can_give_credentials_of_mlflow_and_say_that_the_network_is_his() -> None:
    environment = SERVICES["submit"]["environment"]
    passed_on = {name for name, value in environment.items() if value is None}

    assert passed_on == {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "CPSC_PLAIN_HTTP"}


def test_the_head_serves_no_dashboard() -> None:
    assert "--include-dashboard=false" in SERVICES["head"]["command"]


def test_the_stores_of_mlflow_can_be_reached_by_mlflow_alone() -> None:
    on_stores = {name for name, service in SERVICES.items() if "stores" in service["networks"]}

    assert COMPOSE["networks"]["stores"] == {"internal": True}
    assert on_stores == {"mlflow", "database", "objects"}
    assert SERVICES["database"]["networks"] == SERVICES["objects"]["networks"] == ["stores"]


@every_service
def test_an_image_has_a_version(service: dict[str, Any]) -> None:
    default = re.sub(r"\$\{\w+:-(.*)\}", r"\1", service["image"])

    assert ":" in default
    assert not default.endswith(":latest")


def test_the_commands_that_make_the_secrets_make_them_for_the_owner_alone(tmp_path: Path) -> None:
    import subprocess

    page = (ROOT / "docker/compose.md").read_text()
    setup = next(
        block for block in re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL) if "secrets" in block
    )
    subprocess.run(["sh", "-euc", setup], cwd=tmp_path, check=True, env={"PATH": os.environ["PATH"]})

    made = {path.name: path for path in (tmp_path / "secrets").iterdir()}
    assert made.keys() == set(COMPOSE["secrets"])
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.values()} == {0o600}
    assert len({path.read_text() for path in made.values()}) == len(made)
    assert all(len(path.read_text().strip()) >= 20 for path in made.values())
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"storage", "database", "objects"}

"""The images hold what is locked, nothing that builds, and run as nobody in particular."""

import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
TARGETS = ["cpu", "cuda", "mlflow"]


def stages() -> dict[str, tuple[str, list[str]]]:
    """Each stage by name: what it starts from, and its instructions."""
    text = re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE).replace("\\\n", " ")
    found: dict[str, tuple[str, list[str]]] = {}
    name = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if start := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            name = start[2]
            found[name] = (start[1], [])
        elif name:
            found[name][1].append(re.sub(r"\s+", " ", line))
    return found


STAGES = stages()


def lineage(target: str) -> list[str]:
    """The instructions that an image is made by, oldest first, without those of stages it copies from."""
    base, instructions = STAGES[target]
    return [*(lineage(base) if base in STAGES else []), *instructions]


every_target = pytest.mark.parametrize("target", TARGETS)


def test_the_cpu_image_is_the_default() -> None:
    assert list(STAGES)[-1] == "cpu"


@every_target
def test_an_image_ends_as_a_user_by_number_that_is_not_root(target: str) -> None:
    users = [line.split()[1] for line in lineage(target) if line.startswith("USER")]

    assert users == ["${UID}:${GID}"]
    assert "ARG UID=1000" in lineage(target)


@every_target
def test_an_image_installs_nothing_in_its_last_stages(target: str) -> None:
    commands = [line for line in lineage(target) if line.startswith("RUN")]

    assert not [line for line in commands if re.search(r"pip install|apt-get|apk add|gcc|make ", line)]
    assert any("rm -rf /usr/local/bin/pip*" in line for line in commands)


@every_target
def test_an_image_says_what_it_is_and_how_it_is(target: str) -> None:
    instructions = lineage(target)

    assert any(line.startswith("HEALTHCHECK") for line in instructions)
    labels = " ".join(line for line in instructions if line.startswith("LABEL"))
    assert all(f"org.opencontainers.image.{name}=" in labels for name in ("title", "description", "licenses"))


@every_target
def test_an_image_starts_ray_with_a_token_or_not_at_all(target: str) -> None:
    assert any("RAY_AUTH_MODE=token" in line for line in lineage(target) if line.startswith("ENV"))


@pytest.mark.parametrize("stage", ["torch", "build", "mlflow-build"])
def test_everything_is_installed_at_its_locked_version(stage: str) -> None:
    for command in (line for line in STAGES[stage][1] if line.startswith("RUN")):
        for install in re.findall(r"\binstall (?!--no-deps --force-reinstall \.).*", command):
            assert "--constraint constraints.txt --constraint docker/constraints.txt" in install


def test_no_package_is_locked_twice() -> None:
    names = [
        re.split("==", line)[0].lower().replace("_", "-")
        for path in ("constraints.txt", "docker/constraints.txt")
        for line in (ROOT / path).read_text().splitlines()
        if not line.startswith("#")
    ]

    assert len(names) == len(set(names))


def test_torch_is_a_layer_of_its_own_before_the_rest() -> None:
    copies = [line for line in STAGES["node"][1] if line.startswith("COPY --from")]

    assert copies[0] == "COPY --from=torch /opt/torch /opt/torch"
    assert copies[1] == "COPY --from=build /opt/venv /opt/venv"


def test_no_address_of_a_package_index_is_built_in() -> None:
    assert re.findall(r"https?://\S+", DOCKERFILE) == []
    assert set(re.findall(r"ARG (\w*INDEX_URL)=(\S*)", DOCKERFILE)) == {
        ("PIP_INDEX_URL", '""'),
        ("TORCH_INDEX_URL", '""'),
    }


def test_what_the_images_are_copied_from_is_let_into_the_build_and_nothing_else_is() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    sources = {
        source
        for _, instructions in STAGES.values()
        for line in instructions
        if line.startswith("COPY") and "--from" not in line
        for source in line.split()[1:-1]
        if not source.startswith("--")
    }

    assert rules[0] == "*"
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize("path", [".git", ".venv", "docker/secrets/ray_token", "docker/data", "docker/.env"])
def test_what_is_private_does_not_reach_the_build(path: str) -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]

    assert not any(fnmatch(path, rule[1:]) or path.startswith(f"{rule[1:]}/") for rule in rules)


def test_the_script_that_joins_a_cluster_runs_its_command_there(tmp_path: Path) -> None:
    ray = tmp_path / "ray"
    ray.write_text('#!/bin/sh\necho "ray $*"\n')
    ray.chmod(0o755)
    ran = subprocess.run(
        ["sh", ROOT / "docker/join.sh", "head:6379", "echo", "a b"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stderr == "ray start --address=head:6379 --num-cpus=0 --num-gpus=0\n"
    assert ran.stdout == "a b\n"

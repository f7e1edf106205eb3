from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orchestrator import plan
from orchestrator.cli import main
from orchestrator.doctor import examination
from orchestrator.doctor.check import Check, Verdict

FILE = """
name: digits
data: {name: digits}
teacher: {arch: resnet20}
student: {arch: resnet8}
train: {epochs: 4, iterations_per_epoch: 10}
search: {loss.ikd: {low: 0.1, high: 20}}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(FILE)
    return path


def test_a_valid_file_is_told_in_its_main_facts(file: Path) -> None:
    told = run("validate", str(file), "--set", "budget.trials=7")
    document = json.loads(run("validate", str(file), "--set", "budget.trials=7", "--json").stdout)

    assert told.exit_code == 0
    assert told.stdout.splitlines()[0] == f"{file} is valid"
    assert document["valid"] is True
    assert (document["sweep"], document["trials"], document["search"]) == ("digits", 7, ["loss.ikd"])


def test_an_invalid_file_ends_with_two_and_in_json_says_why(file: Path) -> None:
    file.write_text(FILE.replace("resnet8", "resnet9").replace("epochs: 4", "epochs: -4"))

    told = run("validate", str(file))
    document = run("validate", str(file), "--json")

    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr.splitlines()[-1] == f"{file} has 2 mistakes; next: cpsc-orchestrate validate {file}"
    assert document.exit_code == 2
    assert json.loads(document.stdout)["valid"] is False
    assert json.loads(document.stdout)["problems"] == told.stderr.removeprefix("error: ").splitlines()[:-1]


def test_a_file_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    result = run("validate", str(tmp_path / "y.yaml"))

    assert result.exit_code == 2
    assert "y.yaml" in result.stderr


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_: Any) -> dict[str, Any]:
        sizes = dict.fromkeys(["checkpoint_bytes", "weights_bytes", "samples_bytes"], 1024)
        networks = dict.fromkeys(["teacher_parameters", "student_parameters", "generator_parameters"], 7)
        return sizes | networks | {"seconds_per_iteration": 0.1, "measured_batch_size": 8, "threads": 1}

    monkeypatch.setattr(plan, "measure", answer)


def test_a_plan_is_text_or_json(file: Path, measured: None) -> None:
    told = run("plan", str(file), "--set", "budget.trials=7", "--set", "confirm.top=0")
    document = run("plan", str(file), "--set", "budget.trials=7", "--set", "confirm.top=0", "--json")

    assert "search    7 trials, 28 epochs" in told.stdout
    assert json.loads(document.stdout)["epochs"]["total"] == 28.0


@pytest.mark.slow
def test_a_plan_is_really_measured(file: Path) -> None:
    result = run("plan", str(file), "--set", "train.batch_size=16", "--json")

    assert json.loads(result.stdout)["hours"]["wall"] > 0


@pytest.mark.parametrize("code", [2, 3])
def test_a_machine_that_is_unfit_ends_with_the_code_of_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    bad = Check(name="storage", verdict=Verdict.FAIL, finding="read-only", advice="mount it anew", code=code)
    monkeypatch.setattr(examination, "examine", lambda *_, **__: [bad])

    told = run("doctor", "--storage", str(tmp_path))
    document = run("doctor", "--storage", str(tmp_path), "--json")

    assert told.exit_code == document.exit_code == code
    assert "mount it anew" in told.stdout
    assert json.loads(document.stdout)["ok"] is False
    assert told.stderr == (
        "error: no sweep can run here: storage: read-only; "
        f"next: cpsc-orchestrate doctor --storage {tmp_path}\n"
    )


def test_a_machine_that_is_fit_ends_with_zero(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    warning = Check(name="processors", verdict=Verdict.WARN, finding="1 CPU", advice="more")
    monkeypatch.setattr(examination, "examine", lambda *_, **__: [warning])

    result = run("doctor", "--storage", str(tmp_path))

    assert (result.exit_code, result.stderr) == (0, "")

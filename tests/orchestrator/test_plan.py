from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from orchestrator import plan
from orchestrator.config import SweepConfig, parse_experiment
from orchestrator.errors import UsageError
from orchestrator.plan import measure, plan_document, render_plan

FILE = """
name: digits
data: {name: digits}
teacher: {arch: resnet20}
student: {arch: resnet8}
train: {epochs: 8, iterations_per_epoch: 10, batch_size: 64, samples_every: 4}
search: {loss.ikd: {low: 0.1, high: 20}}
"""

MEASURED = {
    "seconds_per_iteration": 0.5,
    "measured_batch_size": 64,
    "threads": 1,
    "teacher_parameters": 3000,
    "student_parameters": 2000,
    "generator_parameters": 1000,
    "checkpoint_bytes": 100,
    "weights_bytes": 10,
    "samples_bytes": 1,
}


def config(*overrides: str) -> SweepConfig:
    return parse_experiment(FILE, overrides).config


@pytest.fixture(autouse=True)
def four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_processors", lambda: 4)


@settings(deadline=None)
@given(
    trials=st.integers(1, 50),
    epochs=st.integers(2, 100),
    first=st.integers(1, 40),
    factor=st.integers(2, 5),
)
def test_a_halved_search_costs_what_its_trials_run(trials: int, epochs: int, first: int, factor: int) -> None:
    """The oracle walks every rung: of a trial's epochs, each part is run by the share that got there."""
    first = min(first, epochs - 1)
    halving = f"pruner={{name: successive_halving, min_epochs: {first}, reduction_factor: {factor}}}"
    wanted = config(halving, f"train.epochs={epochs}", f"budget.trials={trials}")

    found = plan_document(wanted, MEASURED)

    expected, running, begun = 0.0, float(trials), 0
    for rung in (first * factor**power for power in range(10)):
        expected += running * (min(rung, epochs) - begun)
        begun, running = min(rung, epochs), running / factor
    assert found["epochs"]["search"] == pytest.approx(expected)
    assert found["rungs"][-1]["epochs"] == epochs


def test_rungs_thin_out_by_the_reduction_factor() -> None:
    halving = "pruner={name: successive_halving, min_epochs: 2, reduction_factor: 2}"

    found = plan_document(config(halving, "budget.trials=16"), MEASURED)

    assert found["rungs"] == [
        {"epochs": 2, "trials": 16.0},
        {"epochs": 4, "trials": 8.0},
        {"epochs": 8, "trials": 4.0},
    ]


def test_brackets_of_hyperband_each_thin_out_from_their_own_first_rung() -> None:
    """Eight epochs, factor 2: shares 8, 6, 4 and 4 of 22 with first rungs at 1, 2, 4 and never."""
    found = plan_document(
        config("pruner={name: hyperband, reduction_factor: 2}", "budget.trials=22"), MEASURED
    )

    assert found["rungs"] == [
        {"epochs": 1, "trials": pytest.approx(22)},
        {"epochs": 2, "trials": pytest.approx(8 / 2 + 6 + 4 + 4)},
        {"epochs": 4, "trials": pytest.approx(8 / 4 + 6 / 2 + 4 + 4)},
        {"epochs": 8, "trials": pytest.approx(8 / 8 + 6 / 4 + 4 / 2 + 4)},
    ]


@pytest.mark.parametrize("pruner", ["none", "median", "patient"])
def test_without_halving_every_trial_is_counted_in_full(pruner: str) -> None:
    found = plan_document(config(f"pruner.name={pruner}", "budget.trials=10", "confirm.top=0"), MEASURED)

    assert found["epochs"] == {"search": 80.0, "confirm": 0.0, "total": 80.0}
    assert any(pruner in note for note in found["notes"]) is (pruner != "none")


def test_hours_are_shared_by_the_trials_that_run_at_once() -> None:
    wanted = config("budget.trials=9", "confirm.top=0", "resources.cpus_per_worker=2")

    found = plan_document(wanted, MEASURED)

    assert found["slots"] == 2
    assert found["hours"]["work"] == pytest.approx(9 * 8 * 10 * 0.5 / 3600)
    assert found["hours"]["wall"] == pytest.approx(found["hours"]["work"] / 2)


def test_disk_holds_checkpoints_weights_and_grids() -> None:
    wanted = config("budget.trials=5", "confirm.top=1", "confirm.seeds=2", "resources.cpus_per_worker=4")

    found = plan_document(wanted, MEASURED)["disk_bytes"]

    assert found["checkpoints"] == (5 + 2 + 1) * 100
    assert found["weights"] == (5 + 2) * 10
    assert found["samples"] == ((5 + 2) * 8 // 4 + 2 * (5 + 2)) * 2
    assert found["total"] == found["checkpoints"] + found["weights"] + found["samples"]


def test_grids_on_a_tracking_server_take_no_room_here() -> None:
    here = plan_document(config(), MEASURED)["disk_bytes"]["samples"]
    there = plan_document(config("tracking.uri=https://mlflow.example.org"), MEASURED)["disk_bytes"][
        "samples"
    ]

    assert here == 2 * there


@pytest.mark.parametrize(
    ("override", "note"),
    [
        ("resources.cpus_per_worker=64", "a trial wants 64 CPUs and this machine has 4"),
        ("budget.hours=0.001", "the budget of 0.001 trial hours will end the search earlier"),
    ],
)
def test_what_the_numbers_cannot_show_is_a_note(override: str, note: str) -> None:
    assert note in plan_document(config(override), MEASURED)["notes"]
    assert note not in plan_document(config(), MEASURED)["notes"]


@pytest.mark.parametrize(("size", "scaled"), [(8, True), (64, False)])
def test_it_is_said_where_and_how_the_time_was_measured(size: int, scaled: bool) -> None:
    note = plan_document(config(), MEASURED | {"measured_batch_size": size})["notes"][0]

    assert note.startswith("measured on this machine: 0.500 s per iteration with 1 thread(s)")
    assert ("scaled up to 64" in note) is scaled


def test_the_document_is_plain_json() -> None:
    document = plan_document(config(), MEASURED)

    assert json.loads(json.dumps(document)) == document


def answering(monkeypatch: pytest.MonkeyPatch, code: int = 0, stderr: str = "") -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = []

    def run(command: list[str], *, input: str, **_: Any) -> SimpleNamespace:  # noqa: A002
        assert command == [sys.executable, "-m", "cpsc_core.measure"]
        asked.append(json.loads(input))
        return SimpleNamespace(returncode=code, stdout=json.dumps(MEASURED), stderr=stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_what_is_timed_is_the_experiment_with_the_threads_it_would_have_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = answering(monkeypatch)

    found = measure(config("resources.cpus_per_worker=8", "train.loss.ikd=3"))

    assert found == MEASURED
    assert (asked[0]["train"]["batch_size"], asked[0]["threads"]) == (64, 4)
    assert asked[0]["train"]["loss"]["ikd"] == 3.0
    assert (asked[0]["teacher"], asked[0]["student"]) == ("resnet20", "resnet8")
    assert asked[0]["data"]["name"] == "digits"


@pytest.mark.parametrize(
    ("stderr", "said"), [("Traceback\nValueError: too small", "too small"), ("", "nothing")]
)
def test_an_experiment_that_does_not_train_is_refused(
    monkeypatch: pytest.MonkeyPatch, stderr: str, said: str
) -> None:
    answering(monkeypatch, code=1, stderr=stderr)

    with pytest.raises(UsageError, match=f"does not train on this machine: .*{said}"):
        measure(config())


GOLDEN = """\
plan of digits
search    4 trials, 24 epochs
          4 trials reach epoch 4
          2 trials reach epoch 8
confirm   4 trials, 32 epochs
time      1 min 10 s with up to 4 trial(s) at once on this machine
disk      1.3 KiB: checkpoints 1.2 KiB, weights 60 B, samples 60 B
networks  teacher 3,000, student 2,000, generator 1,000
"""


def test_the_text_is_what_a_person_reads() -> None:
    halving = "pruner={name: successive_halving, min_epochs: 4, reduction_factor: 2}"
    document = plan_document(config(halving, "budget.trials=4", "confirm={top: 2, seeds: 2}"), MEASURED)
    console = Console(width=300, force_terminal=False)

    with console.capture() as captured:
        console.print(render_plan(document))

    lines = [line.rstrip() for line in captured.get().splitlines()]
    assert lines == [*GOLDEN.splitlines(), *document["notes"]]


def test_a_grid_ends_with_its_last_cell() -> None:
    cells = "generator.steps: {low: 1, high: 3, step: 1}, loss.ikd_form: {choices: [mse, log_mse]}"
    search = f"search={{loss.ikd: null, {cells}}}"
    wanted = config(search, "sampler.name=grid", "pruner.name=none", "confirm={top: 9, seeds: 2}")

    found = plan_document(wanted, MEASURED)

    assert (found["trials"], found["confirm_trials"]) == (6, 12)
    assert found["epochs"]["search"] == 6 * wanted.train.epochs


def test_a_trial_alone_is_not_shared_by_the_processors() -> None:
    found = plan_document(config("budget.trials=1", "confirm.top=0", "pruner.name=none"), MEASURED)

    assert found["slots"] == 4
    assert found["hours"]["wall"] == found["hours"]["work"]

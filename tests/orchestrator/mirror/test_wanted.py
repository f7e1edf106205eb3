"""From folders to runs: names, tags, parameters and clocks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpsc_core.attempt import append_line
from orchestrator.mirror.tracker import RunStatus
from orchestrator.mirror.wanted import (
    PASSING_TAGS,
    WantedRun,
    params_key,
    provenance,
    sweep_inputs,
    sweep_run,
    trial_run,
    versions,
)
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.paths import TrialPaths
from orchestrator.store.records import EndClass, TrialState
from tests.support.mirroring import CREATED, MANIFEST, RecordedSweep


@pytest.fixture
def sweep(tmp_path: Path) -> RecordedSweep:
    return RecordedSweep(tmp_path)


def folder(paths: TrialPaths) -> TrialFolder:
    trial = TrialFolder.read(paths)
    assert trial is not None
    return trial


def wanted(paths: TrialPaths, *, owned: bool = True, confirms: int | None = None) -> WantedRun:
    return trial_run(folder(paths), parent="p", origin=provenance(MANIFEST), owned=owned, confirms=confirms)


def test_names_are_readable(sweep: RecordedSweep) -> None:
    confirming = sweep.trial(None, ikd=4.0, seed=2)

    names = [
        wanted(sweep.trial(7)).name,
        wanted(sweep.trial(1234)).name,
        wanted(confirming, confirms=3).name,
        wanted(confirming).name,
    ]

    assert names == [
        "trial-007",
        "trial-1234",
        "confirm-003-seed-2",
        f"confirm-{confirming.root.name[:6]}-seed-2",
    ]


def test_a_confirm_trial_has_the_parameters_of_the_trial_it_repeats(sweep: RecordedSweep) -> None:
    searched, confirming = sweep.trial(3), sweep.trial(None, ikd=4.0, seed=2)

    assert params_key(folder(searched).record) == params_key(folder(confirming).record)


def test_parameters_are_all_settings_that_decide_the_result(sweep: RecordedSweep) -> None:
    params = wanted(sweep.trial(3)).params

    expected = {
        "loss.ikd": "4.0",
        "generator.latent_dim": "256",
        "epochs": "4",
        "method": "cpsc",
        "data.name": "digits",
        "teacher.arch": "resnet20",
        "student.arch": "resnet8",
        "student.lr": "0.1",
    }
    assert params.items() >= expected.items()
    assert "/data" not in params.values()


def test_tags_say_what_the_trial_is_and_where_it_came_from(sweep: RecordedSweep) -> None:
    trial = sweep.finished(2, TrialState.FAILED, epochs=2)

    tags = wanted(trial).tags

    assert (
        tags.items()
        >= {
            "mlflow.parentRunId": "p",
            "mlflow.source.git.commit": "c0ffee",
            "cpsc.git_dirty": "true",
            "cpsc.config_sha256": "abc",
            "cpsc.teacher_accuracy": "0.97",
            "cpsc.trial": trial.root.name,
            "cpsc.number": "2",
            "cpsc.stage": "search",
            "cpsc.seed": "0",
            "cpsc.state": "failed",
            "cpsc.cause": "hang",
            "cpsc.detail": "failed in words",
            "cpsc.attempts": "1",
        }.items()
    )


def test_what_clocks_measured_is_shown_too(sweep: RecordedSweep) -> None:
    trial = sweep.finished(0)
    result = json.loads(trial.result.read_text())
    result["timing"] |= {"latency": 0.002, "peak_memory_gb": 1.5}
    trial.result.write_text(json.dumps(result))

    found = {point.key: point.value for point in wanted(trial).summary}

    assert (found["latency"], found["peak_memory_gb"]) == (0.002, 1.5)
    assert "ended" not in found


def test_the_source_of_data_is_their_folder(sweep: RecordedSweep) -> None:
    data = sweep.manifest["data"]
    folder = SweepFolder(sweep.paths)
    assert (sweep_inputs(folder) or pytest.fail()).data_source == f"package:{data['name']}"

    sweep.note(data=data | {"root": "/data/cifar"})

    assert (sweep_inputs(folder) or pytest.fail()).data_source == "/data/cifar"


def test_versions_are_those_of_the_run_that_a_trial_ended_in() -> None:
    runs = [
        {"generation": 1, "versions": {"torch": "2.14.1"}},
        {"generation": 2, "versions": {"torch": "9.9"}},
    ]
    manifest = {"versions": {"torch": "9.9"}, "runs": runs}

    found = [versions(manifest, generation)["cpsc.version.torch"] for generation in (1, 2, 3, None)]

    assert found == ["2.14.1", "9.9", "9.9", "9.9"]


def test_a_failure_shows_where_it_was_and_what_it_said_last(sweep: RecordedSweep) -> None:
    trial = sweep.finished(2, TrialState.FAILED, epochs=2)
    stack = [f'  File "a.py", line {number} in f' for number in range(1000)]
    left = {"node": "gpu-7", "stack": stack, "lines": ["epoch 1", "epoch 2"]}
    trial.result.write_text(json.dumps(json.loads(trial.result.read_text()) | left))

    tags = wanted(trial).tags

    assert tags["cpsc.node"] == "gpu-7"
    assert tags["cpsc.log"] == "epoch 1\nepoch 2"
    assert len(tags["cpsc.stack"]) == 5000
    assert tags["cpsc.stack"].endswith("line 999 in f")
    assert {"cpsc.node", "cpsc.log", "cpsc.stack"} <= PASSING_TAGS


@pytest.mark.parametrize("missing", sorted(MANIFEST))
def test_what_the_manifest_does_not_know_is_left_out(missing: str) -> None:
    manifest = {key: value for key, value in MANIFEST.items() if key != missing}

    lacking, whole = provenance(manifest), provenance(MANIFEST)

    assert lacking.items() <= (whole | {"cpsc.created": lacking["cpsc.created"]}).items()
    assert provenance(manifest | {missing: None}).keys() == lacking.keys()


@pytest.mark.parametrize("created", [CREATED, "2023-11-14T22:13:20.250000+00:00"])
def test_the_sweep_starts_when_it_was_created(created: Any) -> None:
    run = sweep_run("digits", MANIFEST | {"created": created}, RunStatus.RUNNING, None)

    assert run.started == round(CREATED * 1000)


@pytest.mark.parametrize("owned", [True, False])
def test_a_trial_between_two_attempts_waits(sweep: RecordedSweep, owned: bool) -> None:
    trial = sweep.trial(0)
    statuses = [wanted(trial, owned=owned).status]
    sweep.attempt(trial)
    statuses.append(wanted(trial, owned=owned).status)
    sweep.end_attempt(trial, EndClass.PREEMPTED)
    statuses.append(wanted(trial, owned=owned).status)

    running = RunStatus.RUNNING if owned else RunStatus.SCHEDULED
    assert statuses == [RunStatus.SCHEDULED, running, RunStatus.SCHEDULED]


def test_infinity_and_not_a_number_become_gaps_and_words_are_left_out(sweep: RecordedSweep) -> None:
    trial = sweep.trial(0)
    sweep.attempt(trial)
    sweep.epochs(trial, 1, up=math.inf, down=-math.inf, nothing=math.nan, word="x", final=True, empty=None)

    values = {point.key: point.value for point in wanted(trial).points}

    assert values.keys() == {"epoch", "seconds", "val_accuracy", "student_loss", "up", "down", "nothing"}
    assert all(math.isnan(values[key]) for key in ("up", "down", "nothing"))


def test_the_summary_has_what_the_last_line_has_not(sweep: RecordedSweep) -> None:
    summary = wanted(sweep.finished(0)).summary

    assert {point.key for point in summary} == {"objective", "teacher_accuracy", "val_accuracy_best"}
    assert {point.step for point in summary} == {4}


def test_a_trial_that_failed_before_its_first_epoch_has_a_run(sweep: RecordedSweep) -> None:
    run = wanted(sweep.finished(0, TrialState.FAILED, epochs=0))

    assert (run.points, run.images, run.status) == ([], [], RunStatus.FAILED)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seconds=st.lists(st.floats(0.0, 1e6), min_size=1, max_size=12), cut=st.integers(1, 12))
def test_clocks_never_run_backwards_and_do_not_depend_on_later_lines(
    tmp_path_factory: pytest.TempPathFactory, seconds: list[float], cut: int
) -> None:
    sweep = RecordedSweep(tmp_path_factory.mktemp("sweep"))
    trial = sweep.trial(0)
    sweep.attempt(trial)
    for epoch, value in enumerate(seconds, start=1):
        append_line(trial.attempt(1).metrics, {"epoch": epoch, "seconds": value})
    whole = [point.timestamp for point in wanted(trial).points if point.key == "epoch"]
    kept = trial.attempt(1).metrics.read_text().splitlines()[:cut]
    trial.attempt(1).metrics.write_text("\n".join(kept) + "\n")

    part = [point.timestamp for point in wanted(trial).points if point.key == "epoch"]

    assert whole == sorted(whole)
    assert part == whole[:cut]


def test_an_uninterrupted_trial_has_the_clock_of_its_lines(sweep: RecordedSweep) -> None:
    trial = sweep.finished(0)

    stamps = {point.step: point.timestamp for point in wanted(trial).points}

    lines = [json.loads(line) for line in trial.attempt(1).metrics.read_text().splitlines()]
    assert stamps == {line["epoch"]: round((CREATED + line["seconds"]) * 1000) for line in lines}


def test_several_objectives_are_one_tag() -> None:
    several = {"objective": [{"metric": "val_accuracy"}, {"metric": "latency"}]}

    assert provenance(several)["cpsc.objective"] == "val_accuracy, latency"
    assert provenance({"objective": {"metric": "val_accuracy"}})["cpsc.objective"] == "val_accuracy"

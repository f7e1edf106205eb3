import itertools
import json
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cpsc_core.attempt import AttemptPaths, Point, attempts_of, read_lines, write_lines
from cpsc_core.checkpoint import load_checkpoint
from cpsc_core.data.digits import DIGITS, Digits
from cpsc_core.errors import (
    AttemptError,
    CoreError,
    DataError,
    DivergedError,
    SettingsError,
    TeacherError,
    UnknownNameError,
)
from cpsc_core.evaluate import accuracy
from cpsc_core.settings import TeacherSettings, TrialSettings, replace_path
from cpsc_core.trial import finished_line, run_trial
from cpsc_core.weights import build_network, fill_network, parse_tensors
from tests.support.trials import digest, finish, tiny_trial


@pytest.fixture(scope="module")
def settings(teacher: TeacherSettings) -> TrialSettings:
    return tiny_trial(teacher, epochs=3)


@pytest.fixture(scope="module")
def finished(settings: TrialSettings, tmp_path_factory: pytest.TempPathFactory) -> AttemptPaths:
    """The trial as it is if nothing goes wrong."""
    return finish(settings, tmp_path_factory.mktemp("finished"))


def stop_after(iterations: int) -> Callable[[], bool]:
    """Says stop when it has been asked before so many iterations."""
    asked = itertools.count()
    return lambda: next(asked) >= iterations


def interrupt(settings: TrialSettings, folder: Path, attempt: int, epochs: int) -> None:
    """Run a trial and drop it as soon as some epochs were yielded, as a prune does."""
    lines = run_trial(settings, folder, attempt, threads=1)
    for _ in range(epochs):
        next(lines)
    lines.close()


def test_a_finished_trial_has_left_everything(settings: TrialSettings, finished: AttemptPaths) -> None:
    lines = read_lines(finished.metrics)

    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert [line.get("final") for line in lines] == [None, None, True]
    assert ["test_accuracy" in line for line in lines] == [False, False, True]
    assert all(
        {"val_accuracy", "teacher_agreement", "label_fidelity", "student_lr"} <= set(line) for line in lines
    )
    assert finished.sample_epochs() == [1, 3]
    assert finished.checkpoint_points() == [Point(3)]
    assert load_checkpoint(finished.checkpoint(3), settings.identity())["epoch"] == 3
    assert "starting from the beginning" in finished.log.read_text()


def test_the_saved_student_is_the_one_that_was_scored(
    settings: TrialSettings, finished: AttemptPaths
) -> None:
    student = build_network("resnet8", DIGITS.spec)
    tensors = parse_tensors(finished.student.read_bytes(), finished.student)
    fill_network(student, tensors, source=finished.student, arch="resnet8")
    last = read_lines(finished.metrics)[-1]

    assert accuracy(student, DIGITS.load("val")) == last["val_accuracy"]
    assert accuracy(student, DIGITS.load("test")) == last["test_accuracy"]


def test_the_student_has_an_accuracy_on_every_class(settings: TrialSettings, finished: AttemptPaths) -> None:
    content = json.loads(finished.per_class.read_text())
    last = read_lines(finished.metrics)[-1]

    assert content.keys() == {"classes", "val", "test", "teacher"}
    assert content["classes"] == list(DIGITS.class_names)
    for split in ("val", "test"):
        by_class = content[split]
        labels_B = DIGITS.load(split).labels_B
        assert by_class["images"] == torch.bincount(labels_B, minlength=10).tolist()
        assert sum(by_class["right"]) / len(labels_B) == last[f"{split}_accuracy"] <= last[f"{split}_top5"]
        assert content["teacher"][split]["images"] == by_class["images"]
        assert content["teacher"][split]["right"] != by_class["right"]


def test_lines_are_yielded_once_they_are_in_the_file(settings: TrialSettings, tmp_path: Path) -> None:
    attempt = AttemptPaths.of(tmp_path, 1)

    for line in run_trial(settings, tmp_path, 1, threads=1):
        assert read_lines(attempt.metrics)[-1] == line
        assert attempt.checkpoint_points()[-1] == Point(line["epoch"])
        assert attempt.student.exists() == attempt.per_class.exists() == line.get("final", False)


def test_a_trial_depends_on_its_settings_and_not_on_what_ran_before(
    settings: TrialSettings, finished: AttemptPaths, tmp_path: Path
) -> None:
    other = finish(replace_path(settings, "train.seed", 5), tmp_path / "b")
    torch.manual_seed(99)

    again = finish(settings, tmp_path / "a")

    assert digest(again) == digest(finished)
    assert digest(other)[1] != digest(finished)[1]


def test_a_student_starts_from_weights_that_are_a_function_of_the_seed(
    settings: TrialSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[torch.Tensor] = []
    build = build_network

    def noting(arch: str, spec: Any) -> torch.nn.Module:
        network = build(arch, spec)
        starts.append(network.state_dict()["conv1.weight"].clone())
        return network

    monkeypatch.setattr("cpsc_core.trial.build_network", noting)
    for number, seed in enumerate((0, 1, 0)):
        torch.manual_seed(number)
        before = torch.random.get_rng_state()
        options = {"threads": 1, "should_stop": lambda: True}
        list(run_trial(replace_path(settings, "train.seed", seed), tmp_path / str(number), 1, **options))
        assert torch.equal(torch.random.get_rng_state(), before)

    assert torch.equal(starts[0], starts[2])
    assert not torch.equal(starts[0], starts[1])


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_trial_dropped_after_an_epoch_goes_on_as_if_nothing_had_happened(
    settings: TrialSettings, finished: AttemptPaths, tmp_path: Path, epochs: int
) -> None:
    interrupt(settings, tmp_path, 1, epochs)

    assert digest(finish(settings, tmp_path, 2)) == digest(finished)


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_a_stopped_trial_is_saved_where_it_is_and_goes_on_as_if_nothing_had_happened(
    settings: TrialSettings, finished: AttemptPaths, tmp_path: Path, iterations: int
) -> None:
    lines = list(run_trial(settings, tmp_path, 1, threads=1, should_stop=stop_after(iterations)))

    assert not any("final" in line for line in lines)
    assert not AttemptPaths.of(tmp_path, 1).student.exists()
    assert AttemptPaths.of(tmp_path, 1).checkpoint_points()[-1] == Point(*divmod(iterations, 2))
    assert digest(finish(settings, tmp_path, 2)) == digest(finished)


def test_a_trial_that_is_stopped_again_and_again_still_ends_the_same(
    settings: TrialSettings, finished: AttemptPaths, tmp_path: Path
) -> None:
    attempt = 0
    while finished_line(tmp_path) is None:
        attempt += 1
        list(run_trial(settings, tmp_path, attempt, threads=1, should_stop=stop_after(1)))

    assert attempt == 6
    assert digest(AttemptPaths.of(tmp_path, attempt)) == digest(finished)


def test_an_attempt_that_is_stopped_at_once_saves_nothing(settings: TrialSettings, tmp_path: Path) -> None:
    interrupt(settings, tmp_path, 1, 1)

    assert list(run_trial(settings, tmp_path, 2, threads=1, should_stop=lambda: True)) == []

    assert AttemptPaths.of(tmp_path, 2).checkpoint_points() == []


def kill_at_sync(number: int, run: Callable[[], Any]) -> bool:
    """Run something in a process of its own that kills itself instead of its n-th fsync; whether it did."""
    child = os.fork()
    if child == 0:
        syncs = itertools.count(1)
        sync = os.fsync
        os.fsync = lambda handle: (
            os.kill(os.getpid(), signal.SIGKILL) if next(syncs) == number else sync(handle)
        )  # type: ignore[assignment]
        try:
            run()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_trial_killed_between_any_two_writes_goes_on_as_if_nothing_had_happened(
    settings: TrialSettings, tmp_path: Path
) -> None:
    train = replace(settings.train, epochs=2, iterations_per_epoch=1)
    short = replace_path(replace(settings, train=train, splits=("val",)), "teacher.probe", None)
    expected = digest(finish(short, tmp_path / "whole"))

    for number in itertools.count(1):
        folder = tmp_path / str(number)
        killed = kill_at_sync(number, lambda folder=folder: finish(short, folder))  # type: ignore[misc]
        was_final = finished_line(folder) is not None
        last = AttemptPaths.of(folder, 1) if was_final else finish(short, folder, 2)
        assert digest(last) == expected, f"killed at write {number}"
        if not killed:
            break

    assert number > 20


def test_a_damaged_checkpoint_costs_an_epoch_and_nothing_else(
    settings: TrialSettings, finished: AttemptPaths, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupt(settings, tmp_path, 1, 2)
    (AttemptPaths.of(tmp_path, 1).checkpoint(2) / "state.pt").write_bytes(b"rust")

    second = finish(settings, tmp_path, 2)

    assert digest(second) == digest(finished)
    log = second.log.read_text()
    assert "epoch-0002/state.pt is damaged" in log
    assert "going on from epoch-0001 of attempt 1" in log


def test_a_checkpoint_whose_lines_are_gone_is_not_used(
    settings: TrialSettings, finished: AttemptPaths, tmp_path: Path
) -> None:
    interrupt(settings, tmp_path, 1, 2)
    metrics = AttemptPaths.of(tmp_path, 1).metrics
    write_lines(metrics, read_lines(metrics)[:1])

    second = finish(settings, tmp_path, 2)

    assert digest(second) == digest(finished)
    assert "skipping epoch-0002 of attempt 1: its metrics file lacks epochs" in second.log.read_text()


def test_a_third_attempt_goes_on_from_the_newest_checkpoint_of_any(
    settings: TrialSettings, finished: AttemptPaths, tmp_path: Path
) -> None:
    interrupt(settings, tmp_path, 1, 2)
    AttemptPaths.of(tmp_path, 2).root.mkdir()

    third = finish(settings, tmp_path, 3)

    assert digest(third) == digest(finished)
    assert json.loads(third.process.read_text())["start"] == {"attempt": 1, "epoch": 2, "iteration": 0}
    assert third.sample_epochs() == [3]


def test_an_attempt_counts_its_own_seconds(settings: TrialSettings, tmp_path: Path) -> None:
    ticks = itertools.count(0.0, 10.0)
    lines = run_trial(settings, tmp_path, 1, threads=1, clock=lambda: next(ticks))
    assert [next(lines)["seconds"], next(lines)["seconds"]] == [10.0, 20.0]
    lines.close()

    ticks = itertools.count(500.0, 10.0)
    list(run_trial(settings, tmp_path, 2, threads=1, clock=lambda: next(ticks)))

    seconds = [line["seconds"] for line in read_lines(AttemptPaths.of(tmp_path, 2).metrics)]
    assert seconds == [0.0, 0.0, 10.0]


def test_a_trial_that_has_finished_yields_its_last_line_and_trains_nothing(
    settings: TrialSettings, finished: AttemptPaths
) -> None:
    folder = finished.root.parent.parent

    lines = list(run_trial(settings, folder, 2, threads=1))

    assert lines == read_lines(finished.metrics)[-1:]
    assert [each.number for each in attempts_of(folder)] == [1]


def test_an_attempt_that_was_begun_before_is_left_alone(settings: TrialSettings, tmp_path: Path) -> None:
    interrupt(settings, tmp_path, 1, 1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    with pytest.raises(AttemptError, match=r"attempt 1 of .* was begun before; taken are 1: use the next"):
        next(run_trial(settings, tmp_path, 1, threads=1))

    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_new_attempt_writes_only_below_its_own_folder(settings: TrialSettings, tmp_path: Path) -> None:
    interrupt(settings, tmp_path, 1, 2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    finish(settings, tmp_path, 2)

    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    own = AttemptPaths.of(tmp_path, 2).root
    assert {path: content for path, content in after.items() if not path.is_relative_to(own)} == before


def test_a_trial_never_sees_a_training_image(
    settings: TrialSettings, finished: AttemptPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    load = Digits.load

    def held_out_only(data: Digits, split: str, root: Path | None = None) -> Any:
        asked.append(split)
        if split == "train":
            raise DataError("the training split is out of reach")
        return load(data, split, root)

    monkeypatch.setattr(Digits, "load", held_out_only)

    assert digest(finish(settings, tmp_path)) == digest(finished)
    assert sorted(asked) == ["test", "val"]


def test_a_search_trial_never_sees_a_test_image(
    settings: TrialSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    load = Digits.load
    monkeypatch.setattr(
        Digits, "load", lambda data, split, root=None: (asked.append(split), load(data, split))[1]
    )

    attempt = finish(replace(settings, splits=("val",)), tmp_path)

    assert asked == ["val"]
    assert "test_accuracy" not in read_lines(attempt.metrics)[-1]


def test_without_probe_images_agreement_is_not_measured(settings: TrialSettings, tmp_path: Path) -> None:
    attempt = finish(replace_path(settings, "teacher.probe", None), tmp_path)

    assert not any("teacher_agreement" in line for line in read_lines(attempt.metrics))


def test_checkpoints_and_grids_come_as_often_as_asked(settings: TrialSettings, tmp_path: Path) -> None:
    wish = replace(settings.train, epochs=5, iterations_per_epoch=1, checkpoint_every=3, samples_every=2)
    lines = run_trial(replace(settings, train=wish), tmp_path, 1, threads=1)

    seen = [AttemptPaths.of(tmp_path, 1).checkpoint_points() for _ in lines]

    assert seen == [[], [], [Point(3)], [Point(3)], [Point(5)]]
    assert AttemptPaths.of(tmp_path, 1).sample_epochs() == [1, 2, 4, 5]


def test_how_often_checkpoints_are_made_changes_no_number(
    settings: TrialSettings, finished: AttemptPaths, tmp_path: Path
) -> None:
    rare = replace(settings, train=replace(settings.train, checkpoint_every=3, samples_every=1))

    assert digest(finish(rare, tmp_path)) == digest(finished)


@pytest.mark.parametrize(
    ("path", "value", "error", "complaint"),
    [
        ("splits", ("val", "train"), SettingsError, "a trial never sees the training split"),
        ("splits", ("test",), SettingsError, "splits must be val, or val and test, but are test"),
        ("data_fingerprint", "0" * 64, DataError, "digits is not the one the trial was made for"),
        ("data.name", "digit", UnknownNameError, "digits"),
        ("student_arch", "resnt8", UnknownNameError, "resnet8"),
        ("teacher.sha256", "0" * 64, TeacherError, "is not the teacher the trial was made for"),
        ("teacher.mean", (0.1,), TeacherError, "trained on images normalised with mean 0.1, but those of"),
        ("teacher.probe", "/nowhere/probe", TeacherError, "/nowhere/probe cannot be read"),
    ],
)
def test_a_trial_that_cannot_be_run_says_why_and_the_log_has_it(
    settings: TrialSettings, tmp_path: Path, path: str, value: Any, error: type[CoreError], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        finish(replace_path(settings, path, value), tmp_path)

    assert complaint in AttemptPaths.of(tmp_path, 1).log.read_text()
    assert not AttemptPaths.of(tmp_path, 1).metrics.exists()


def test_a_trial_that_diverges_keeps_its_last_good_checkpoint(
    settings: TrialSettings, tmp_path: Path
) -> None:
    wild = replace_path(settings, "train.student.lr", 1e30)

    with pytest.raises(DivergedError):
        finish(wild, tmp_path)

    attempt = AttemptPaths.of(tmp_path, 1)
    assert not any(line.get("final") for line in read_lines(attempt.metrics))
    assert "DivergedError" in attempt.log.read_text()


def test_nothing_stays_attached_to_the_process(settings: TrialSettings, tmp_path: Path) -> None:
    core = logging.getLogger("cpsc_core")
    before = (torch.get_num_threads(), list(core.handlers), core.level)

    interrupt(settings, tmp_path, 1, 1)

    assert (torch.get_num_threads(), core.handlers, core.level) == before


def test_the_process_is_written_down(finished: AttemptPaths) -> None:
    process = json.loads(finished.process.read_text())

    assert process["pid"] == os.getpid()
    assert (process["threads"], process["device"], process["ranks"]) == (1, "cpu", 1)
    assert process["start"] is None


def test_a_trial_reads_as_unfinished_until_its_last_line_says_final(tmp_path: Path) -> None:
    assert finished_line(tmp_path) is None
    for number, lines in ((1, [{"epoch": 1, "final": True}]), (2, [{"epoch": 1}]), (3, [])):
        attempt = AttemptPaths.of(tmp_path, number)
        attempt.root.mkdir(parents=True)
        write_lines(attempt.metrics, lines)
        assert finished_line(tmp_path) == (lines[-1] if number == 1 else None)

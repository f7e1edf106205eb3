"""Gangs of two ranks on a real Ray; what dies is killed for real."""

import signal
from pathlib import Path

import pytest

from cpsc_core.settings import TeacherSettings, TrialSettings
from orchestrator.cluster.capacity import Fixed
from orchestrator.store.folder import TrialFolder, read_json
from orchestrator.store.records import EndClass
from tests.support.ranks import finish_on_ranks
from tests.support.ray_sweep import found, meanwhile, run_on_ray, signal_rank, tiny_experiment, trials
from tests.support.trials import digest

PAIR = "resources.workers=2"


def processes(trial: TrialFolder) -> list[list[int]]:
    """The ranks of each attempt of a trial."""
    described = [read_json(trial.paths.attempt(number).process) for number in trial.attempts]
    return [each["pids"] for each in described if each]


def test_a_killed_rank_costs_its_gang_and_the_trial_goes_on_in_another_that_stays_for_the_next(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    config = tiny_experiment("budget.trials=2", "train.epochs=10", PAIR)
    with meanwhile(signal_rank(tmp_path / "toy", signal.SIGKILL, rank=1)):
        run_on_ray(config, tmp_path / "toy", teacher, scratch, Fixed(1))

    first, second = trials(tmp_path / "toy")
    assert [end.ended for end in first.ends.values()] == [EndClass.INFRASTRUCTURE, EndClass.COMPLETE]
    assert first.ends[1].cause is not None
    assert "a rank died" in first.ends[1].cause
    assert [end.ended for end in second.ends.values()] == [EndClass.COMPLETE]
    (lost, kept), (later,) = processes(first), processes(second)
    assert len({*lost, *kept}) == 4
    assert later == kept
    settings = TrialSettings.from_dict(first.record.settings)
    assert found(first) == digest(finish_on_ranks(2, settings, tmp_path / "whole"))


@pytest.mark.slow
def test_ranks_that_diverge_together_stay_for_the_next_trial(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    space = "{student.lr: {choices: [1.0e+30, 0.01]}}"
    config = tiny_experiment("budget.trials=2", "sampler.name=grid", PAIR, space=space)
    run_on_ray(config, tmp_path / "toy", teacher, scratch, Fixed(1))

    diverged, sound = trials(tmp_path / "toy")
    assert diverged.ends[1].ended is EndClass.DIVERGED
    assert sound.ends[1].ended is EndClass.COMPLETE
    assert processes(diverged) == processes(sound)


@pytest.mark.slow
def test_a_failure_of_the_first_rank_alone_is_told_at_once(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    config = tiny_experiment("budget.trials=1", "retry.infrastructure=0", PAIR, "train.epochs=20")

    def block() -> bool:
        begun = list((tmp_path / "toy").glob("trials/*/attempts/1/checkpoints/epoch-*"))
        for checkpoint in begun[:1]:
            checkpoint.parent.rename(checkpoint.parent.with_suffix(".gone"))
            checkpoint.parent.touch()
        return bool(begun)

    with meanwhile(block):
        run_on_ray(config, tmp_path / "toy", teacher, scratch, Fixed(1))

    (trial,) = trials(tmp_path / "toy")
    assert trial.ends[1].ended is EndClass.ERROR
    assert "NotADirectoryError" in (trial.ends[1].cause or "")

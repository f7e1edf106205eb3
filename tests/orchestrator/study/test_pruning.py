"""One contract for all pruners, and what is ours in some of them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from orchestrator.config import SweepConfig
from orchestrator.config.chosen import CHOSEN_BY_NAME
from orchestrator.store.records import TrialState
from orchestrator.study.pruning import Pruning
from tests.support.simulator import experiment

EPOCHS = 9
PRUNERS = {
    "hyperband": "{name: hyperband, min_epochs: 1, reduction_factor: 2}",
    "median": "{name: median, min_epochs: 1, startup_trials: 2}",
    "none": "{name: none}",
    "patient": "{name: patient, patience: 2}",
    "patient halving": "{name: patient, patience: 1, wraps: {name: successive_halving, reduction_factor: 2}}",
    "patient hyperband": "{name: patient, patience: 1, wraps: {name: hyperband, reduction_factor: 2}}",
    "patient median": "{name: patient, patience: 1, wraps: {name: median, startup_trials: 2}}",
    "successive_halving": "{name: successive_halving, min_epochs: 1, reduction_factor: 2}",
}
ALL = pytest.mark.parametrize("pruner", PRUNERS)
VALUES = st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5, math.nan])
CURVE = st.lists(VALUES, min_size=EPOCHS, max_size=EPOCHS)
CURVES = st.lists(CURVE, min_size=1, max_size=8)
COURSES = st.lists(
    st.tuples(CURVE, st.sampled_from([None, None, None, 2, 4]), st.integers(1, EPOCHS)),
    min_size=1,
    max_size=8,
)


def config_for(pruner: str, *overrides: str) -> SweepConfig:
    return experiment(f"pruner={PRUNERS[pruner]}", *overrides)


class Sweep:
    """Trials one after the other; what their folders would hold, and a way to begin again from that."""

    def __init__(self, config: SweepConfig) -> None:
        self.config = config
        self.pruning = Pruning(config)
        self.histories: dict[int, list[float]] = {}
        self.states: dict[int, TrialState] = {}

    def rebuild(self) -> None:
        self.pruning = Pruning(self.config)
        for number, history in self.histories.items():
            self.pruning.open(number)
            for epoch, value in enumerate(history, start=1):
                self.pruning.note(number, epoch, value)
            if number in self.states:
                self.pruning.close(number, self.states[number])

    def run(
        self, number: int, curve: list[float], fails_at: int | None = None, cut_at: int | None = None
    ) -> tuple[str, int]:
        """Train a trial; how it ended, and at which epoch. Everything is rebuilt after the line `cut_at`."""
        self.pruning.open(number)
        history = self.histories[number] = []
        for epoch, value in enumerate(curve, start=1):
            history.append(value)
            if epoch == cut_at:
                self.rebuild()
            if epoch < EPOCHS and self.pruning.report(number, epoch, value):
                return self._end(number, TrialState.PRUNED, epoch)
            if epoch == fails_at:
                return self._end(number, TrialState.FAILED, epoch)
        self.pruning.note(number, EPOCHS, curve[-1])
        return self._end(number, TrialState.COMPLETE, EPOCHS)

    def _end(self, number: int, state: TrialState, epoch: int) -> tuple[str, int]:
        self.states[number] = state
        self.pruning.close(number, state)
        return state.value, epoch


def test_the_contract_covers_every_pruner_there_is() -> None:
    assert CHOSEN_BY_NAME["pruner"].keys() <= PRUNERS.keys()


@ALL
@settings(max_examples=20, deadline=None)
@given(courses=COURSES)
def test_a_rebuilt_pruner_decides_as_one_that_never_stopped(
    pruner: str, courses: list[tuple[list[float], int | None, int]]
) -> None:
    whole, cut = Sweep(config_for(pruner)), Sweep(config_for(pruner))

    for number, (curve, fails_at, cut_at) in enumerate(courses):
        assert whole.run(number, curve, fails_at) == cut.run(number, curve, fails_at, cut_at)
    cut.rebuild()

    assert [notes(study) for study in cut.pruning.studies] == [
        notes(study) for study in whole.pruning.studies
    ]


def notes(study: optuna.Study) -> list[Any]:
    return [
        (
            trial.state,
            repr(sorted(trial.intermediate_values.items())),
            repr(sorted(trial.system_attrs.items())),
        )
        for trial in study.trials
    ]


@ALL
def test_a_report_that_was_heard_already_changes_nothing(pruner: str) -> None:
    pruning = Pruning(config_for(pruner))
    pruning.open(0)
    pruning.report(0, 1, 0.5)
    pruning.report(0, 2, 0.4)
    before = [notes(study) for study in pruning.studies]

    assert not pruning.report(0, 1, 0.1)
    assert [notes(study) for study in pruning.studies] == before


@pytest.mark.parametrize("pruner", ["median", "successive_halving", "hyperband", "patient", "patient median"])
@settings(max_examples=20, deadline=None)
@given(curves=CURVES)
def test_decisions_are_optunas_own(pruner: str, curves: list[list[float]]) -> None:
    """Beside a study that Optuna runs, with its own pruner and no interruption."""
    sweep = Sweep(config_for(pruner))
    study = optuna.create_study(study_name="toy", direction="maximize", pruner=OPTUNAS[pruner])

    for number, curve in enumerate(curves):
        assert sweep.run(number, curve) == _run_in_optuna(study, curve)


def _run_in_optuna(study: optuna.Study, curve: list[float]) -> tuple[str, int]:
    study.add_trial(create_trial(state=OptunaState.RUNNING))
    trial = optuna.trial.Trial(study, study.trials[-1]._trial_id)
    for epoch, value in enumerate(curve, start=1):
        trial.report(value, step=epoch)
        if epoch < EPOCHS and trial.should_prune():
            study.tell(trial, state=OptunaState.PRUNED)
            return "pruned", epoch
    study.tell(trial, 0.0 if math.isnan(curve[-1]) else curve[-1])
    return "complete", EPOCHS


pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:optuna", "ignore::RuntimeWarning:numpy")


def patient(wrapped: optuna.pruners.BasePruner | None, patience: int) -> optuna.pruners.BasePruner:
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        return optuna.pruners.PatientPruner(wrapped, patience=patience)


_MEDIAN = optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=1)
OPTUNAS = {
    "hyperband": optuna.pruners.HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=2),
    "median": _MEDIAN,
    "patient": patient(None, 2),
    "patient median": patient(_MEDIAN, 1),
    "successive_halving": optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
}


def test_hyperband_has_a_bracket_in_which_every_trial_runs_to_its_end() -> None:
    """With factor 2 and 9 epochs: first rungs at 1, 2, 4 and 8."""
    pruning = Pruning(config_for("hyperband"))

    assert len(pruning.studies) == 4
    for number in range(40):
        pruning.open(number)
    sizes = [len(study.trials) for study in pruning.studies]
    assert sum(sizes) == 40
    assert sizes[0] > sizes[-1] > 0


def test_the_median_ends_what_is_worse_than_half_of_those_before() -> None:
    pruning = Pruning(config_for("median"))
    for number, value in enumerate((0.5, 0.6)):
        pruning.open(number)
        assert not any(pruning.report(number, epoch, value) for epoch in (1, 2))
        pruning.close(number, TrialState.COMPLETE)
    pruning.open(2)

    assert pruning.report(2, 2, 0.1)


def test_a_patient_pruner_waits_for_a_trial_that_still_improves() -> None:
    """Successive halving alone would end it at its first epoch, at which another was better."""
    improving = [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.4, 0.4, 0.4]
    better = [0.9, *[0.8] * (EPOCHS - 1)]
    sweep = Sweep(config_for("patient halving"))
    sweep.run(0, better)

    assert sweep.run(1, improving) == ("pruned", 8)

    impatient = Sweep(config_for("successive_halving"))
    impatient.run(0, better)
    assert impatient.run(1, improving) == ("pruned", 1)


def test_lines_that_nobody_reported_are_passed_by_the_next_report() -> None:
    """A rank may die between its line and the report of it; the next attempt goes on after that line."""
    pruning = Pruning(config_for("successive_halving"))
    for number in range(2):
        pruning.open(number)
    pruning.report(0, 1, 0.9)
    pruning.note(1, 1, 0.1)

    assert not pruning.report(1, 3, 0.1)
    (study,) = pruning.studies
    assert study.trials[1].system_attrs["completed_rung_0"] == 0.1


def test_with_several_objectives_trials_are_pruned_on_the_one_that_is_named() -> None:
    two = "[{metric: label_fidelity}, {metric: generator_kl, direction: minimize}]"
    config = config_for("median", f"objective={two}", "prune_on=generator_kl")
    (study,) = Pruning(config).studies

    assert study.direction is optuna.study.StudyDirection.MINIMIZE


@pytest.mark.parametrize("epochs", range(1, 40, 7))
def test_brackets_are_those_of_optuna_for_every_length(epochs: int) -> None:
    for first, factor in itertools.product((1, 2), (2, 3)):
        if first >= epochs:
            continue
        config = experiment(
            f"train.epochs={epochs}",
            f"pruner={{name: hyperband, min_epochs: {first}, reduction_factor: {factor}}}",
        )
        theirs = optuna.pruners.HyperbandPruner(first, epochs, factor)
        theirs.prune(optuna.create_study(study_name="toy"), create_trial(state=OptunaState.RUNNING))

        assert len(Pruning(config).studies) == len(theirs._pruners)

from __future__ import annotations

import optuna
import pytest

from orchestrator.store.records import EndClass
from orchestrator.study import samplers
from orchestrator.study.tpe import RememberingTpe
from tests.support.searching import Searcher
from tests.support.simulator import SPACE, experiment

CONDITIONAL = (
    "{loss.ikd: {low: 0.1, high: 10.0}, preset: {choices: [fixed, faithful]}, "
    "generator.steps: {low: 1, high: 8, when: {preset: fixed}}}"
)
TWO = "objective=[{metric: val_accuracy}, {metric: generator_kl, direction: minimize}]"


@pytest.mark.parametrize("space", [SPACE, CONDITIONAL], ids=["plain", "conditional"])
@pytest.mark.parametrize("overrides", [[], [TWO, "pruner.name=none"]], ids=["one objective", "two"])
def test_what_is_read_once_gives_the_suggestions_of_optunas_own_tpe(
    space: str, overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment("sampler={options: {n_startup_trials: 4}}", *overrides, space=space)
    faults = {2: EndClass.DIVERGED, 5: EndClass.OUT_OF_MEMORY, 6: EndClass.ERROR}
    ours = Searcher(config, faults=faults).run(range(25))

    monkeypatch.setattr(samplers, "RememberingTpe", optuna.samplers.TPESampler)

    assert Searcher(config, faults=faults).run(range(25)) == ours


def test_every_finished_trial_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = RememberingTpe._get_params

    def counted(self: RememberingTpe, trial: optuna.trial.FrozenTrial, study: optuna.Study) -> object:
        read.append(trial.number)
        return original(self, trial, study)

    monkeypatch.setattr(RememberingTpe, "_get_params", counted)
    Searcher(experiment("sampler={options: {n_startup_trials: 4}}")).run(range(12))

    assert sorted(read) == list(range(11))

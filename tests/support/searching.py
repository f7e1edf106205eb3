"""Searches without folders: trials in memory, trained by a formula, told as a controller would."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpsc_core.settings import TrialSettings
from orchestrator.config import SweepConfig, apply
from orchestrator.outcome import judge
from orchestrator.store.folder import TrialFolder
from orchestrator.store.paths import TrialPaths
from orchestrator.store.records import EndClass, Result, Stage, TrialRecord, TrialState
from orchestrator.study.search import Suggestion
from orchestrator.study.study import Study
from tests.support.simulator import template

__all__ = ["Curve", "Searcher", "made_trial", "result_of"]

Curve = Callable[[Mapping[str, Any], int], Mapping[str, float]]


def quality(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
    """A smooth accuracy that favours a weight near 3 and few steps, and what it costs."""
    steps = float(params.get("generator.steps", 4))
    height = 1.0 - abs(float(params.get("loss.ikd", 1.0)) - 3.0) / 20.0 - steps / 100.0
    return {"val_accuracy": height * epoch / (epoch + 1.0), "generator_kl": steps / epoch}


@dataclass(frozen=True)
class _MadeTrial(TrialFolder):
    """A trial without files."""

    lines: list[Mapping[str, Any]]

    @property
    def history(self) -> list[dict[str, Any]]:
        return [dict(line) for line in self.lines]

    @property
    def attempts(self) -> list[int]:  # type: ignore[override]
        return [1] if self.lines else []

    @property
    def costs(self) -> dict[str, float]:  # type: ignore[override]
        return {}


def made_trial(
    suggestion: Suggestion, settings: TrialSettings, lines: Sequence[Mapping[str, Any]], result: Result | None
) -> TrialFolder:
    """A trial as it would be read from its folder."""
    record = TrialRecord(
        name=settings.identity(),
        number=suggestion.number,
        stage=Stage.SEARCH,
        params=suggestion.params,
        distributions=suggestion.distributions,
        system_attrs=suggestion.system_attrs,
        settings=settings.to_dict(),
        created=0.0,
        generation=1,
    )
    return _MadeTrial(TrialPaths(Path("/nowhere")), record, result, list(lines))


def result_of(
    config: SweepConfig,
    params: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    *,
    state: TrialState = TrialState.COMPLETE,
    cause: str | None = None,
    costs: Mapping[str, float] | None = None,
) -> Result:
    """The result that a controller writes."""
    verdict = judge(lines, costs or {}, config.objectives, config.bounds)
    complete = state is TrialState.COMPLETE
    return Result(
        state=state,
        objective=next(iter(verdict.objectives.values()), None) if complete else None,
        objectives=verdict.objectives if complete else {},
        excess=verdict.excess if complete else {},
        params=dict(params),
        metrics=dict(lines[-1]) if lines else {},
        timing={"seconds": 1.0},
        cause=cause,
        detail=None,
        attempt=1,
        generation=1,
    )


@dataclass
class Searcher:
    """One trial after the other, as with one slot; what a folder would hold is kept in `trials`."""

    config: SweepConfig
    curve: Curve = quality
    costs: Callable[[Mapping[str, Any]], Mapping[str, float]] = lambda params: {}
    faults: Mapping[int, EndClass] = field(default_factory=dict)
    trials: list[TrialFolder] = field(default_factory=list)
    study: Study = field(init=False)

    def __post_init__(self) -> None:
        self.study = self.rebuilt()

    def rebuilt(self) -> Study:
        """A study made anew from the trials."""
        study = Study(self.config)
        for trial in self.trials:
            study.restore(trial)
        return study

    def run(self, numbers: Iterable[int]) -> list[dict[str, Any]]:
        """Ask, train and tell; the parameters that were tried."""
        return [self.step(number).params for number in numbers]

    def step(self, number: int) -> Suggestion:
        """Ask for a number, train it to its end or until it is pruned or fails, and tell what came of it."""
        suggestion = self.study.suggest(number)
        assert suggestion is not None
        lines, pruned = self._train(suggestion)
        state = TrialState.PRUNED if pruned else TrialState.COMPLETE
        fault = self.faults.get(number)
        if fault is not None:
            state = TrialState.FAILED
        costs = self.costs(suggestion.params)
        result = result_of(self.config, suggestion.params, lines, state=state, cause=fault, costs=costs)
        settings = apply(template(self.config), suggestion.params)
        trial = made_trial(suggestion, settings, lines, result)
        self.trials.append(trial)
        self.study.tell(number, trial)
        return suggestion

    def _train(self, suggestion: Suggestion) -> tuple[list[dict[str, Any]], bool]:
        lines: list[dict[str, Any]] = []
        epochs = self.config.train.epochs
        for epoch in range(1, epochs + 1):
            lines.append({"epoch": epoch, **self.curve(suggestion.params, epoch)})
            if suggestion.number in self.faults and epoch == 2:
                self.study.report(suggestion.number, lines[-1])
                return lines, False
            if epoch < epochs and self.study.report(suggestion.number, lines[-1]):
                return lines, True
        return lines, False

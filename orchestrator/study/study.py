"""The Optuna study as a view of the trial folders.

It lives in memory and is rebuilt from the folders whenever a sweep starts or resumes. Nothing is pickled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna

from cpsc_core.settings import TrialSettings
from orchestrator.config import SweepConfig, setting_at
from orchestrator.store.folder import TrialFolder
from orchestrator.store.records import Duplicate
from orchestrator.study.prior import PriorTrial
from orchestrator.study.pruning import Pruning
from orchestrator.study.search import Search, Suggestion

__all__ = ["Study"]


class Study:
    """Suggestions, pruning decisions and outcomes of one sweep's search."""

    def __init__(self, config: SweepConfig, prior: Sequence[PriorTrial] = ()) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._metric = config.pruning_objective.metric
        self.search = Search(config, prior)
        self.pruning = Pruning(config)

    @property
    def study(self) -> optuna.Study:
        """What the sampler sees."""
        return self.search.study

    def suggest(self, number: int) -> Suggestion | None:
        """The suggestion of a number, which must not have been asked for before; None: space exhausted."""
        suggestion = self.search.ask(number)
        if suggestion is not None:
            self.pruning.open(number)
        return suggestion

    def report(self, number: int, line: Mapping[str, Any]) -> bool:
        """Note a metrics line of a trial; whether the pruner would end the trial here.

        A line does not have what is measured at the end alone, and nobody prunes on that.
        """
        if self._metric not in line:
            return False
        epoch, value = line["epoch"], float(line[self._metric])
        self.search.note(number, epoch, value)
        return self.pruning.report(number, epoch, value)

    def catch_up(self, number: int, trial: TrialFolder) -> None:
        """Note the lines of a trial that nobody reported: its last, and what a process wrote as it died."""
        for epoch, value in self._curve(trial):
            self.search.note(number, epoch, value)
            self.pruning.note(number, epoch, value)

    def tell(self, number: int, trial: TrialFolder) -> None:
        """Note how a trial ended."""
        if trial.result is None:
            raise ValueError(f"trial {trial.name} has not ended")
        self.catch_up(number, trial)
        self.search.tell(number, trial.result)
        self.pruning.close(number, trial.result.state)

    def copy(self, number: int, trial: TrialFolder) -> None:
        """Tell the suggestion of a number, a duplicate, what came out of the trial that it named.

        It is judged beside nobody: the trial that it named already is.
        """
        for epoch, value in self._curve(trial):
            self.search.note(number, epoch, value)
        if trial.result is not None:
            self.search.tell(number, trial.result)

    def restore(self, trial: TrialFolder) -> None:
        """Enter a trial of an earlier run as it stands in its folder."""
        record = trial.record
        if record.number is None:
            raise ValueError(f"trial {trial.name} was not suggested, so the study does not know it")
        self.search.enter(record.number, self._params(record.params, trial), record.system_attrs)
        self.pruning.open(record.number)
        if trial.result is None:
            self.catch_up(record.number, trial)
        else:
            self.tell(record.number, trial)

    def restore_duplicate(self, duplicate: Duplicate, trial: TrialFolder) -> None:
        """Enter a suggestion of an earlier run that named an existing trial."""
        self.search.enter(duplicate.number, self._params(duplicate.params, trial), duplicate.system_attrs)
        self.copy(duplicate.number, trial)

    def _curve(self, trial: TrialFolder) -> Iterator[tuple[int, float]]:
        """Values by epoch, up to where the trial was ended: its processes may have gone a step further."""
        last = trial.result.metrics.get("epoch", math.inf) if trial.result is not None else math.inf
        return (
            (line["epoch"], float(line[self._metric]))
            for line in trial.history
            if self._metric in line and line["epoch"] <= last
        )

    def _params(self, noted: Mapping[str, Any], trial: TrialFolder) -> dict[str, Any]:
        """Parameters in today's space: one that was not searched then has the value it was fixed at."""
        return self.search.space.fill(lambda path: noted[path] if path in noted else _fixed(trial, path))


def _fixed(trial: TrialFolder, path: str) -> Any:
    return setting_at(TrialSettings.from_dict(trial.record.settings), path)

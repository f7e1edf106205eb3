"""From the controller's state to what a display shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any

from orchestrator.controller.controller import Controller
from orchestrator.decide import Standing
from orchestrator.store.records import Stage, TrialState
from orchestrator.sweep.progress import Board, Row

__all__ = ["Drawing", "Pace"]

Line = Mapping[str, Any]
_NO_LINE: Line = {}


class Pace:
    """How fast epochs go by, for an honest guess at the time left."""

    def __init__(self, clock: Callable[[], float], slots: int) -> None:
        self._clock = clock
        self._slots = slots
        self._began: float | None = None
        self._epochs = 0

    def hear_epoch(self) -> None:
        """Count one epoch of any trial."""
        if self._began is None:
            self._began = self._clock()
        else:
            self._epochs += 1

    def seconds_for(self, epochs: float) -> float | None:
        """Time that many more epochs take at the pace so far; None before the pace is known."""
        if self._began is None or self._epochs < self._slots:
            return None
        return epochs * (self._clock() - self._began) / self._epochs


class Drawing:
    """A sweep drawn again and again; rows of trials that have not changed since are kept."""

    def __init__(self, controller: Controller, pace: Pace) -> None:
        self._controller = controller
        self._pace = pace
        self._kept: dict[str, tuple[Standing, Line, str | None, Row]] = {}

    def board(self, note: str | None = None) -> Board:
        """The sweep as it stands now."""
        state, config = self._controller.state, self._controller.config
        confirming = state.confirmed
        stage = Stage.CONFIRM if confirming else Stage.SEARCH
        staged = [trial for trial in state.trials.values() if trial.stage is stage]
        duplicates = state.suggestions - len(staged)
        is_whole = confirming or state.closed is not None
        planned = len(staged) if is_whole else max(state.rules.trials, state.suggestions) - duplicates
        left = _epochs_left(self._controller, staged, planned, config.train.epochs)
        return Board(
            stage=stage.value,
            rows=tuple(map(self._row, state.trials.values())),
            best=state.best,
            counts=Counter(trial.state for trial in staged),
            planned=planned,
            seconds_left=self._pace.seconds_for(left),
            note=note,
        )

    def _row(self, trial: Standing) -> Row:
        line = self._controller.newest.get(trial.name, _NO_LINE)
        cause = self._controller.causes.get(trial.name)
        kept = self._kept.get(trial.name)
        if kept is None or kept[0] is not trial or kept[1] is not line or kept[2] != cause:
            kept = trial, line, cause, self._draw_row(trial, line, cause)
            self._kept[trial.name] = kept
        return kept[3]

    def _draw_row(self, trial: Standing, line: Line, cause: str | None) -> Row:
        config = self._controller.config
        so_far = line.get(config.objectives[0].metric)
        is_complete = trial.state is TrialState.COMPLETE
        return Row(
            number=trial.number,
            name=trial.name,
            stage=trial.stage,
            state=trial.state,
            epoch=line.get("epoch", 0),
            epochs=config.train.epochs,
            objective=self._controller.objectives.get(trial.name) if is_complete else so_far,
            attempt=trial.attempts,
            cause=cause,
        )


def _epochs_left(controller: Controller, staged: list[Standing], planned: int, epochs: int) -> float:
    """Epochs to go in the stage; a trial that has not begun is taken to last as long as those that ended."""
    lengths: list[float] = []
    begun: list[float] = []
    for trial in staged:
        done = float(controller.newest.get(trial.name, {}).get("epoch", 0))
        if trial.state.is_final:
            lengths.append(done)
        elif trial.state is TrialState.RUNNING:
            begun.append(done)
    expected = fmean(lengths) if lengths else float(epochs)
    fresh = planned - len(lengths) - len(begun)
    return expected * fresh + sum(max(expected - done, 1.0) for done in begun)

"""Ray Tune's interfaces over the controller: what to run, whether to go on, and what has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from ray import tune
from ray.tune import Callback, Stopper
from ray.tune.execution import class_cache
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from orchestrator.cluster.capacity import Places
from orchestrator.store.records import EndClass
from orchestrator.trial.assignment import Assignment
from orchestrator.trial.driver import LeavingError, TrialDriver
from orchestrator.trial.news import News
from orchestrator.trial.parcel import Parcel

__all__ = ["Orders", "run_trials"]

_Answer = TypeVar("_Answer")


class Orders(Protocol):
    """Who decides; Tune only carries out."""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to hand out, ever."""

    def hand_out(self) -> Assignment | None:
        """The next attempt to run; None if there is none now."""

    def hear_line(self, assignment: Assignment, line: dict[str, Any]) -> bool:
        """Take note of an epoch; whether the trial goes on."""

    def hear_end(
        self, assignment: Assignment, ended: EndClass, cause: str | None, trace: list[str], node: str | None
    ) -> None:
        """Take note of an attempt's end; called exactly once for each that was handed out."""

    def tick(self) -> None:
        """Called a few times a second."""


def run_trials(
    orders: Orders,
    *,
    places: Places,
    scratch: Path,
    parcels: Mapping[str, Parcel] = MappingProxyType({}),
) -> None:
    """Run attempts on the cluster, as many as there is room for at the moment, until the orders are finished.

    `parcels` are the teacher's files, by the field of its settings that names them, if the machines are sent
    them; else they are read where the settings say. Tune keeps nothing: no checkpoint, no snapshot, no
    logger, no retry, no metric of its own. What the orders raise ends everything that runs, and is raised.
    """
    _keep_secrets_off_the_command_line()
    guarded = _Guarded(orders)
    searcher = _OrdersSearcher(guarded, places, parcels)
    scheduler = _OrdersScheduler(searcher)
    tune.run(
        TrialDriver,
        name="tune",
        config={},
        search_alg=searcher,
        scheduler=scheduler,
        stop=guarded,
        num_samples=-1,
        reuse_actors=True,
        storage_path=str(scratch / "tune"),
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        callbacks=[_Ticker(guarded.tick, scheduler)],
        trial_name_creator=_short_name,
        trial_dirname_creator=_short_name,
        raise_on_failed_trial=False,
        verbose=0,
    )
    if guarded.error is not None:
        raise guarded.error


def _keep_secrets_off_the_command_line() -> None:
    """Leave AWS's credentials to every machine's own environment.

    Tune would send them along, and Ray write them into the title of each trial's process and into its logs,
    where every account of the machine reads them.
    """
    sent = class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.ENV_VARS_TO_PROPAGATE = {name for name in sent if not name.startswith("AWS_")}


class _Guarded(Stopper):
    """Orders that never raise: Tune would take an error of theirs for one of the trial, and go on.

    After the first one they are asked nothing more, and everything is stopped.
    """

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self.error: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles whoever may stop it into a state that nobody reads."""
        return {}

    @property
    def finished(self) -> bool:
        return self.error is not None or self._orders.finished

    def hand_out(self) -> Assignment | None:
        return self._ask(self._orders.hand_out, None)

    def hear_line(self, assignment: Assignment, line: dict[str, Any]) -> bool:
        return self._ask(lambda: self._orders.hear_line(assignment, line), False)

    def hear_end(
        self, assignment: Assignment, ended: EndClass, cause: str | None, trace: list[str], node: str | None
    ) -> None:
        self._ask(lambda: self._orders.hear_end(assignment, ended, cause, trace, node), None)

    def tick(self) -> None:
        self._ask(self._orders.tick, None)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Tune asks about every result; one trial alone is never stopped this way."""
        return False

    def stop_all(self) -> bool:
        """Tune asks after every step."""
        return self.error is not None

    def _ask(self, question: Callable[[], _Answer], otherwise: _Answer) -> _Answer:
        if self.error is not None:
            return otherwise
        try:
            return question()
        except Exception as error:
            self.error = error
            return otherwise


class _OrdersSearcher(Searcher):
    """Hands out attempts as Tune trials and reports their ends; a Tune trial is one attempt."""

    def __init__(self, orders: Orders, places: Places, parcels: Mapping[str, Parcel]) -> None:
        super().__init__()
        self.orders = orders
        self.places = places
        self.parcels = dict(parcels)
        self.assignments: dict[str, Assignment] = {}
        self.deaths: dict[str, News] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        room = self.places.room()
        if len(self.assignments) >= room.slots:
            if not self.assignments:
                self.orders.tick()  # all machines are gone, and Tune does nothing but ask while nothing runs
            return Searcher.FINISHED if self.orders.finished else None
        assignment = self.orders.hand_out()
        if assignment is None:
            return Searcher.FINISHED if self.orders.finished else None
        self.assignments[trial_id] = assignment = replace(assignment, nodes=room.nodes, parcels=self.parcels)
        return assignment.to_config()

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tune cannot tell pruned from complete, nor why an actor died: the orders know the first."""
        assignment = self.assignments.pop(trial_id)
        if error or result is None:
            news = self.deaths.pop(trial_id, News(ended=EndClass.INFRASTRUCTURE))
        else:
            news = result["news"]
        ended = news.ended or EndClass.PRUNED
        self.orders.hear_end(assignment, ended, news.cause, news.trace, news.node)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the folders are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the folders are the state."""


class _OrdersScheduler(FIFOScheduler):
    """Asks the orders after each epoch whether a trial goes on."""

    def __init__(self, searcher: _OrdersSearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher = searcher
        self._waiting: dict[str, Any] = {}
        self._tune: Any = None

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Its processes are waited for from now on."""
        self._tune = tune_controller
        self._waiting[trial.trial_id] = trial

    def note_start(self, trial: Any) -> None:
        """Its processes are there."""
        self._waiting.pop(trial.trial_id, None)

    def release_stranded(self) -> None:
        """End attempts that wait for machines which are all gone: Ray would keep their places for ever."""
        for trial_id, trial in list(self._waiting.items()):
            assignment = self._searcher.assignments.get(trial_id)
            if assignment is None:
                del self._waiting[trial_id]
            elif assignment.nodes and not self._searcher.places.has_living(assignment.nodes):
                cause = "the machines it was to run on are gone"
                self._searcher.deaths[trial_id] = News(ended=EndClass.PREEMPTED, cause=cause)
                self._tune.stop_trial(trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        line = result["news"].line
        orders, assignment = self._searcher.orders, self._searcher.assignments[trial.trial_id]
        goes_on = line is None or orders.hear_line(assignment, line)
        return str(FIFOScheduler.CONTINUE if goes_on else FIFOScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Keep what Ray has to say: the searcher is told of an error, and not of which."""
        self._searcher.deaths[trial.trial_id] = _death(trial)


def _death(trial: Any) -> News:
    """Why a driver is gone: what it left behind, or what Ray says of its process."""
    said = Path(trial.error_file).read_text(encoding="utf-8")
    if (left_behind := LeavingError.find(said)) is not None:
        return left_behind
    # Tune does not count it as a failure if the machine was drained, and that is all it tells
    is_preempted = trial.run_metadata.num_failures == 0
    return News(
        ended=EndClass.PREEMPTED if is_preempted else EndClass.INFRASTRUCTURE,
        cause="the trial's driver process died",
        trace=said.splitlines(),
    )


class _Ticker(Callback):
    def __init__(self, tick: Callable[[], None], scheduler: _OrdersScheduler) -> None:
        self._tick = tick
        self._scheduler = scheduler
        self._last = 0.0

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._scheduler.note_start(trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if (now := time.monotonic()) - self._last > 0.25:
            self._last = now
            self._tick()
            self._scheduler.release_stranded()


def _short_name(trial: Any) -> str:
    return f"{trial.config['name']}-{trial.config['attempt']}-{trial.trial_id}"

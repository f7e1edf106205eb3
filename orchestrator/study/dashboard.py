"""A copy of the search in a database of Optuna's, for people who look at it with optuna-dashboard.

It is made from the folders and never read by the search. Whatever goes wrong with it is told once and holds
up nothing: the next attempt copies what is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from orchestrator.keeper import Keeper
from orchestrator.store.folder import SweepFolder
from orchestrator.store.paths import SweepPaths
from orchestrator.study.view import study_of

__all__ = ["copy_search", "dashboard_of"]

_NUMBER = "number"

_logger = logging.getLogger(__name__)


def dashboard_of(
    url: str | None,
    paths: SweepPaths,
    say: Callable[[str], None],
    *,
    interval_seconds: float = 15.0,
    grace_seconds: float = 5.0,
) -> AbstractContextManager[object]:
    """The copy that an experiment file asks for, if it does: it is kept up to date while the block runs.

    `say` is told what is wrong with it, each thing once.
    """
    if url is None:
        return nullcontext()
    folder, said = SweepFolder(paths), set[str]()

    def update() -> None:
        try:
            copy_search(folder, url)
        except Exception as error:  # a database may fail in any way, and no way may reach the sweep
            _logger.warning("the copy for optuna-dashboard is behind", exc_info=True)
            reason = (str(error).splitlines() or [""])[0].replace(url, "its address")
            problem = f"{type(error).__name__}: {reason}"
            if problem not in said:
                say(f"optuna_storage is behind, and the sweep goes on without it: {problem}")
            said.add(problem)

    return Keeper("dashboard", update, interval_seconds=interval_seconds, grace_seconds=grace_seconds)


def copy_search(folder: SweepFolder, url: str) -> int:
    """Copy the finished trials that a database lacks; how many there were.

    A copy that holds something else than the folders, such as a trial that was tried again, is made anew. The
    study is named after the sweep and the time it began, so that sweeps of one name do not meet.
    """
    view = study_of(folder)
    storage = optuna.storages.get_storage(url)
    finished = {trial.number: trial for trial in view.trials if trial.state.is_finished()}
    name = _study_name(folder)
    copy = _open(name, storage, view)
    held = {trial.user_attrs.get(_NUMBER): trial for trial in copy.get_trials(deepcopy=False)}
    if any(number not in finished or not _same(held[number], finished[number]) for number in held):
        optuna.delete_study(study_name=name, storage=storage)
        copy, held = _open(name, storage, view), {}
    missing = [trial for number, trial in finished.items() if number not in held]
    for trial in missing:
        trial.user_attrs[_NUMBER] = trial.number
        copy.add_trial(trial)
    return len(missing)


def _open(name: str, storage: optuna.storages.BaseStorage, view: optuna.Study) -> optuna.Study:
    return optuna.create_study(
        study_name=name, storage=storage, directions=view.directions, load_if_exists=True
    )


def _study_name(folder: SweepFolder) -> str:
    began = datetime.fromtimestamp(folder.manifest.get("created", 0.0))
    return f"{folder.name} {began:%Y-%m-%d %H:%M:%S}"


def _same(one: FrozenTrial, other: FrozenTrial) -> bool:
    return bool(_content(one) == _content(other))


def _content(trial: FrozenTrial) -> Any:
    attrs = {key: value for key, value in trial.user_attrs.items() if key != _NUMBER}
    values = repr(sorted(trial.intermediate_values.items()))
    return trial.state, trial.values, trial.params, trial.distributions, attrs, values

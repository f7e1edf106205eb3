"""A sweep's search as people look at it: an Optuna study of everything that was tried, and what Optuna shows.

Unlike the study of a running search (`orchestrator.study.study`), this one is built from any sweep folder,
needs no experiment file, and is nobody's state.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from orchestrator.objective import Objective, objectives_of
from orchestrator.ranking import values_of
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.records import Duplicate, TrialRecord, TrialState

__all__ = ["figures_page", "importances", "study_of"]

_STATES = {
    TrialState.PENDING: OptunaState.RUNNING,
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}
_FEWEST_FOR_IMPORTANCES = 4
_OBJECTIVES = "objectives"
"""User attribute of the study with the names of what is optimised."""


def study_of(folder: SweepFolder) -> optuna.Study:
    """The search of a sweep as an Optuna study in memory: trials by number, each with its hash and cause.

    Confirm trials are not in it. A suggestion that named an existing trial is told what that came to.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trials, objectives = folder.trials(), objectives_of(folder.manifest)
    by_name = {trial.name: trial for trial in trials}
    asked: dict[int, tuple[TrialFolder, TrialRecord | Duplicate]] = {
        trial.record.number: (trial, trial.record) for trial in trials if trial.record.number is not None
    }
    asked |= {each.number: (by_name[each.name], each) for each in folder.duplicates()}
    numbers = sorted(asked)
    # A search may go on in a wider space, which holds all that was tried before; Optuna compares no others.
    newest = {path: each for number in numbers for path, each in asked[number][1].distributions.items()}
    space = {path: json_to_distribution(each) for path, each in newest.items()}
    directions = [each.direction for each in objectives]
    study = optuna.create_study(study_name=folder.name, directions=directions)  # type: ignore[arg-type]
    study.set_user_attr(_OBJECTIVES, [each.metric for each in objectives])
    study.add_trials(_frozen(*asked[number], objectives, space) for number in numbers)
    return study


def importances(study: optuna.Study) -> dict[str, float]:
    """How much of the first objective's variation each parameter explains, largest first, summing to 1.

    Empty while fewer than four trials are complete, or if all of them came to the same.
    """
    complete = study.get_trials(deepcopy=False, states=(OptunaState.COMPLETE,))
    if len(complete) < _FEWEST_FOR_IMPORTANCES or len({trial.values[0] for trial in complete}) == 1:
        return {}
    with warnings.catch_warnings():
        # It warns that what makes a target low is asked for, which is what is meant.
        warnings.simplefilter("ignore")
        found = optuna.importance.get_param_importances(study, target=_cost(study))
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def figures_page(study: optuna.Study) -> str | None:
    """Optuna's own interactive charts on one HTML page that needs no network, about 5 MB.

    History, importances, parallel coordinates, slices and learning curves; None while no trial is complete.
    """
    if not study.get_trials(deepcopy=False, states=(OptunaState.COMPLETE,)):
        return None
    import optuna.visualization as charts

    several = len(study.directions) > 1
    names = study.user_attrs[_OBJECTIVES]
    # Optuna wants to be told which one is meant only where there are several.
    first: dict[str, Any] = {"target": _first, "target_name": names[0]} if several else {}
    figures = {
        "Optimisation history": charts.plot_optimization_history(study, **first),
        "Parallel coordinates": charts.plot_parallel_coordinate(study, **first),
        "Slices": charts.plot_slice(study, **first),
    }
    if several:
        figures["Pareto front"] = charts.plot_pareto_front(study, target_names=names)
    else:
        figures["Learning curves"] = charts.plot_intermediate_values(study)
    if found := importances(study):
        figures["Parameter importances"] = _bars(found)
    return _page(study.study_name, figures)


def _bars(shares: Mapping[str, float]) -> Any:
    """Optuna's own chart of importances would compute them again, and of several objectives another way."""
    import plotly.graph_objects as go

    names = list(shares)[::-1]
    bars = go.Bar(x=[shares[name] for name in names], y=names, orientation="h")
    return go.Figure(bars, {"xaxis": {"title": "share of the objective's variation"}})


def _page(name: str, figures: Mapping[str, Any]) -> str:
    """Figures below each other; the library that draws them is in the page once."""
    bodies = [
        figure.update_layout(title=title).to_html(
            full_html=False, include_plotlyjs=index == 0, div_id=f"figure-{index}"
        )
        for index, (title, figure) in enumerate(figures.items())
    ]
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(name)}</title>'
    return head + "\n".join(bodies) + "</html>\n"


def _frozen(
    trial: TrialFolder,
    asked: TrialRecord | Duplicate,
    objectives: Sequence[Objective],
    space: Mapping[str, BaseDistribution],
) -> FrozenTrial:
    """A trial as Optuna writes it, under the parameters of the suggestion that asked for it.

    A complete one without a number for every objective is told as failed: Optuna takes no other.
    """
    result, metric = trial.result, objectives[0].metric
    reached = values_of(result, objectives)
    state = (
        OptunaState.FAIL if trial.state is TrialState.COMPLETE and reached is None else _STATES[trial.state]
    )
    values = {line["epoch"]: float(line[metric]) for line in trial.history if metric in line}
    ended = result.timing.get("ended") if result else None
    return FrozenTrial(
        number=0,
        trial_id=0,
        state=state,
        value=None,
        values=reached,
        datetime_start=datetime.fromtimestamp(trial.record.created),
        datetime_complete=None if ended is None else datetime.fromtimestamp(ended),
        params={name: asked.params[name] for name in asked.distributions},
        distributions={name: space[name] for name in asked.distributions},
        user_attrs={"trial": trial.name} | ({"cause": result.cause} if result and result.cause else {}),
        system_attrs={},
        intermediate_values=values,
    )


def _cost(study: optuna.Study) -> Callable[[FrozenTrial], float]:
    """The first objective, as something of which less is better."""
    sign = -1.0 if study.directions[0] is optuna.study.StudyDirection.MAXIMIZE else 1.0
    return lambda trial: sign * _first(trial)


def _first(trial: FrozenTrial) -> float:
    return float(trial.values[0])

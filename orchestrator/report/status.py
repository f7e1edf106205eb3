"""How a sweep stands right now, read from its folders and its lease."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.objective import objective_of, objectives_of
from orchestrator.report.leaderboard import order
from orchestrator.report.wording import fixed, label
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.ownership import owner_of
from orchestrator.store.records import AttemptEnd, Result, TrialState

__all__ = ["found", "headline", "render_status", "standing", "status_document"]

_EXPLAINED = 3
_LINES_OF_A_STACK = 4
_LINES_OF_A_LOG = 2
_COUNTED = (
    TrialState.RUNNING,
    TrialState.COMPLETE,
    TrialState.PRUNED,
    TrialState.FAILED,
    TrialState.PENDING,
)
_STYLES = {"running": "cyan", "complete": "green", "pruned": "dim", "failed": "red", "pending": ""}


def status_document(folder: SweepFolder) -> dict[str, Any]:
    """How the sweep stands, as plain JSON values: its standing, and every trial with how far it is."""
    trials, owned = folder.trials(), owner_of(folder.paths) is not None
    metric = objective_of(folder.manifest).metric
    entries = [_entry(trial, metric, owned) for trial in trials]
    return {**_standing(folder, trials, owned), "trials": entries}


def found(folder: SweepFolder) -> dict[str, Any]:
    """`counts` and `best` of a sweep that nobody runs, for which nobody is asked who owns it."""
    whole = _standing(folder, folder.trials(), owned=False)
    return {key: whole[key] for key in ("counts", "best")}


def standing(folder: SweepFolder) -> dict[str, Any]:
    """How the sweep stands as a whole, for which no history has to be read.

    `state` is running, or stopping once somebody asked for that, while a controller owns the sweep. After
    that it is how the sweep ended (complete, stopped, ...), or interrupted if its controller is gone
    without having said so. A trial counts as running only while a controller lives that can hear it.
    """
    return _standing(folder, folder.trials(), owner_of(folder.paths) is not None)


def headline(document: Mapping[str, Any]) -> str:
    """The standing of a sweep, or its status document, in one line."""
    counts = ", ".join(f"{count} {state}" for state, count in document["counts"].items() if count)
    best = document["best"]
    by = f"; best {fixed(best['objective'])} by trial {best['number']}" if best else ""
    return f"{document['sweep']} is {document['state']}: {counts or 'no trials yet'}{by}"


def render_status(document: Mapping[str, Any], limit: int = 20) -> Group:
    """A status document as a table: its headline, then unfinished trials, then the newest finished ones."""
    finished = [each for each in document["trials"] if TrialState(each["state"]).is_final]
    unfinished = [each for each in document["trials"] if not TrialState(each["state"]).is_final]
    room = max(limit - len(unfinished), 0)
    shown = unfinished[:limit] + (finished[-room:] if room else [])
    table = Table(box=None, pad_edge=False)
    for heading, justify in _COLUMNS:
        table.add_column(heading, justify=justify, no_wrap=heading != "cause")  # type: ignore[arg-type]
    for entry in shown:
        table.add_row(*_cells(entry))
    left_out = len(document["trials"]) - len(shown)
    more = [Text(f"and {left_out} more; see them all with --json")] if left_out else []
    failed = [entry for entry in shown if entry["stack"] or entry["lines"]][-_EXPLAINED:]
    return Group(Text(headline(document), style="bold"), table, *more, *map(_explanation, failed))


_COLUMNS = (
    ("trial", "right"),
    ("stage", "left"),
    ("state", "left"),
    ("epoch", "right"),
    ("objective", "right"),
    ("attempt", "right"),
    ("cause", "left"),
)


def _cells(entry: Mapping[str, Any]) -> list[str | Text]:
    reasons = [each for each in (entry["cause"], entry["detail"]) if each]
    return [
        label(entry["number"], entry["trial"]),
        entry["stage"],
        Text(entry["state"], style=_STYLES[entry["state"]]),
        f"{entry['epoch']}/{entry['epochs']}",
        fixed(entry["objective"]),
        str(entry["attempt"]),
        Text(": ".join(reasons)),
    ]


def _explanation(entry: Mapping[str, Any]) -> Text:
    """Where a trial failed, and what it said last."""
    where = f" on {entry['node']}" if entry["node"] else ""
    trial = label(entry["number"], entry["trial"])
    lines = [f"trial {trial}, attempt {entry['attempt']}{where}: {entry['cause']}"]
    lines += [f"  {line.strip()}" for line in entry["stack"][-_LINES_OF_A_STACK:]]
    lines += [f"  {line.strip()}" for line in entry["lines"][-_LINES_OF_A_LOG:]]
    lines.append(f"  log: trials/{entry['trial']}/attempts/{entry['attempt']}/log.txt")
    return Text("\n".join(lines), style="dim")


def _standing(folder: SweepFolder, trials: Sequence[TrialFolder], owned: bool) -> dict[str, Any]:
    manifest = folder.manifest
    states = Counter(_trial_state(trial, owned) for trial in trials)
    ranked = order(trials, objectives_of(manifest))
    return {
        "sweep": folder.name,
        "state": _state(folder, manifest, owned, has_pending=states[TrialState.PENDING] > 0),
        "counts": {state.value: states[state] for state in _COUNTED},
        "best": _best(ranked[0]) if ranked else None,
    }


def _state(folder: SweepFolder, manifest: Mapping[str, Any], owned: bool, *, has_pending: bool) -> str:
    if owned:
        return "stopping" if folder.paths.stop.exists() else "running"
    finished = manifest.get("finished")
    if finished is None or (finished == "complete" and has_pending):
        return "interrupted"
    return str(finished)


def _entry(trial: TrialFolder, metric: str, owned: bool) -> dict[str, Any]:
    train = trial.record.settings.get("train", {})
    return {
        "trial": trial.name,
        "number": trial.record.number,
        "stage": trial.record.stage.value,
        "state": _trial_state(trial, owned).value,
        "epoch": trial.epoch,
        "epochs": train.get("epochs"),
        "objective": _objective(trial, metric),
        "attempt": trial.attempts[-1] if trial.attempts else 0,
        **_failure(trial),
    }


def _trial_state(trial: TrialFolder, owned: bool) -> TrialState:
    """A trial whose newest attempt has ended, or that nobody listens to, waits for its next attempt."""
    if trial.state is not TrialState.RUNNING:
        return trial.state
    waits = trial.attempts[-1] in trial.ends
    return TrialState.RUNNING if owned and not waits else TrialState.PENDING


def _failure(trial: TrialFolder) -> dict[str, Any]:
    """Why and where the trial failed, or, while it is unfinished, its newest ended attempt did."""
    if (result := trial.result) is not None:
        said: Result | AttemptEnd = result
        cause, detail = result.cause, result.detail
    elif trial.ends and (end := trial.ends[max(trial.ends)]).ended.is_failure:
        said, cause, detail = end, end.ended.value, end.cause
    else:
        return {"cause": None, "detail": None, "node": None, "stack": [], "lines": []}
    return {"cause": cause, "detail": detail, "node": said.node, "stack": said.stack, "lines": said.lines}


def _objective(trial: TrialFolder, metric: str) -> float | None:
    if trial.result is not None and trial.result.objective is not None:
        return trial.result.objective
    value = trial.history[-1].get(metric) if trial.history else None
    return None if value is None else float(value)


def _best(trial: TrialFolder) -> dict[str, Any]:
    return {
        "trial": trial.name,
        "number": trial.record.number,
        "objective": trial.result.objective if trial.result else None,
        "params": trial.record.params,
    }

"""What a sweep will cost, before it is run: trials, rungs, epochs, disk, and hours on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from orchestrator.errors import UsageError
from orchestrator.report.wording import duration, size

if TYPE_CHECKING:
    from rich.console import Group

    from orchestrator.config import SweepConfig
    from orchestrator.config.chosen import SuccessiveHalving

__all__ = ["measure", "plan_document", "render_plan"]

_SECONDS_PER_BATCH_SIZE = 10.0
_LONGEST_MEASUREMENT = 900.0


def measure(config: SweepConfig) -> dict[str, Any]:
    """Time a few training iterations of the experiment in a process of their own on this machine.

    See cpsc_core.measure.Measurement for the keys. Raises UsageError if it cannot be trained here at all.
    """
    request = {
        "train": asdict(config.train),
        "teacher": config.teacher.arch,
        "student": config.student.arch,
        "data": asdict(config.data.settings()),
        "threads": min(config.resources.cpus_per_worker, _processors()),
        "seconds": _SECONDS_PER_BATCH_SIZE,
    }
    answer = subprocess.run(
        [sys.executable, "-m", "cpsc_core.measure"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=_LONGEST_MEASUREMENT,
        check=False,
    )
    if answer.returncode:
        said = (answer.stderr.strip().splitlines() or ["nothing"])[-1]
        raise UsageError(f"this experiment does not train on this machine: {said.removeprefix('error: ')}")
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def plan_document(config: SweepConfig, measured: Mapping[str, Any]) -> dict[str, Any]:
    """What the sweep will cost, as plain JSON values, from the file and a measurement of this machine.

    `rungs` lists, for every epoch at which trials may be ended and for the last one, how many trials are
    expected to get there.
    """
    trials = _trials(config)
    rungs = _rungs(config, trials)
    confirm_trials = min(config.confirm.top, trials) * config.confirm.seeds
    epochs = {"search": _search_epochs(rungs), "confirm": float(confirm_trials * config.train.epochs)}
    total = sum(epochs.values())
    hours_per_epoch = config.train.iterations_per_epoch * measured["seconds_per_iteration"] / 3600
    slots = max(_processors() // _cpus_per_trial(config), 1)
    at_once = {"search": min(slots, trials), "confirm": min(slots, confirm_trials) or 1}
    wall = sum(epochs[stage] / count for stage, count in at_once.items()) * hours_per_epoch
    return {
        "sweep": config.name,
        "trials": trials,
        "rungs": rungs,
        "confirm_trials": confirm_trials,
        "epochs": {**epochs, "total": total},
        "slots": slots,
        "hours": {"work": total * hours_per_epoch, "wall": wall},
        "disk_bytes": _disk(
            config,
            epochs,
            trials=trials + confirm_trials,
            complete=rungs[-1]["trials"] + confirm_trials,
            slots=slots,
            measured=measured,
        ),
        "measured": dict(measured),
        "notes": _notes(config, measured, total * hours_per_epoch),
    }


def render_plan(document: Mapping[str, Any]) -> Group:
    """A plan document as text."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in _lines(document):
        table.add_row(name, Text(value))
    return Group(Text(f"plan of {document['sweep']}", style="bold"), table, *map(Text, document["notes"]))


def _lines(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    epochs, wall, measured = document["epochs"], document["hours"]["wall"] * 3600, document["measured"]
    parts = {name: size(value) for name, value in document["disk_bytes"].items()}
    networks = {name: f"{measured[f'{name}_parameters']:,}" for name in ("teacher", "student", "generator")}
    yield "search", f"{document['trials']} trials, {epochs['search']:.0f} epochs"
    for rung in document["rungs"]:
        yield "", f"{round(rung['trials'], 1):g} trials reach epoch {rung['epochs']}"
    yield "confirm", f"{document['confirm_trials']} trials, {epochs['confirm']:.0f} epochs"
    yield "time", f"{duration(wall)} with up to {document['slots']} trial(s) at once on this machine"
    yield "disk", f"{parts.pop('total')}: {_list(parts)}"
    yield "networks", _list(networks)


def _list(parts: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in parts.items())


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _cpus_per_trial(config: SweepConfig) -> int:
    return config.resources.workers * config.resources.cpus_per_worker


def _trials(config: SweepConfig) -> int:
    """Trials of the search: the budget's, or the cells of a smaller grid."""
    if config.sampler.name != "grid":
        return config.budget.trials
    from orchestrator.study.by_number import cells

    return min(config.budget.trials, cells(config))


def _rungs(config: SweepConfig, trials: float) -> list[dict[str, Any]]:
    """Expected trials by epoch; only pruners with rungs say beforehand what share passes one."""
    epochs = config.train.epochs
    brackets = _brackets(config)
    whole = sum(share for _, share in brackets)
    ends = sorted({end for halving, _ in brackets for end in (*halving.rungs(epochs), epochs)})
    expected = [sum(share * _share_at(end, halving) for halving, share in brackets) / whole for end in ends]
    return [{"epochs": end, "trials": trials * share} for end, share in zip(ends, expected, strict=True)] or [
        {"epochs": epochs, "trials": trials}
    ]


def _brackets(config: SweepConfig) -> list[tuple[SuccessiveHalving, int]]:
    """Who is ended at which rungs, with the share of the trials; empty for a pruner without rungs."""
    match config.pruner.name:
        case "successive_halving":
            return [(config.pruner, 1)]
        case "hyperband":
            return config.pruner.brackets(config.train.epochs)
        case _:
            return []


def _share_at(epoch: int, halving: SuccessiveHalving) -> float:
    """Share of a bracket's trials that get to an epoch."""
    return float(halving.reduction_factor) ** -len(halving.rungs(epoch))


def _search_epochs(rungs: Sequence[Mapping[str, Any]]) -> float:
    """Epochs of all trials: whoever does not reach a rung has ended at the one before."""
    reached = [rung["trials"] for rung in rungs] + [0.0]
    return float(sum((reached[i] - reached[i + 1]) * rung["epochs"] for i, rung in enumerate(rungs)))


def _disk(
    config: SweepConfig,
    epochs: Mapping[str, float],
    *,
    trials: int,
    complete: float,
    slots: int,
    measured: Mapping[str, Any],
) -> dict[str, int]:
    """Bytes that stay: a checkpoint per trial, complete ones' weights, grids twice if MLflow is local."""
    grids = sum(epochs.values()) / config.train.samples_every + 2 * trials
    copies = 2 if config.tracking.uri is None else 1
    parts = {
        "checkpoints": (trials + slots) * measured["checkpoint_bytes"],
        "weights": round(complete * measured["weights_bytes"]),
        "samples": round(grids * copies * measured["samples_bytes"]),
    }
    return {**parts, "total": sum(parts.values())}


def _notes(config: SweepConfig, measured: Mapping[str, Any], hours: float) -> list[str]:
    wanted = config.train.batch_size
    scaled = f", scaled up to {wanted}" if measured["measured_batch_size"] < wanted else ""
    notes = [
        f"measured on this machine: {measured['seconds_per_iteration']:.3f} s per iteration with "
        f"{measured['threads']} thread(s) and batches of {measured['measured_batch_size']}{scaled}; GPUs, "
        "communication, start-up, evaluation and a teacher that is trained first are not in it, and searched "
        "settings are taken as the file's"
    ]
    if _cpus_per_trial(config) > _processors():
        notes.append(f"a trial wants {_cpus_per_trial(config)} CPUs and this machine has {_processors()}")
    if (gpus := config.resources.gpus_per_worker) not in ("auto", 0):
        notes.append(
            f"a trial wants {config.resources.workers * gpus:g} GPU(s); the time is that of its CPUs"
        )
    if (pruner := config.pruner.name) in ("median", "patient"):
        notes.append(
            f"what the {pruner} pruner will save cannot be told beforehand; nothing is taken off for it"
        )
    if config.budget.hours is not None and hours > config.budget.hours:
        notes.append(f"the budget of {config.budget.hours:g} trial hours will end the search earlier")
    return notes

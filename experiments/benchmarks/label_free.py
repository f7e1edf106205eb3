"""Can a search do without labels? How each label-free figure ranks trials, against their val_accuracy.

    python experiments/benchmarks/label_free.py ~/cpsc-runs/digits
    python experiments/benchmarks/label_free.py ~/cpsc-runs/digits --json

Looked at are the complete trials of the search, after their last epoch. `rho` is Spearman's rank correlation
with val_accuracy, turned so that 1 means: it ranks the trials as labels would. `picks` is the val_accuracy of
the trial that would win by this figure alone, beside the best there is.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from cpsc_core.attempt import read_lines
from orchestrator.config.objectives import LOSSES, SCORES
from orchestrator.store.folder import SweepFolder, TrialFolder, find_sweep
from orchestrator.store.records import Stage, TrialState

TRUTH = "val_accuracy"
FEWEST = 4
LABEL_FREE = (*(score for score in SCORES if not score.startswith("val_")), *LOSSES)
"""Figures that need no real image."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How one figure ranks the trials."""

    metric: str
    """Key of a metrics line."""
    rho: float | None
    """Spearman's rank correlation with val_accuracy, of a loss its negative; null for a constant."""
    p_value: float | None
    """How likely so strong a correlation is by chance; null with rho."""
    picks: float
    """val_accuracy of the trial that is best by this figure."""


def last_lines(folder: SweepFolder) -> list[dict[str, Any]]:
    """The last metrics line of every complete trial of the search."""
    return [
        read_lines(trial.paths.attempt(trial.result.attempt).metrics)[-1]
        for trial in folder.trials()
        if trial.result is not None and _counts(trial)
    ]


def rank(lines: Sequence[dict[str, Any]]) -> list[Ranking]:
    """Every label-free figure that all lines have, the best first."""
    found = [
        _ranking(metric, lines)
        for metric in LABEL_FREE
        if all(math.isfinite(line.get(metric, math.nan)) for line in lines)
    ]
    return sorted(found, key=lambda ranking: math.inf if ranking.rho is None else -ranking.rho)


def _counts(trial: TrialFolder) -> bool:
    return trial.record.stage is Stage.SEARCH and trial.state is TrialState.COMPLETE


def _ranking(metric: str, lines: Sequence[dict[str, Any]]) -> Ranking:
    sign = 1.0 if metric in SCORES else -1.0
    figures, truth = ([line[key] for line in lines] for key in (metric, TRUTH))
    picked = max(range(len(lines)), key=lambda index: sign * figures[index])
    if len(set(figures)) == 1 or len(set(truth)) == 1:
        return Ranking(metric=metric, rho=None, p_value=None, picks=truth[picked])
    found = spearmanr(figures, truth)
    return Ranking(
        metric=metric, rho=sign * float(found.statistic), p_value=float(found.pvalue), picks=truth[picked]
    )


def report(folder: SweepFolder) -> dict[str, Any]:
    """The document that --json prints; ValueError if there are too few trials to rank."""
    lines = last_lines(folder)
    if len(lines) < FEWEST:
        raise ValueError(
            f"{folder.name} has {len(lines)} complete trials, but {FEWEST} are needed to rank them"
        )
    return {
        "sweep": folder.name,
        "trials": len(lines),
        "best": max(line[TRUTH] for line in lines),
        "rankings": [asdict(ranking) for ranking in rank(lines)],
    }


def show(document: dict[str, Any]) -> None:
    """The document as a table."""
    table = Table("figure", "rho", "p", "picks", box=None)
    for each in document["rankings"]:
        numbers = ("-" if each[key] is None else f"{each[key]:.3f}" for key in ("rho", "p_value", "picks"))
        table.add_row(each["metric"], *numbers)
    console = Console()
    console.print(f"{document['sweep']}: {document['trials']} trials, best {TRUTH} {document['best']:.4f}")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table or the document of one sweep; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", help="folder of a sweep, or its name below --storage")
    parser.add_argument("--storage", type=Path, default=Path("~/cpsc-runs"), help="default: ~/cpsc-runs")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    try:
        document = report(find_sweep(options.sweep, options.storage.expanduser()))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(document, indent=2))
    else:
        show(document)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The best parameters of a sweep as an experiment file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.config.document import Place
from orchestrator.config.yaml_file import parse_yaml, write_yaml
from orchestrator.errors import UnreachableError
from orchestrator.report.best import find_best
from orchestrator.store.folder import SweepFolder

__all__ = ["best_experiment"]

_KEPT = (
    "data",
    "teacher",
    "student",
    "train",
    "objective",
    "constraints",
    "confirm",
    "resources",
    "retry",
    "hang",
    "storage",
)
_LONGEST_NAME = 64
_ENDING = "-best"


def best_experiment(folder: SweepFolder) -> str | None:
    """The sweep's experiment narrowed to its best parameters, as YAML that `sweep` runs as one trial.

    None while no trial is complete.
    """
    best = find_best(folder)
    if best is None:
        return None
    root, _ = parse_yaml(folder.experiment, Place(str(folder.paths.experiment), 1, Path()))
    given = root.plain()
    if not isinstance(given, dict):
        raise UnreachableError(f"{folder.paths.experiment} is damaged; put it back from a copy")
    document: dict[str, Any] = {"name": folder.name[: _LONGEST_NAME - len(_ENDING)] + _ENDING}
    document |= {block: given[block] for block in _KEPT if block in given}
    document["search"] = {path: {"choices": [value]} for path, value in best.record.params.items()}
    document["budget"] = {"trials": 1}
    if "tracking" in given:
        document["tracking"] = given["tracking"]
    return write_yaml(document)

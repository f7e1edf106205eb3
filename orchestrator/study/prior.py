"""What earlier sweeps know: their trials in the space and by the objectives of a new sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from cpsc_core.errors import SettingsError
from cpsc_core.settings import TrialSettings
from orchestrator.config import SweepConfig, holds, in_order, is_active, setting_at
from orchestrator.errors import UsageError
from orchestrator.outcome import judge
from orchestrator.store.address import Storage
from orchestrator.store.folder import TrialFolder, find_sweep
from orchestrator.store.records import EndClass, Result, Stage, TrialState
from orchestrator.store.working_copy import place_of

__all__ = ["PriorTrial", "describe_prior", "gather_prior", "read_prior"]

_KNOWN = "known"
_UNREADABLE = "made by another version"
_UNFINISHED = "pruned, failed or unfinished"
_OUTSIDE = "outside of the search space"
_UNMEASURED = "without a value of an objective"


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorTrial:
    """One trial of an earlier sweep."""

    params: dict[str, Any]
    """Values by dotted path, of every parameter that exists in the new sweep's space."""
    objectives: dict[str, float] | None
    """Value by metric of every objective; None: it diverged."""
    excess: dict[str, float] = field(default_factory=dict)
    """How far it lies beyond each constraint, by the constraint's text."""

    def to_result(self) -> Result:
        """How it ended, as a result of the new sweep would say it."""
        return Result(
            state=TrialState.FAILED if self.objectives is None else TrialState.COMPLETE,
            objective=next(iter((self.objectives or {}).values()), None),
            objectives=self.objectives or {},
            excess=self.excess,
            params=self.params,
            metrics={},
            timing={},
            cause=EndClass.DIVERGED if self.objectives is None else None,
            detail=None,
            attempt=0,
            generation=0,
        )

    @classmethod
    def of(cls, trial: TrialFolder, config: SweepConfig) -> Self | str:
        """A trial of another sweep as this one would see it, or why it cannot."""
        diverged = trial.result is not None and trial.result.cause == EndClass.DIVERGED
        if trial.state is not TrialState.COMPLETE and not diverged:
            return _UNFINISHED
        try:
            params = _params(config, TrialSettings.from_dict(trial.record.settings))
        except SettingsError:
            return _UNREADABLE
        if not all(holds(config.search[path], value) for path, value in params.items()):
            return _OUTSIDE
        if diverged:
            return cls(params=params, objectives=None)
        verdict = judge(trial.history, trial.costs, config.objectives, config.bounds)
        if verdict.unmeasured is not None:
            return _UNMEASURED
        return cls(params=params, objectives=verdict.objectives, excess=verdict.excess)


def gather_prior(config: SweepConfig, storage: Storage) -> dict[str, Any]:
    """The trials of the sweeps that `start_from` names, to be frozen in the manifest as plain JSON values.

    A parameter that an earlier sweep did not search has the value it was fixed at there. Values of objectives
    are taken as they are, whatever teacher, data and number of epochs they were reached with. Raises
    UsageError for a sweep that does not exist or is this one.
    """
    counts: dict[str, dict[str, int]] = {}
    known: list[dict[str, Any]] = []
    for name in config.start_from:
        folder = find_sweep(name, storage)
        if folder.paths.name == config.name and place_of(folder.paths.storage.root) == storage:
            raise UsageError(f"start_from: sweep {config.name} cannot start from itself; leave it out")
        seen = [PriorTrial.of(trial, config) for trial in _searched(folder.trials())]
        counts[name] = dict(Counter(each if isinstance(each, str) else _KNOWN for each in seen))
        known += [asdict(each) for each in seen if isinstance(each, PriorTrial)]
    return {"sweeps": counts, "trials": known}


def read_prior(manifest: Mapping[str, Any]) -> list[PriorTrial]:
    """The trials that a sweep started from, as they were then."""
    return [PriorTrial(**each) for each in (manifest.get("start_from") or {}).get("trials", [])]


def describe_prior(gathered: Mapping[str, Any]) -> Iterator[str]:
    """A line for each sweep: how many of its trials are known, and why the others are not."""
    for name, counts in gathered["sweeps"].items():
        others = [f"{count} {why}" for why, count in sorted(counts.items()) if why != _KNOWN]
        left_out = f"; left out: {', '.join(others)}" if others else ""
        yield f"{counts.get(_KNOWN, 0)} trial(s) of sweep {name} are known to the sampler{left_out}"


def _searched(trials: list[TrialFolder]) -> list[TrialFolder]:
    return [trial for trial in trials if trial.record.stage is Stage.SEARCH]


def _params(config: SweepConfig, settings: TrialSettings) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for path in in_order(config.search):
        if is_active(config.search, path, params):
            params[path] = setting_at(settings, path)
    return params

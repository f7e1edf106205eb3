"""A sweep in the controller's eyes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.store.records import EndClass, Stage, TrialState

__all__ = ["Rules", "Standing", "State"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the experiment file fixes about a sweep's course."""

    trials: int
    """Suggestions to ask for; a suggestion that names an existing trial counts."""
    retry: Mapping[EndClass, int]
    """Further attempts after a failure, by its class; a class that is missing has none."""
    confirm: bool
    """Whether the best configurations are run again with fresh seeds."""
    seconds: float | None = None
    """Trial seconds after which nothing new is asked for; None: no limit."""
    gpu_seconds: float | None = None
    """GPU seconds after which nothing new is asked for; None: no limit."""
    plateau_trials: int | None = None
    """Finished trials without an improvement after which nothing new is asked for; None: no limit."""
    plateau_delta: float = 0.0
    """Least change of the best objective that is an improvement."""
    maximise: bool = True
    """Whether a larger objective is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One trial in the controller's eyes."""

    name: str
    """The trial's hash."""
    stage: Stage
    """Which stage asked for it."""
    number: int | None = None
    """The sampler's number; None for a confirm trial."""
    state: TrialState = TrialState.PENDING
    """Where it stands."""
    attempts: int = 0
    """Attempts that were started."""
    failures: Mapping[EndClass, int] = field(default_factory=dict)
    """Failed attempts by class, since the trial was last opened."""
    fingerprints: frozenset[str] = frozenset()
    """What was the same every time about those of them that would only happen again."""
    recompute: bool = False
    """Whether its next attempt saves memory by computing activations twice."""
    not_before: float = 0.0
    """Time before which it is not tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A sweep in the controller's eyes."""

    rules: Rules
    """What the experiment file fixes."""
    trials: Mapping[str, Standing] = field(default_factory=dict)
    """Every trial by hash."""
    waiting: tuple[str, ...] = ()
    """Unfinished trials that are not live, first come first served."""
    live: frozenset[str] = frozenset()
    """Trials that an attempt is running for."""
    suggestions: int = 0
    """Suggestions asked for so far, duplicates included; also the next number."""
    duplicates_in_a_row: int = 0
    """Suggestions since the last one that named a new trial."""
    seconds: float = 0.0
    """Trial seconds spent, over all attempts and restarts."""
    gpu_seconds: float = 0.0
    """GPU seconds spent, over all attempts and restarts."""
    best: float | None = None
    """Best objective of the search."""
    improved: float | None = None
    """The last objective that was an improvement by more than `plateau_delta`."""
    since_best: int = 0
    """Search trials finished since then."""
    closed: str | None = None
    """Why nothing new is asked for; None while the search is open."""
    stopping: bool = False
    """Whether nothing at all is to be started any more."""
    confirmed: bool = False
    """Whether the confirm trials were planned."""

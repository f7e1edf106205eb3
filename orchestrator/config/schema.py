"""The experiment file as types: one model per block, a sentence under every field.

What needs more than one field to judge is in `orchestrator.config.checks`.
"""

from __future__ import annotations

import re
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Gt, Le
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from cpsc_core.settings import TrainSettings
from orchestrator.config.block import Block, Count
from orchestrator.config.chosen import NoPruner, Pruner, Sampler, TpeSampler
from orchestrator.config.data import Data, Teacher
from orchestrator.config.objectives import Bound, Constraints, Objective, Objectives, bound_of
from orchestrator.config.place import Place
from orchestrator.config.search import Params, Search
from orchestrator.store.records import STUDENT_ARCH

__all__ = ["NAME_RULE", "PATHS", "SweepConfig"]

PATHS = frozenset({("data", "root"), ("storage",), ("teacher", "checkpoint")})
"""Fields that hold a path: relative to the file that gives them, or to the working directory with --set."""

NAME_RULE = (
    "1 to 64 of the characters a-z, 0-9, '.', '_' and '-', with a letter or a digit first (it names a folder)"
)

_DATABASE = re.compile(r"(sqlite|mysql|mariadb|postgresql|oracle|mssql)(\+[a-z0-9]+)?://.")

Limit = Annotated[int, Ge(0), Le(100)]
Positive = Annotated[float, Gt(0.0)]


def _check_hook(raw: Any) -> Any:
    if isinstance(raw, str) and not raw.startswith(("https://", "http://")):
        raise PydanticCustomError("hook", "must begin with https:// or http://")
    return raw


def _check_gpus(raw: Any) -> Any:
    if raw == "auto" or (isinstance(raw, int | float) and not isinstance(raw, bool) and 0 <= raw <= 1024):
        return raw
    raise PydanticCustomError("gpus", "must be auto or a number from 0 to 1024")


class Student(Block):
    """The network that learns."""

    arch: str
    """Name in the table of networks."""


def _check_database(raw: Any) -> Any:
    if isinstance(raw, str) and not _DATABASE.match(raw):
        raise PydanticCustomError(
            "database", "must be the address of a database, such as sqlite:////runs/optuna.db"
        )
    return raw


class Plateau(Block):
    """When a search that no longer improves is over."""

    trials: Count
    """Trials in a row without an improvement."""
    min_delta: Annotated[float, Ge(0.0)] = 0.0
    """An improvement is more than this."""


class Budget(Block):
    """When the search is over: at the first of these that comes true."""

    trials: Count = 64
    """Suggestions of the sampler."""
    hours: Positive | None = None
    """Hours of work of all trials together, over restarts; null: no limit."""
    gpu_hours: Positive | None = None
    """The same hours, each times the GPUs that the trial held; null: no limit."""
    plateau: Plateau | None = None
    """End of a search that no longer improves; null: it goes on."""


class Confirm(Block):
    """The best configurations once more with fresh seeds, and only here the test split."""

    top: Limit = 3
    """How many configurations; 0: none."""
    seeds: Annotated[int, Ge(1), Le(100)] = 5
    """How often each of them is run."""


class Resources(Block):
    """What each trial is given."""

    workers: Count = 1
    """Processes that train one trial together."""
    gpus_per_worker: Annotated[Literal["auto"] | float, BeforeValidator(_check_gpus)] = "auto"
    """GPUs of each; auto: 1 where the cluster has any, else 0; 0.5: two processes share one."""
    cpus_per_worker: Annotated[int, Ge(1), Le(1024)] = 1
    """CPU cores of each, which are also its threads."""
    placement: Literal["pack", "spread"] = "pack"
    """pack: the processes of a trial share as few machines as can be; spread: they take as many."""
    interface: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:@-]{1,15}$")] | None = None
    """Network interface by which they exchange gradients, such as ib0; null: that of Ray's address, and for
    NCCL its own choice."""
    start_seconds: Positive = 120.0
    """Seconds they may take to find each other, and then to load torch, data and networks."""


class Retry(Block):
    """How often a trial is tried again after each kind of failure; preemption never counts."""

    infrastructure: Limit = 5
    """A node or process was lost, or storage failed."""
    out_of_memory: Limit = 1
    """Memory ran out; the next attempt computes activations twice to save some, and is the last one."""
    hang: Limit = 2
    """No sign of life for too long."""
    diverged: Limit = 0
    """A loss or a weight stopped being finite."""
    error: Limit = 0
    """Anything else; a second failure at the same place is the last one, whatever is left of this."""

    def limits(self) -> dict[str, int]:
        """Attempts after the first, by class of failure."""
        return {name: int(limit) for name, limit in self}


class Hang(Block):
    """When a trial that says nothing is given up."""

    seconds: Positive = 120.0
    """Seconds without a finished training step."""


class Tracking(Block):
    """Where MLflow shows the sweep."""

    uri: str | None = Field(default=None, repr=False)
    """MLflow tracking URI; null: a database in the storage folder, opened with `cpsc-orchestrate ui`."""
    register_best: bool = True
    """Whether the best student of a finished sweep is put into the model registry."""


class Notify(Block):
    """Who is told how the sweep ended."""

    url: Annotated[str, BeforeValidator(_check_hook)] | None = Field(default=None, repr=False, exclude=True)
    """Address that a JSON document is posted to, best written ${env:NAME}; null: nobody is told."""


class SweepConfig(Block):
    """A validated experiment file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    """Name of the sweep and of its folder."""
    data: Data
    """Where the held-out images come from, and the training images if a teacher is trained."""
    teacher: Teacher
    """The trained network that is distilled."""
    student: Student
    """The network that learns."""
    train: TrainSettings
    """The fixed part of every trial."""
    search: Search
    """The tuned part: what may be tried, by dotted path into `train`."""
    sampler: Sampler = TpeSampler()
    """Who suggests what to try next."""
    pruner: Pruner = NoPruner()
    """Who ends a trial that is not worth finishing."""
    objective: Objectives = Objective()
    """What the best trial is the best in; a list: several objectives, of which none is the only best."""
    prune_on: str | None = None
    """Of several objectives, the metric of the one by which trials are pruned; null where none are."""
    constraints: Constraints = ()
    """What the best trial must keep, such as `peak_memory_gb <= 10`; the sampler learns to keep it."""
    budget: Budget = Budget()
    """When the search is over."""
    confirm: Confirm = Confirm()
    """The best configurations once more with fresh seeds, and only here the test split."""
    resources: Resources = Resources()
    """What each trial is given."""
    retry: Retry = Retry()
    """How often a trial is tried again after each kind of failure."""
    hang: Hang = Hang()
    """When a trial that says nothing is given up."""
    optuna_storage: Annotated[str, BeforeValidator(_check_database)] | None = Field(
        default=None, repr=False, exclude=True
    )
    """Database for a copy of the search that optuna-dashboard shows, such as sqlite:////runs/optuna.db."""
    start_from: tuple[str, ...] = ()
    """Earlier sweeps, by name below `storage` or by path, whose trials the sampler knows from the start."""
    enqueue: tuple[Params, ...] = ()
    """Parameters that are tried first, in order; what an entry leaves out is chosen by the sampler."""
    storage: Place = Field(default_factory=lambda: Path("~/cpsc-runs").expanduser())
    """Folder that holds sweeps, teachers and the default MLflow store; or s3://BUCKET/PREFIX or
    gs://BUCKET/PREFIX, which needs tracking.uri."""
    tracking: Tracking = Tracking()
    """Where MLflow shows the sweep."""
    notify: Notify = Notify()
    """Who is told how the sweep ended."""

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives in order; the first is what trials are ranked by."""
        return (self.objective,) if isinstance(self.objective, Objective) else self.objective

    @property
    def pruning_objective(self) -> Objective:
        """The objective by which trials are pruned, if any are."""
        named = (each for each in self.objectives if each.metric == self.prune_on)
        return next(named, self.objectives[0])

    @property
    def bounds(self) -> dict[str, Bound]:
        """The constraints by their text."""
        return {text: bound_of(text) for text in self.constraints}

    def with_trials(self, trials: int) -> Self:
        """The same search with another number of trials."""
        return self.model_copy(update={"budget": self.budget.model_copy(update={"trials": trials})})

    def fixed_setting(self, path: str) -> Any:
        """What a trial has at the dotted path of a parameter if nobody searches it."""
        return self.student.arch if path == STUDENT_ARCH else attrgetter(path)(self.train)

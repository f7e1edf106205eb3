"""The experiment file as types: one model per block, a sentence under every field.

What needs more than one field to judge is in `orchestrator.config.checks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from cpsc_core.settings import TeacherTraining, TrainSettings
from orchestrator.config.block import Block
from orchestrator.config.search import Search

__all__ = ["CHOSEN_BY_NAME", "LOSSES", "NAME_RULE", "PATHS", "SCORES", "SweepConfig"]

SCORES = ("label_fidelity", "teacher_agreement", "val_accuracy")
"""Metrics from 0 to 1 of which more is better."""

LOSSES = (
    "generator_batch_norm",
    "generator_contrastive",
    "generator_ikd",
    "generator_kl",
    "generator_loss",
    "generator_pseudo_label",
    "student_ikd",
    "student_kl",
    "student_loss",
    "student_pseudo_label",
)
"""Metrics that are means of a loss term over an epoch."""

PATHS = frozenset({("data", "root"), ("storage",), ("teacher", "checkpoint")})
"""Fields that hold a path: relative to the file that gives them, or to the working directory with --set."""

NAME_RULE = (
    "1 to 64 of the characters a-z, 0-9, '.', '_' and '-', with a letter or a digit first (it names a folder)"
)

Count = Annotated[int, Ge(1), Le(100_000)]
Limit = Annotated[int, Ge(0), Le(100)]
Positive = Annotated[float, Gt(0.0)]


def _check_local(raw: Any) -> Any:
    if isinstance(raw, str) and (not raw or "://" in raw):
        raise PydanticCustomError(
            "path", "must be a path on this machine (remote storage is not supported yet)"
        )
    return raw


def _expand_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise PydanticCustomError("home", "names the home folder of a user who does not exist") from error


def _check_gpus(raw: Any) -> Any:
    if raw == "auto" or (isinstance(raw, int | float) and not isinstance(raw, bool) and 0 <= raw <= 1024):
        return raw
    raise PydanticCustomError("gpus", "must be auto or a number from 0 to 1024")


LocalPath = Annotated[Path, BeforeValidator(_check_local), AfterValidator(_expand_home)]


class Data(Block):
    """Where the held-out images come from, and the training images if a teacher is trained."""

    name: str
    """Name in the table of data sets."""
    root: LocalPath | None = None
    """Folder with the files; null for data that ships with a package."""


class Teacher(Block):
    """The trained network that is distilled."""

    arch: str
    """Name in the table of networks."""
    checkpoint: LocalPath | None = None
    """File with its weights; null: it is trained once with the settings under `train`, and kept."""
    train: TeacherTraining = Field(default_factory=TeacherTraining)
    """How it is trained where there is no checkpoint."""


class Student(Block):
    """The network that learns."""

    arch: str
    """Name in the table of networks."""


class TpeOptions(Block):
    """What can be told to the tree-structured Parzen estimator, under Optuna's own names."""

    n_startup_trials: Count = 10
    """Trials drawn at random before the first that is suggested."""
    n_ei_candidates: Count = 24
    """Candidates a suggestion is chosen from."""


class NoOptions(Block):
    """This sampler has no options."""


class _Sampler(Block):
    seed: Annotated[int, Ge(0)] = 0
    """A suggestion is a function of it, of its own number and of the trials before it."""


class TpeSampler(_Sampler):
    """Tries what resembles the best trials so far."""

    name: Literal["tpe"] = "tpe"
    """tpe."""
    options: TpeOptions = TpeOptions()
    """What can be told to it."""


class RandomSampler(_Sampler):
    """Draws every trial on its own."""

    name: Literal["random"] = "random"
    """random."""
    options: NoOptions = NoOptions()
    """Nothing can be told to it."""


class GridSampler(_Sampler):
    """Tries every combination once, in order; fractions need a step or choices."""

    name: Literal["grid"] = "grid"
    """grid."""
    options: NoOptions = NoOptions()
    """Nothing can be told to it."""


class QmcSampler(_Sampler):
    """Covers the space evenly with a scrambled Sobol sequence."""

    name: Literal["qmc"] = "qmc"
    """qmc."""
    options: NoOptions = NoOptions()
    """Nothing can be told to it."""


class SuccessiveHalving(Block):
    """Lets only the best part of the trials go on past each rung."""

    name: Literal["successive_halving"] = "successive_halving"
    """successive_halving."""
    min_epochs: Count = 1
    """Epoch of the first rung."""
    reduction_factor: Annotated[int, Ge(2), Le(100)] = 3
    """One trial in so many passes a rung, and each rung is so many times later than the one before."""

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Epochs, ascending, after which a trial of so many epochs may be ended; its last is none of them."""
        rungs = []
        rung = self.min_epochs
        while rung < epochs:
            rungs.append(rung)
            rung *= self.reduction_factor
        return tuple(rungs)


class MedianPruner(Block):
    """Ends a trial that is worse than the median of the earlier ones at the same epoch."""

    name: Literal["median"] = "median"
    """median."""
    min_epochs: Count = 1
    """Epochs every trial is given before it may be ended."""
    startup_trials: Count = 5
    """Trials that must be complete before one is ended."""


class NoPruner(Block):
    """Lets every trial run to its end."""

    name: Literal["none"] = "none"
    """none."""


CHOSEN_BY_NAME: Mapping[str, Mapping[str, type[Block]]] = {
    "pruner": {"median": MedianPruner, "none": NoPruner, "successive_halving": SuccessiveHalving},
    "sampler": {"grid": GridSampler, "qmc": QmcSampler, "random": RandomSampler, "tpe": TpeSampler},
}
"""Blocks whose `name` decides which other keys they have."""


def _tag(raw: Any, default: str) -> str:
    name = raw.get("name", default) if isinstance(raw, dict) else getattr(raw, "name", default)
    return f"<{name}>"


Sampler = Annotated[
    Annotated[GridSampler, Tag("<grid>")]
    | Annotated[QmcSampler, Tag("<qmc>")]
    | Annotated[RandomSampler, Tag("<random>")]
    | Annotated[TpeSampler, Tag("<tpe>")],
    Discriminator(lambda raw: _tag(raw, "tpe")),
]

Pruner = Annotated[
    Annotated[MedianPruner, Tag("<median>")]
    | Annotated[NoPruner, Tag("<none>")]
    | Annotated[SuccessiveHalving, Tag("<successive_halving>")],
    Discriminator(lambda raw: _tag(raw, "none")),
]


class Objective(Block):
    """What the best trial is the best in."""

    metric: str = "val_accuracy"
    """Key of a metrics line."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Whether more of it is better or less."""
    of: Literal["best", "last", "mean5"] = "last"
    """Its value after the last epoch, its best over all epochs, or its mean over the last five."""


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


class Retry(Block):
    """How often a trial is tried again after each kind of failure; preemption never counts."""

    infrastructure: Limit = 5
    """A node or process was lost, or storage failed."""
    out_of_memory: Limit = 1
    """Memory ran out."""
    hang: Limit = 2
    """No sign of life for too long."""
    diverged: Limit = 0
    """A loss or a weight stopped being finite."""
    error: Limit = 0
    """Anything else."""

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
    objective: Objective = Objective()
    """What the best trial is the best in."""
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
    storage: LocalPath = Field(default_factory=lambda: Path("~/cpsc-runs").expanduser())
    """Folder that holds sweeps, teachers and the default MLflow store."""
    tracking: Tracking = Tracking()
    """Where MLflow shows the sweep."""

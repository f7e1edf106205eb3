"""The settings of one trial: frozen dataclasses, a sentence under every field, no torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self, get_type_hints

from annotated_types import Ge, Lt

from cpsc_core.errors import SettingsError
from cpsc_core.limits import Count, NonNegative, Positive, check_limits, describe_kind, fits

__all__ = [
    "DataSettings",
    "GeneratorSettings",
    "LossSettings",
    "StudentSettings",
    "TeacherSettings",
    "TeacherTraining",
    "TrainSettings",
    "TrialSettings",
    "field_paths",
    "replace_path",
]

_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSettings:
    """How hard each term pulls; the Greek letters are those of methods of CPSC-DFKD (Shao et al. 2023)."""

    ikd: NonNegative = 5.0
    """alpha: pull of the distance between teacher and student logits, for both players."""
    ikd_form: str = "mse"
    """Name in the table of losses: the form of that distance. log_mse is the released code's choice for
    CIFAR-10, mse for everything else."""
    batch_norm: NonNegative = 1.0
    """beta: pull of the generator towards the teacher's BatchNorm statistics."""
    contrastive: NonNegative = 0.7
    """gamma: pull of the generator towards images that cluster by class in both feature spaces."""
    pseudo_label: NonNegative = 0.7
    """eta: pull of both players towards the label each image was generated for."""
    temperature: Positive = 0.07
    """Temperature of the supervised contrastive loss."""

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorSettings:
    """The class-conditional generator and how it is trained."""

    latent_dim: Count = 256
    """Length of the noise vector each image is made from."""
    width: Count = 64
    """Channels of the last hidden layer; the layers before it have twice as many."""
    steps: Count = 6
    """Generator updates at the start of every iteration."""
    lr: Positive = 1e-3
    """Learning rate of Adam."""
    norm_epsilon: Positive = 1e-3
    """Added to the variance in the conditional batch norm."""
    ema: Annotated[float, Ge(0.0), Lt(1.0)] = 0.0
    """Samples are drawn from an exponential moving average of the weights, which keeps this share of itself
    at each step; 0: from the weights as they are. The student learns from the latter either way."""

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentSettings:
    """How the student is trained."""

    steps: Count = 5
    """Student updates at the end of every iteration."""
    lr: Positive = 0.1
    """Peak learning rate of SGD; warm-up and cosine decay are the preset's."""
    momentum: Annotated[float, Ge(0.0), Lt(1.0)] = 0.9
    """Momentum of SGD."""
    weight_decay: NonNegative = 5e-4
    """Weight decay of SGD."""
    warmup_epochs: Annotated[int, Ge(0)] = 10
    """Epochs over which the learning rate rises to its peak; a tenth of the epochs at most is used."""
    contrastive: bool = False
    """Whether the contrastive loss trains the student and its adapter too, or shapes the generator only."""
    running_norm: bool = False
    """Whether generator steps normalise the student by its running statistics and leave those alone; else by
    those of their images, which it then remembers. A young student's are far behind: with them an unbounded
    generator can tear the two networks apart without limit, and does."""

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """One distillation, start to end."""

    method: str = "cpsc"
    """Name in the table of methods."""
    preset: str = "fixed"
    """Name in the table of presets: which quirks of the released code are kept, or what goes beyond it."""
    epochs: Count = 600
    """Epochs; after each the student is evaluated."""
    iterations_per_epoch: Count = 50
    """Rounds of generator and student steps in an epoch."""
    batch_size: Annotated[int, Ge(2)] = 512
    """Images per step over all ranks together."""
    seed: Annotated[int, Ge(0)] = 0
    """Every random draw is a function of it."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """bf16 and fp16 run the networks under autocast, fp16 with scaled gradients; losses and weights stay in
    fp32. fp16 is meant for GPUs without bf16: a CPU is slow at it."""
    compile: bool = False
    """Whether torch.compile makes the networks faster, after a minute or two of compiling."""
    recompute: bool = False
    """Whether memory is saved by computing activations twice; no result depends on it."""
    checkpoint_every: Count = 1
    """Epochs between checkpoints; the last epoch always has one."""
    samples_every: Count = 10
    """Epochs between grids of synthetic images; the first and the last epoch always have one."""
    loss: LossSettings = field(default_factory=LossSettings)
    """Weights of the loss terms."""
    generator: GeneratorSettings = field(default_factory=GeneratorSettings)
    """The generator."""
    student: StudentSettings = field(default_factory=StudentSettings)
    """The student's optimiser."""

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Which data set the held-out images come from."""

    name: str
    """Name in the table of data sets."""
    root: str | None = None
    """Folder with the files; null for data that ships with a package."""
    mean: tuple[float, ...] | None = None
    """Per-channel mean that is subtracted from pixels of 0 to 1; null: the data set's own."""
    std: tuple[float, ...] | None = None
    """Per-channel deviation that is divided by then; null: the data set's own."""
    size: int | None = None
    """Height and width that images are brought to; null: the data set's own."""
    classes: int | tuple[str, ...] | None = None
    """For data of one's own: how many classes there are, or what label 0, 1, ... is called."""
    flips: bool | None = None
    """For data of one's own: whether a mirrored image keeps its class; null: it does."""
    train: str | None = None
    """For data of one's own: files (parquet: a pattern) or folder of the training images below the root."""
    val: str | None = None
    """For data of one's own: the same for validation images."""
    test: str | None = None
    """For data of one's own: the same for test images."""
    image: str | None = None
    """For parquet: the column with the images; null: the only one that can be."""
    label: str | None = None
    """For parquet: the column with the classes; null: the only one that can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSettings:
    """The trained network that is distilled."""

    arch: str
    """Name in the table of networks."""
    weights: str
    """Safetensors file with its weights."""
    sha256: str
    """Digest of that file; a file with another digest is refused."""
    accuracy: float | None = None
    """Its own top-1 accuracy on the validation split, 0 to 1; null if nobody knows."""
    probe: str | None = None
    """Safetensors file with synthetic probe images, on which agreement is measured; null: not measured."""
    mean: tuple[float, ...] | None = None
    """Per-channel mean that was subtracted from the images it was trained on; null: nobody knows."""
    std: tuple[float, ...] | None = None
    """Per-channel deviation they were divided by; null: nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherTraining:
    """How a teacher is trained when none is given."""

    epochs: Count = 100
    """Epochs over the training split."""
    batch_size: Annotated[int, Ge(2)] = 128
    """Images per step."""
    lr: Positive = 0.1
    """Peak learning rate of SGD; it falls to zero along a cosine."""
    momentum: Annotated[float, Ge(0.0), Lt(1.0)] = 0.9
    """Momentum of SGD."""
    weight_decay: NonNegative = 5e-4
    """Weight decay of SGD."""
    label_smoothing: Annotated[float, Ge(0.0), Lt(1.0)] = 0.0
    """Share of the label's weight that is spread over all classes."""
    augment: bool = True
    """Random crops, and flips where a mirrored image keeps its class."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the network under autocast, on a CPU about twice as fast; weights and loss stay in fp32."""
    seed: Annotated[int, Ge(0)] = 0
    """Every random draw is a function of it."""

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSettings:
    """Everything that decides a trial's result."""

    data: DataSettings
    """Where the held-out images come from."""
    data_fingerprint: str
    """Digest of the data set's content and splits."""
    teacher: TeacherSettings
    """The network that is distilled."""
    student_arch: str
    """Name in the table of networks."""
    train: TrainSettings
    """How it is distilled."""
    splits: tuple[str, ...] = ("val",)
    """Held-out splits the student is scored on: val each epoch, test only after the last one."""

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Settings from plain JSON values; raises SettingsError on a key or value that does not fit."""
        settings: Self = _build(cls, raw, "")
        return settings

    def identity(self) -> str:
        """The trial's name: equal exactly when the settings must give the same student.

        The full resolved settings are hashed, so a changed default is a changed trial. Paths are left out:
        the teacher and the data are known by digest, wherever they lie and however the data are described.
        So is what is only known of the teacher: its accuracy, and its normalisation, which must be that of
        the data. And so is what saves memory and changes no result.
        """
        meaning = self.to_dict()
        meaning["data"] = {"name": self.data.name}
        meaning["train"].pop("recompute")
        for place in ("weights", "probe", "accuracy", "mean", "std"):
            meaning["teacher"].pop(place)
        canonical = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def field_paths(settings_type: type[Any], prefix: str = "") -> dict[str, Any]:
    """Dotted path of every leaf field below a settings dataclass, with its type, annotations included."""
    paths: dict[str, Any] = {}
    for name, hint in get_type_hints(settings_type, include_extras=True).items():
        path = f"{prefix}{name}"
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            paths |= field_paths(hint, f"{path}.")
        else:
            paths[path] = hint
    return paths


def replace_path(settings: Any, path: str, value: Any) -> Any:
    """A copy of a settings dataclass with the field at a dotted path replaced."""
    name, _, rest = path.partition(".")
    if name not in {each.name for each in dataclasses.fields(settings)}:
        raise SettingsError(f"{type(settings).__name__} has no field {name!r}")
    return dataclasses.replace(
        settings, **{name: replace_path(getattr(settings, name), rest, value) if rest else value}
    )


def _build(target: Any, raw: Mapping[str, Any], prefix: str) -> Any:
    hints = get_type_hints(target)
    if not isinstance(raw, Mapping):
        raise SettingsError(f"{prefix.rstrip('.') or target.__name__} must be a mapping, but is {raw!r}")
    if unknown := sorted(raw.keys() - hints.keys()):
        raise SettingsError(f"unknown setting {prefix}{unknown[0]}; {target.__name__} has {', '.join(hints)}")
    values: dict[str, Any] = {}
    for name, value in raw.items():
        kind = hints[name]
        if dataclasses.is_dataclass(kind):
            values[name] = _build(kind, value, f"{prefix}{name}.")
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
            if not fits(values[name], kind):
                raise SettingsError(f"{prefix}{name} must be {describe_kind(kind)}, but is {_shown(value)}")
    try:
        return target(**values)
    except TypeError as error:
        raise SettingsError(f"{target.__name__}: {error}") from error


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."

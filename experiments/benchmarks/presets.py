"""What the presets come to on the digits: how good the student gets, and whether images are of their class.

    python experiments/benchmarks/presets.py                      faithful, fixed, strong and a control
    python experiments/benchmarks/presets.py --ablation --json figures.json

Everyone gets the same teacher, the same weights of the losses, the same steps and the same seeds, which draw
all initial weights and all noise. Accuracy is that on all held-out digits, validation and test together. The
teacher is trained first, as in experiments/digits.yaml.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from cpsc_core.data.digits import DIGITS
from cpsc_core.distill import presets
from cpsc_core.distill.draws import seeded
from cpsc_core.distill.presets import PRESETS
from cpsc_core.distill.trainer import Trainer
from cpsc_core.settings import (
    DataSettings,
    GeneratorSettings,
    LossSettings,
    StudentSettings,
    TeacherTraining,
    TrainSettings,
)
from cpsc_core.tables import NETWORKS, lookup
from cpsc_core.teacher_training import train_teacher

LAST_EPOCHS = 5
BY_HAND = LossSettings(ikd=1.0, batch_norm=1.0, contrastive=0.5, pseudo_label=0.5)
"""Good weights for the losses of the paper on the digits."""
USUAL_GENERATOR = GeneratorSettings(latent_dim=64, width=32, steps=1, lr=1e-3)
FROZEN_GENERATOR = replace(USUAL_GENERATOR, lr=1e-30)  # too small a rate to change any weight


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to distil."""

    preset: str
    """Name of the preset it starts from."""
    loss: LossSettings
    """Weights of the terms."""
    generator: GeneratorSettings
    """Steps and rate of the generator."""
    switches: Mapping[str, Any] = field(default_factory=dict)
    """What is changed in the preset."""


FIXED = Contestant(preset="fixed", loss=BY_HAND, generator=USUAL_GENERATOR)
STRONG = replace(FIXED, preset="strong")
CONTESTANTS: Mapping[str, Contestant] = {
    "faithful": replace(FIXED, preset="faithful"),
    "fixed": FIXED,
    "strong": STRONG,
    "untrained generator": replace(
        FIXED, generator=FROZEN_GENERATOR, loss=replace(BY_HAND, pseudo_label=0.0)
    ),
}
INGREDIENTS: Mapping[str, str] = {
    "label input": "label_input",
    "bounded adversary": "adversary",
    "relative statistics": "batch_norm_distance",
    "student without labels": "student_pseudo_label",
}
"""What strong has and fixed has not: a name for each switch."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one distillation came to."""

    contestant: str
    """Its name."""
    seed: int
    """What weights and noise were drawn from."""
    best: float
    """Highest accuracy of the student after an epoch."""
    last: float
    """Its accuracy after the last."""
    mean_of_last: float
    """Mean of those after the last five."""
    fidelity: float
    """Share of images to which the teacher gives the class they were generated for."""
    diversity: float
    """Mean distance between the teacher's normalised features of two images of a class, over the classes."""
    seconds: float
    """Processor time of all steps, without scoring: what else the machine does hardly changes it."""


def main() -> None:
    """Distil with every contestant and seed, and print a table of means and deviations."""
    options = _parse()
    torch.set_num_threads(options.threads)
    teacher = _train_teacher(options.teacher_epochs)
    runs: list[Run] = []
    for seed in range(options.seeds):
        for name, contestant in _contestants(options).items():
            runs.append(_distil(name, contestant, seed, teacher, options))
            print(runs[-1], flush=True)
            if options.json:
                Path(options.json).write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n")
    Console(width=110).print(_table(runs))
    real = DIGITS.load("train")
    print(f"diversity of real training images: {_diversity(teacher, real.images_BCHW, real.labels_B):.3f}")


def _contestants(options: argparse.Namespace) -> Mapping[str, Contestant]:
    if not options.ablation:
        return {name: CONTESTANTS[name] for name in options.contestants}
    return dict(_ablations())


def _ablations() -> Iterator[tuple[str, Contestant]]:
    """Strong with each ingredient as it is in fixed, then fixed with each as it is in strong."""
    for base, donor, sign in ((STRONG, FIXED, "without"), (FIXED, STRONG, "with")):
        yield base.preset, base
        for name, switch in INGREDIENTS.items():
            value = getattr(PRESETS[donor.preset], switch)
            yield f"{base.preset} {sign} {name}", replace(base, switches={switch: value})


def _distil(
    name: str, contestant: Contestant, seed: int, teacher: nn.Module, options: argparse.Namespace
) -> Run:
    preset = replace(PRESETS[contestant.preset], **contestant.switches)
    with patch.dict(presets.PRESETS, {"tested": preset}), seeded(seed, "student"):
        trainer = Trainer(
            TrainSettings(
                preset="tested",
                epochs=options.epochs,
                iterations_per_epoch=options.iterations,
                batch_size=64,
                seed=seed,
                loss=contestant.loss,
                generator=contestant.generator,
                student=StudentSettings(steps=5, lr=0.1, warmup_epochs=1),
            ),
            teacher=teacher,
            student=_build("resnet8"),
            image=DIGITS.spec,
        )
    evaluate, elsewhere = _scorer()
    start = time.process_time()
    reports = list(trainer.fit(evaluate))
    seconds = time.process_time() - start - sum(elsewhere)
    accuracies = [report.metrics["accuracy"] for report in reports]
    return Run(
        contestant=name,
        seed=seed,
        best=max(accuracies),
        last=accuracies[-1],
        mean_of_last=statistics.fmean(accuracies[-LAST_EPOCHS:]),
        fidelity=reports[-1].metrics["label_fidelity"],
        diversity=_diversity(teacher, *trainer.sample()),
        seconds=seconds,
    )


def _scorer() -> tuple[Callable[[nn.Module], Mapping[str, float]], list[float]]:
    """What scores a student on all held-out digits, and the seconds it has needed each time."""
    held_out = [DIGITS.load(split) for split in ("val", "test")]
    images_BCHW = torch.cat([split.images_BCHW for split in held_out])
    labels_B = torch.cat([split.labels_B for split in held_out])
    seconds: list[float] = []

    def score(student: nn.Module) -> Mapping[str, float]:
        start = time.process_time()
        right_B = student(images_BCHW).logits_BC.argmax(1) == labels_B
        seconds.append(time.process_time() - start)
        return {"accuracy": right_B.double().mean().item()}

    return score, seconds


def _diversity(teacher: nn.Module, images_BCHW: Tensor, labels_B: Tensor) -> float:
    with torch.no_grad():
        features_BD = F.normalize(teacher(images_BCHW).features_BD)
    distances = [F.pdist(features_BD[labels_B == label]).mean() for label in range(DIGITS.spec.num_classes)]
    return float(torch.stack(distances).mean())


def _train_teacher(epochs: int) -> nn.Module:
    training = TeacherTraining(epochs=epochs, batch_size=64, lr=0.1, weight_decay=5e-4)
    threads = torch.get_num_threads()
    *_, report = train_teacher("resnet20", DataSettings(name="digits"), training, threads=threads)
    accuracy = ", ".join(f"{split} {share:.3f}" for split, share in report.accuracy.items())
    print(f"teacher: {accuracy}", flush=True)
    return report.network.eval()


def _build(name: str) -> nn.Module:
    spec = DIGITS.spec
    network: nn.Module = lookup(NETWORKS, name)(
        num_classes=spec.num_classes, channels=spec.channels, size=spec.size
    )
    return network


def _table(runs: Sequence[Run]) -> Table:
    table = Table("", *COLUMNS, title="digits, ResNet-20 to ResNet-8: mean and deviation over the seeds")
    for name in dict.fromkeys(run.contestant for run in runs):
        of_name = [run for run in runs if run.contestant == name]
        table.add_row(name, *(_summary([value(run) for run in of_name]) for value in COLUMNS.values()))
    return table


def _summary(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.fmean(values):.3f} +- {statistics.stdev(values):.3f}"


COLUMNS: Mapping[str, Callable[[Run], float]] = {
    "best": lambda run: run.best,
    "last": lambda run: run.last,
    "last five": lambda run: run.mean_of_last,
    "fidelity": lambda run: run.fidelity,
    "diversity": lambda run: run.diversity,
    "seconds": lambda run: run.seconds,
}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--ablation", action="store_true", help="take strong apart instead")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=10, help="in an epoch")
    parser.add_argument("--teacher-epochs", type=int, default=20)
    parser.add_argument("--json", metavar="FILE", help="write every run, as it ends")
    return parser.parse_args()


if __name__ == "__main__":
    main()

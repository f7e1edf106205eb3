"""What experiments would cost on GPUs, by counting: the table of experiments/README.md.

    python experiments/benchmarks/cost.py experiments/cifar10_*.yaml --gpus 8 --tflops 60

Counted are the operations of every network (forward, and what each step needs of backward) on every image of
every epoch, for all trials and confirmations. Of a search that prunes, each rung leaves one trial in
`reduction_factor`. `--tflops` is what one GPU sustains on such networks; `cpsc-orchestrate plan FILE` times
iterations instead, on the machine it runs on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cpsc_core.data.labelled import PlacedData
from cpsc_core.distill.generator import Generator
from cpsc_core.images import ImageSpec
from cpsc_core.weights import build_network
from orchestrator.config import SweepConfig, load_experiment
from orchestrator.config.chosen import SuccessiveHalving

TERA = 1e12


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one experiment takes."""

    experiment: str
    """Name of its file."""
    petaflop_per_trial: float
    """Operations of a trial that runs to its end."""
    full_trials: float
    """Trials it amounts to if none was ended early, confirmations included."""
    gpu_hours: float
    """Of one GPU."""
    hours: float
    """On all GPUs, as many trials side by side as there are GPUs for."""


def cost(file: Path, *, gpus: int, tflops: float) -> Cost:
    """Count what an experiment takes."""
    config = load_experiment(file, ("teacher.checkpoint=null",)).config
    trial = per_trial(config)
    trials = full_trials(config)
    gpu_hours = trial * trials / (tflops * TERA) / 3600
    return Cost(
        experiment=file.stem,
        petaflop_per_trial=trial / 1e15,
        full_trials=trials,
        gpu_hours=gpu_hours,
        hours=gpu_hours / gpus,
    )


def per_trial(config: SweepConfig) -> float:
    """Operations of one trial.

    A generator step passes the frozen networks forwards and backwards to the images, the generator to its
    weights as well; a student step passes teacher and generator forwards, the student to its weights.
    """
    spec = PlacedData.of(config.data.settings()).spec
    train = config.train
    teacher, student = (
        forward(build_network(arch, spec), spec) for arch in (config.teacher.arch, config.student.arch)
    )
    drawn = forward_generator(config, spec)
    generator_step = 2 * teacher + 2 * student + 3 * drawn
    student_step = teacher + 3 * student + drawn
    image = train.generator.steps * generator_step + train.student.steps * student_step
    return image * train.batch_size * train.iterations_per_epoch * train.epochs


def full_trials(config: SweepConfig) -> float:
    """How many whole trials the search and the confirmation amount to."""
    confirmed = config.confirm.top * config.confirm.seeds
    if not isinstance(config.pruner, SuccessiveHalving):
        return config.budget.trials + confirmed
    factor, epoch, left = config.pruner.reduction_factor, config.pruner.min_epochs, 1.0
    spent, before = 0.0, 0
    while epoch < config.train.epochs:
        spent += left * (epoch - before)
        left, before, epoch = left / factor, epoch, epoch * factor
    spent += left * (config.train.epochs - before)
    return config.budget.trials * spent / config.train.epochs + confirmed


def forward(network: nn.Module, spec: ImageSpec) -> float:
    """Operations of one image through a network; a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, spec.channels, spec.size, spec.size))
    return float(counter.get_total_flops())


def forward_generator(config: SweepConfig, spec: ImageSpec) -> float:
    """Operations of drawing one image."""
    generator = Generator(config.train.generator, spec).eval()
    latents_BZ = torch.zeros(1, config.train.generator.latent_dim)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        generator(latents_BZ, torch.zeros(1, dtype=torch.int64))
    return float(counter.get_total_flops())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each experiment; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--tflops", type=float, default=60.0, help="sustained by one GPU (default: 60)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    costs = [cost(file, gpus=options.gpus, tflops=options.tflops) for file in options.files]
    if options.json:
        print(json.dumps([asdict(each) for each in costs], indent=2))
        return 0
    for each in costs:
        work = f"{each.petaflop_per_trial:9.1f} PFLOP a trial, {each.full_trials:5.1f} whole trials"
        print(f"{each.experiment:30} {work}, {each.gpu_hours:7.1f} GPU hours, {each.hours:6.1f} h")
    return 0


if __name__ == "__main__":
    sys.exit(main())

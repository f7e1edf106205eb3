"""How fast a step is: the plain loop of `plain.py` against the product's, side by side in one run.

    python experiments/benchmarks/step.py                    both pairs of networks, on the CPU
    python experiments/benchmarks/step.py --device cuda --json figures.json

Variants take turns, iteration by iteration, so that what else the machine does hits all of them; figures are
medians, and a ratio is the median of the ratios of iterations that were run one after the other. Memory is
measured in a process of its own for each variant.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from plain import PlainGenerator, PlainLoop
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cpsc_core.distill.draws import LatentDraws, Latents, seeded
from cpsc_core.distill.generator import Generator
from cpsc_core.distill.trainer import Trainer
from cpsc_core.images import ImageSpec
from cpsc_core.settings import GeneratorSettings, StudentSettings, TrainSettings
from cpsc_core.tables import NETWORKS, lookup

PAIRS: Mapping[str, tuple[str, str]] = {
    "wrn": ("wrn40_2", "wrn16_2"),
    "resnet": ("resnet34", "resnet18"),
}
"""Teacher and student."""

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "fp32": {"precision": "fp32"},
    "fp32 compile": {"precision": "fp32", "compile": True},
    "fp32 recompute": {"precision": "fp32", "recompute": True},
    "bf16": {"precision": "bf16"},
    "bf16 compile": {"precision": "bf16", "compile": True},
}
"""What of the training settings makes the product's loop faster or smaller; plain is the other loop."""

PEAK_SHAPES = ((64, 64, 32), (64, 128, 16), (64, 256, 8), (64, 256, 32))
"""Batch, channels and size of the 3x3 convolutions among which the machine's peak is looked for."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one variant came to on one pair of networks."""

    pair: str
    """Teacher and student."""
    variant: str
    """Name in `VARIANTS`."""
    seconds: float
    """Median of an iteration."""
    image_steps_per_second: float
    """Images times updates in a second."""
    ratio: float
    """How many times faster than the plain loop."""
    generator_loss_difference: float
    """Of the loss of the first step from the plain loop's, relative."""
    student_loss_difference: float
    """Likewise for the student."""
    peak_memory_bytes: int
    """What its iterations need beside the networks."""
    share_of_peak: float
    """Its own arithmetic in a second, of what the machine's best convolution does in the same format."""


class Contestant:
    """One variant that runs iterations and knows its losses."""

    def __init__(self, pair: str, variant: str, options: argparse.Namespace) -> None:
        self.settings = replace(
            TrainSettings(
                preset="faithful",
                epochs=10_000,
                batch_size=options.batch_size,
                generator=GeneratorSettings(steps=options.generator_steps, width=options.width),
                student=StudentSettings(steps=options.student_steps, lr=0.01, warmup_epochs=0),
            ),
            **VARIANTS[variant],
        )
        self.device = options.device
        image = ImageSpec(num_classes=10, channels=3, size=options.size, mean=(0.5,) * 3, std=(0.5,) * 3)
        teacher, student = (_build(name, image).to(self.device) for name in PAIRS[pair])
        _let_it_see_something(teacher, image)
        self.draws = LatentDraws.of(self.settings, image.num_classes)
        self.iteration = 0
        if variant == "plain":
            with seeded(self.settings.seed, "generator"):
                weights = Generator(self.settings.generator, image).state_dict()
            generator = PlainGenerator(self.settings.generator, image).to(self.device)
            generator.load_state_dict(weights)
            self.plain = PlainLoop(self.settings.loss, teacher, student, generator, lr=0.01)
            self.run, self.first_losses = self._run_plain, self._plain_losses
        else:
            self.trainer = Trainer(
                self.settings, teacher=teacher, student=student, image=image, device=self.device
            )
            self.run, self.first_losses = self._run_trainer, self._trainer_losses

    def _run_plain(self) -> None:
        for player, step in (("generator", self.plain.generator_step), ("student", self.plain.student_step)):
            for latents in self._latents(player):
                step(*(tensor.to(self.device) for tensor in latents))
        self.iteration += 1

    def _run_trainer(self) -> None:
        """What `Trainer.fit` does in an iteration."""
        trainer = self.trainer
        with trainer._student_held():
            for latents in self._latents("generator"):
                trainer._update_generator(*trainer._placed(latents))
        for latents in self._latents("student"):
            trainer._update_student(*trainer._placed(latents))
        self.iteration += 1
        _wait(self.device)

    def _latents(self, player: str) -> list[Latents]:
        steps = getattr(self.settings, player).steps
        return [self.draws(player, 0, self.iteration * steps + step) for step in range(steps)]

    def _plain_losses(self) -> dict[str, float]:
        """Of one step of each player; the student goes first, since the generator's steps follow a sign, in
        which a difference of rounding grows."""
        return {
            player: step(*(tensor.to(self.device) for tensor in self._latents(player)[0]))
            for player, step in (
                ("student", self.plain.student_step),
                ("generator", self.plain.generator_step),
            )
        }

    def _trainer_losses(self) -> dict[str, float]:
        trainer = self.trainer
        trainer._update_student(*trainer._placed(self._latents("student")[0]))
        with trainer._student_held():
            trainer._update_generator(*trainer._placed(self._latents("generator")[0]))
        return {player: means.means()[f"{player}_loss"] for player, means in trainer._means.items()}


def main() -> None:
    options = _parse()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        pair, variant = options.memory_of
        print(_memory_of(pair, variant, options))
        return
    peaks = {half: _peak(half, options.device) for half in (torch.float32, torch.bfloat16)}
    _print_machine(peaks, options)
    figures: list[Figures] = []
    for pair in options.pairs:
        compared = _compare(pair, options, peaks)
        figures += compared
        _print(compared)
        if options.json:
            Path(options.json).write_text(json.dumps([asdict(each) for each in figures], indent=2) + "\n")


def _compare(pair: str, options: argparse.Namespace, peaks: Mapping[torch.dtype, float]) -> list[Figures]:
    contestants = {variant: Contestant(pair, variant, options) for variant in options.variants}
    losses = {variant: contestant.first_losses() for variant, contestant in contestants.items()}
    operations = {}
    for contestant in contestants.values():  # warms up and compiles
        contestant.run()
    for variant, contestant in contestants.items():
        operations[variant] = _count_operations(contestant) if "compile" not in variant else None
    seconds: dict[str, list[float]] = {variant: [] for variant in contestants}
    for _ in range(options.rounds):
        for variant, contestant in contestants.items():
            began = time.perf_counter()
            contestant.run()
            seconds[variant].append(time.perf_counter() - began)
    images = options.batch_size * (options.generator_steps + options.student_steps)
    found = []
    for variant in contestants:
        median = statistics.median(seconds[variant])
        half = torch.bfloat16 if variant.startswith("bf16") else torch.float32
        counted = operations[variant] or operations[variant.removesuffix(" compile")]
        found.append(
            Figures(
                pair=" to ".join(PAIRS[pair]),
                variant=variant,
                seconds=median,
                image_steps_per_second=images / median,
                ratio=statistics.median(
                    plain / own for plain, own in zip(seconds["plain"], seconds[variant], strict=True)
                ),
                generator_loss_difference=_difference(losses, variant, "generator"),
                student_loss_difference=_difference(losses, variant, "student"),
                peak_memory_bytes=_measure_memory(pair, variant),
                share_of_peak=(counted or 0) / median / peaks[half],
            )
        )
    return found


def _difference(losses: Mapping[str, Mapping[str, float]], variant: str, player: str) -> float:
    plain = losses["plain"][player]
    return abs(losses[variant][player] - plain) / abs(plain)


def _build(name: str, image: ImageSpec) -> nn.Module:
    with seeded(0, name):
        network: nn.Module = lookup(NETWORKS, name)(
            num_classes=image.num_classes, channels=image.channels, size=image.size
        )
    return network


def _let_it_see_something(teacher: nn.Module, image: ImageSpec) -> None:
    """Give the teacher's batch norm statistics that belong to its weights."""
    noise = torch.Generator().manual_seed(0)
    device = next(teacher.parameters()).device
    with torch.no_grad():
        for _ in range(10):
            teacher.train()(
                torch.randn(16, image.channels, image.size, image.size, generator=noise).to(device)
            )


def _count_operations(contestant: Contestant) -> int:
    with FlopCounterMode(display=False) as counter:
        contestant.run()
    return int(counter.get_total_flops())


def _peak(half: torch.dtype, device: str) -> float:
    """Operations a second of the fastest of a few convolutions."""
    best = 0.0
    for batch, channels, size in PEAK_SHAPES:
        maps = torch.randn(batch, channels, size, size, device=device, dtype=half)
        maps = maps.to(memory_format=torch.channels_last)
        weight = torch.randn(channels, channels, 3, 3, device=device, dtype=half)
        for _ in range(5):
            began = time.perf_counter()
            F.conv2d(maps, weight, padding=1)
            _wait(device)
            seconds = time.perf_counter() - began
            best = max(best, 2 * maps.numel() * channels * 9 / seconds)
    return best


def _measure_memory(pair: str, variant: str) -> int:
    arguments = [sys.executable, __file__, *sys.argv[1:], "--memory-of", pair, variant]
    return int(subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _memory_of(pair: str, variant: str, options: argparse.Namespace) -> int:
    """Bytes that an iteration needs at its peak, beside what was there before the first."""
    contestant = Contestant(pair, variant, options)
    if options.device == "cuda":
        before = torch.cuda.memory_allocated()
        contestant.run()
        torch.cuda.reset_peak_memory_stats()
        contestant.run()
        return torch.cuda.max_memory_allocated() - before
    before = _resident()
    contestant.run()
    Path("/proc/self/clear_refs").write_text("5")  # what compiling took is not what the step takes
    contestant.run()
    return _highest() - before


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _highest() -> int:
    """Highest resident size of this process since the mark was reset."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _print_machine(peaks: Mapping[torch.dtype, float], options: argparse.Namespace) -> None:
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"{options.threads} CPU threads"
    formats = ", ".join(
        f"{str(half).removeprefix('torch.')} {peak / 1e9:,.0f}" for half, peak in peaks.items()
    )
    print(f"{where}; best convolution in GFLOP/s: {formats}")
    steps = f"{options.generator_steps} generator and {options.student_steps} student steps"
    print(f"batch {options.batch_size}, {steps}, medians of {options.rounds} iterations", flush=True)


def _print(figures: list[Figures]) -> None:
    table = Table("pair", "variant", *FIGURES)
    for each in figures:
        table.add_row(each.pair, each.variant, *(shown(each) for shown in FIGURES.values()))
    Console(width=110).print(table)


FIGURES: Mapping[str, Callable[[Figures], str]] = {
    "s/iteration": lambda each: f"{each.seconds:.2f}",
    "image-steps/s": lambda each: f"{each.image_steps_per_second:,.0f}",
    "ratio": lambda each: f"{each.ratio:.2f}",
    "loss differs": lambda each: f"{max(each.generator_loss_difference, each.student_loss_difference):.0e}",
    "memory": lambda each: f"{each.peak_memory_bytes / 2**20:,.0f} MiB",
    "of peak": lambda each: f"{each.share_of_peak:.0%}",
}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--rounds", type=int, default=5, help="timed iterations of each variant")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--size", type=int, default=32, help="of the images, in pixels")
    parser.add_argument("--width", type=int, default=64, help="of the generator")
    parser.add_argument("--generator-steps", type=int, default=6)
    parser.add_argument("--student-steps", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="write every figure with its ratio")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if "plain" not in options.variants:
        parser.error("--variants needs plain, which the others are compared with")
    return options


if __name__ == "__main__":
    main()

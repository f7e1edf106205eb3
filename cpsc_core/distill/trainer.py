"""CPSC-DFKD (Shao, Zhang, Wang 2023): a generator and a student take turns, and no real image is seen.

The trainer reads and writes nothing. It yields a report per epoch, and its `state_dict` is the whole run.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function
from torch.nn.utils import get_total_norm

from cpsc_core.distill.adapter import build_adapter
from cpsc_core.distill.average import follow
from cpsc_core.distill.batch_norm import distance_from_memory, forgetting_batch_norm, share_batch_norm
from cpsc_core.distill.draws import Draws, LatentDraws, Latents, seeded
from cpsc_core.distill.forward import Forward
from cpsc_core.distill.generator import Generator
from cpsc_core.distill.means import RunningMeans
from cpsc_core.distill.objective import Objective
from cpsc_core.distill.optimisers import build_optimisers
from cpsc_core.distill.precision import Precision, exact
from cpsc_core.distill.presets import preset_named
from cpsc_core.distill.schedule import SCHEDULES
from cpsc_core.errors import DivergedError, SettingsError
from cpsc_core.images import ImageSpec, fitting
from cpsc_core.networks.output import Output
from cpsc_core.rank import ALONE, Rank
from cpsc_core.settings import TrainSettings

__all__ = ["EpochReport", "Trainer"]

Evaluate = Callable[[nn.Module], Mapping[str, float]]

PLAYERS = ("generator", "student")
NUM_SAMPLES = 256
"""Images of the fixed set on which label fidelity is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """What one epoch came to."""

    epoch: int
    """Its number, from 1."""
    metrics: Mapping[str, float]
    """Means of the loss terms, label fidelity, the student's learning rate, and what `evaluate` returned."""
    final: bool
    """Whether it was the last one."""


class Trainer:
    """One distillation, which can be stopped after any iteration and resumed to the bit.

    `epoch` counts finished epochs and `iteration` the iterations done of the next one. The teacher is only
    read; the student is trained in place. On several ranks, each of which has a trainer of its own, every
    batch is split among them, and losses and weights are those of one rank with the whole batch. `recompute`
    is for this attempt alone and changes no result; None: as the settings say. `generator` is what samples
    are drawn from: the trained one or, if the settings say so, its moving average.
    Raises SettingsError if networks, images, ranks and settings do not fit.
    """

    def __init__(
        self,
        settings: TrainSettings,
        *,
        teacher: nn.Module,
        student: nn.Module,
        image: ImageSpec,
        device: str | torch.device = "cpu",
        rank: Rank = ALONE,
        recompute: bool | None = None,
        draws: Draws | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        _check_split(settings.batch_size, rank)
        self.settings = settings
        self.rank = rank
        self.preset = preset_named(settings.preset)
        self.device = torch.device(device)
        self.teacher = teacher.eval().requires_grad_(False)
        self.student = student.train()
        with seeded(settings.seed, "generator"):
            trained = Generator(settings.generator, image, label_input=self.preset.label_input)
        self._trained_generator = trained
        self.generator = copy.deepcopy(trained) if settings.generator.ema else trained
        for network in (self.teacher, self.student, trained, self.generator):
            network.to(self.device)
            network.to(memory_format=torch.channels_last)
        with seeded(settings.seed, "adapter"):
            adapter = build_adapter(self.student, self.teacher, image)
        self.adapter = adapter.to(self.device).requires_grad_(settings.student.contrastive)
        for network in (trained, self.student, self.adapter):
            share_batch_norm(network, rank)
        for network in (trained, self.generator, self.student, self.adapter):
            rank.copy_from_first(network.state_dict().values())
        self.forward = Forward.of(
            settings,
            generator=trained,
            student=self.student,
            teacher=self.teacher,
            image=image,
            rank=rank,
            recompute=settings.recompute if recompute is None else recompute,
        )
        self.precision = Precision(settings.precision, self.device, PLAYERS)
        self.objective = Objective(
            settings.loss, self.preset, self.adapter, student_contrastive=settings.student.contrastive
        )
        own_draws = LatentDraws.of(settings, image.num_classes)
        self.draws = draws or own_draws
        self.should_stop = should_stop
        self.on_step = on_step
        self.epoch = 0
        self.iteration = 0
        self._size = image.size
        self._samples = own_draws.ordered_by_class(NUM_SAMPLES)
        self._schedule = SCHEDULES[self.preset.student_schedule]
        self._means = {player: RunningMeans() for player in PLAYERS}
        self._optimisers = build_optimisers(
            settings, generator=trained, student=self.student, adapter=self.adapter
        )

    def fit(self, evaluate: Evaluate) -> Iterator[EpochReport]:
        """Train from where the run stands to its end, yielding once per finished epoch.

        Returns early, between two iterations, when `should_stop` says so, on every rank as soon as it does on
        one; `on_step` is called after each update. Raises DivergedError at the end of
        an epoch in which a loss or a weight stopped being finite.
        """
        while self.epoch < self.settings.epochs:
            while self.iteration < self.settings.iterations_per_epoch:
                if self.rank.any(self.should_stop()):
                    return
                with self._student_held():
                    for latents in self._latents("generator", self.settings.generator.steps):
                        self._update_generator(*latents)  # find images on which the two disagree
                for latents in self._latents("student", self.settings.student.steps):
                    self._update_student(*latents)  # then agree on them
                self.iteration += 1
            yield self._finish_epoch(evaluate)

    def sample(self) -> tuple[Tensor, Tensor]:
        """256 images in normalised space and their labels, ordered by class, always from the same noise.

        They are normalised by the statistics of their own batch, as the student's are, and leave no trace.
        Those of more than 64 px are made in several batches, over which the classes are spread.
        """
        latents_BZ, labels_B = self._placed(self._samples)
        batches = math.ceil(NUM_SAMPLES / fitting(NUM_SAMPLES, self._size))
        with torch.no_grad(), forgetting_batch_norm(self.generator), self.precision.networks():
            made = [self.generator(latents_BZ[i::batches], labels_B[i::batches]) for i in range(batches)]
        return _gathered(made), labels_B

    def state_dict(self) -> dict[str, Any]:
        """The whole run: tensors, numbers and strings. Nothing is copied: save it before training goes on."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        return {"epoch": self.epoch, "iteration": self.iteration, **parts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where a state was taken, with the same settings."""
        self.epoch = state["epoch"]
        self.iteration = state["iteration"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _update_generator(self, latents_BZ: Tensor, labels_B: Tensor) -> None:
        with record_function("generator step"):
            self._descend("generator", self._generator_terms(latents_BZ, labels_B))
        if self.preset.generator_optimiser == "fresh":
            self._optimisers["generator"].state.clear()
        if keep := self.settings.generator.ema:
            follow(self.generator, self._trained_generator, keep=keep)

    def _update_student(self, latents_BZ: Tensor, labels_B: Tensor) -> None:
        self._optimisers["student"].param_groups[0]["lr"] = self._schedule(
            self.settings, self.epoch, self.iteration
        )
        with record_function("student step"):
            self._descend("student", self._student_terms(latents_BZ, labels_B))

    def _generator_terms(self, latents_BZ: Tensor, labels_B: Tensor) -> Mapping[str, Tensor]:
        with self.precision.networks():
            images_BCHW = self._images(latents_BZ, labels_B)
            teacher, seen = self.forward.watched_teacher(images_BCHW)
            student = self.forward.student(images_BCHW)
        distance = self.objective.batch_norm_distance
        batch_norm = distance_from_memory(seen, self.rank, distance) if seen else None
        return self.objective.generator(self._whole(student), self._whole(teacher), labels_B, batch_norm)

    def _student_terms(self, latents_BZ: Tensor, labels_B: Tensor) -> Mapping[str, Tensor]:
        with self.precision.networks():
            with torch.no_grad():
                images_BCHW = self._images(latents_BZ, labels_B)
                teacher = self.forward.teacher(images_BCHW)
            student = self.forward.student(images_BCHW)
        return self.objective.student(self._whole(student), self._whole(teacher), labels_B)

    def _images(self, latents_BZ: Tensor, labels_B: Tensor) -> Tensor:
        """This rank's part of a batch."""
        return self.forward.generator(self.rank.part(latents_BZ), self.rank.part(labels_B))

    def _whole(self, output: Output) -> Output:
        """What a network says of the whole batch, from what it says of this rank's part."""
        own = exact(output)
        if self.rank.is_alone:
            return own
        whole = self.rank.gather(torch.cat(own, 1)).flatten(0, 1)
        return Output(*torch.split(whole, [tensor.shape[1] for tensor in own], 1))

    def _descend(self, player: str, terms: Mapping[str, Tensor]) -> None:
        optimiser = self._optimisers[player]
        self.precision.backward(player, terms[f"{player}_loss"])
        learned = optimiser.param_groups[0]["params"]
        self.rank.average(each.grad for each in learned if each.grad is not None)
        self.precision.step(player, optimiser)
        optimiser.zero_grad()
        self._means[player].add(terms)
        self.on_step()

    def _finish_epoch(self, evaluate: Evaluate) -> EpochReport:
        metrics = self._means["generator"].means() | self._means["student"].means()
        self._check_finite(metrics)
        metrics["student_lr"] = self._optimisers["student"].param_groups[0]["lr"]
        metrics["label_fidelity"] = self._label_fidelity()
        metrics |= self._evaluated(evaluate)
        self.epoch += 1
        self.iteration = 0
        self._means = {player: RunningMeans() for player in PLAYERS}
        return EpochReport(epoch=self.epoch, metrics=metrics, final=self.epoch == self.settings.epochs)

    def _check_finite(self, means: Mapping[str, float]) -> None:
        for term, mean in means.items():
            if not math.isfinite(mean):
                raise DivergedError(term, self.epoch + 1)
        for player, network in (("generator", self.generator), ("student", self.student)):
            tensors = [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
            if not get_total_norm(tensors).isfinite():
                raise DivergedError(f"a weight of the {player}", self.epoch + 1)

    def _label_fidelity(self) -> float:
        """How often the teacher gives a sample the label it was generated for."""
        images_BCHW, labels_B = self.sample()
        with torch.no_grad():
            some = torch.split(images_BCHW, fitting(NUM_SAMPLES, self._size))
            seen_B = torch.cat([self.teacher(each_BCHW).logits_BC.argmax(1) for each_BCHW in some])
        return float((seen_B == labels_B).double().mean())

    def _evaluated(self, evaluate: Evaluate) -> Mapping[str, float]:
        self.student.eval()
        try:
            with torch.no_grad():
                return evaluate(self.student)
        finally:
            self.student.train()

    def _latents(self, player: str, steps: int) -> Iterator[Latents]:
        """What each step of a player in this iteration starts from."""
        for step in range(self.iteration * steps, (self.iteration + 1) * steps):
            yield self._placed(self.draws(player, self.epoch, step))

    def _placed(self, latents: Latents) -> Latents:
        """On the device, without waiting for it."""
        if self.device.type == "cuda":
            latents = Latents(*(tensor.pin_memory() for tensor in latents))
        dtype = self.generator.linear.weight.dtype
        return Latents(
            latents.latents_BZ.to(self.device, dtype, non_blocking=True),
            latents.labels_B.to(self.device, non_blocking=True),
        )

    @contextmanager
    def _student_held(self) -> Iterator[None]:
        """Keep the student out of the generator's gradients; its batch norm behaves as the settings say."""
        learned = self._optimisers["student"].param_groups[0]["params"]
        for parameter in learned:
            parameter.requires_grad_(False)
        self.student.train(not self.settings.student.running_norm)
        try:
            yield
        finally:
            self.student.train()
            for parameter in learned:
                parameter.requires_grad_(True)

    def _parts(self) -> dict[str, Any]:
        return {
            "generator": self._trained_generator,
            **({"generator_average": self.generator} if self.settings.generator.ema else {}),
            "student": self.student,
            "adapter": self.adapter,
            "precision": self.precision,
            **{f"{player}_optimiser": optimiser for player, optimiser in self._optimisers.items()},
            **{f"{player}_means": means for player, means in self._means.items()},
        }


def _gathered(dealt: Sequence[Tensor]) -> Tensor:
    """What was dealt out in turn, in one tensor and in its order before."""
    if len(dealt) == 1:
        return dealt[0]
    whole = dealt[0].new_empty(sum(map(len, dealt)), *dealt[0].shape[1:])
    for first, some in enumerate(dealt):
        whole[first :: len(dealt)] = some
    return whole


def _check_split(batch_size: int, rank: Rank) -> None:
    if batch_size % rank.world_size:
        less = batch_size - batch_size % rank.world_size
        raise SettingsError(
            f"batch_size is {batch_size}, which {rank.world_size} ranks cannot share evenly; "
            f"choose {f'{less} or ' if less else ''}{less + rank.world_size}, or another number of ranks"
        )

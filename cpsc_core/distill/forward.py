"""The networks of a distillation as its steps run them: the same functions, faster or in less memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from cpsc_core.distill.batch_norm import Seen, WatchedNetwork
from cpsc_core.distill.folded import fold_batch_norm
from cpsc_core.distill.recompute import recompute_blocks
from cpsc_core.errors import SettingsError
from cpsc_core.images import ImageSpec
from cpsc_core.networks.output import Output
from cpsc_core.rank import Rank
from cpsc_core.settings import TrainSettings

__all__ = ["Forward"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """How images are made and looked at in a step. All share the tensors of the networks they come from."""

    generator: Callable[[Tensor, Tensor], Tensor]
    """Images from noise and labels."""
    student: Callable[[Tensor], Output]
    """What the student says of images."""
    teacher: Callable[[Tensor], Output]
    """What the teacher says of images, where nothing is learned from how it says it."""
    watched_teacher: Callable[[Tensor], tuple[Output, Sequence[Seen]]]
    """What the teacher says of images, and what its batch norm layers saw if their statistics are matched."""

    @classmethod
    def of(
        cls,
        settings: TrainSettings,
        *,
        generator: nn.Module,
        student: nn.Module,
        teacher: nn.Module,
        image: ImageSpec,
        rank: Rank,
        recompute: bool,
    ) -> Self:
        """The networks as the settings want them run; SettingsError if that is impossible."""
        if recompute and settings.compile:
            raise SettingsError(
                "a compiled network decides itself what to compute again; "
                "set train.compile or train.recompute to false"
            )
        watched = WatchedNetwork(teacher) if settings.loss.batch_norm else None
        folded = fold_batch_norm(teacher, image)
        learning = [generator, student]
        if recompute:
            for network in (*learning, watched.network if watched else teacher):
                recompute_blocks(network)
        # Networks that exchange batch statistics with other ranks in each layer can't be compiled as a whole.
        compiled = torch.compile if settings.compile else _as_it_is
        shared = compiled if rank.is_alone else _as_it_is
        return cls(
            generator=shared(generator),
            student=shared(student),
            teacher=compiled(folded),
            watched_teacher=compiled(watched) if watched else _unwatched(compiled(teacher)),
        )


def _as_it_is(network: Any) -> Any:
    return network


def _unwatched(teacher: Callable[[Tensor], Output]) -> Callable[[Tensor], tuple[Output, Sequence[Seen]]]:
    return lambda images_BCHW: (teacher(images_BCHW), ())

"""What each player of CPSC-DFKD descends: which terms, with which sign and weight.

generator   -KL - ikd * distance + batch_norm * BN + contrastive * SupCon + pseudo_label * CE(teacher)
student     +KL + ikd * distance [+ pseudo_label * CE(student)] [+ contrastive * SupCon]

With a bounded adversary the generator has -ikd * JS in place of -KL - ikd * distance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpsc_core.distill import losses
from cpsc_core.distill.presets import Preset
from cpsc_core.networks.output import Output
from cpsc_core.settings import LossSettings
from cpsc_core.tables import LOSSES, lookup

__all__ = ["LOG_MSE", "MSE", "Distance", "Objective"]

Pair = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far apart the logits of student and teacher are; the table of losses has these, or functions."""

    generator: Pair
    """What the generator climbs: logits of both to a scalar."""
    student: Pair
    """What the student descends."""

    @classmethod
    def named(cls, name: str) -> Distance:
        """The entry of a name; a function serves both players. UnknownNameError lists the table."""
        found: Distance | Pair = lookup(LOSSES, name)
        return found if isinstance(found, Distance) else cls(generator=found, student=found)


MSE = Distance(generator=losses.mse, student=losses.mse)
LOG_MSE = Distance(generator=losses.log_mse, student=losses.log_frobenius)

PSEUDO_LABEL: Mapping[str, Pair] = {
    "probabilities": losses.cross_entropy_on_probabilities,
    "logits": losses.cross_entropy_on_logits,
}
BATCH_NORM_DISTANCE: Mapping[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "absolute": losses.remembered_distance,
    "relative": losses.relative_distance,
}


class Objective:
    """The losses of both players, for one set of weights and one preset.

    Each method returns the player's terms under the names they are logged by, unweighted, and their weighted
    sum as `generator_loss` or `student_loss`. Distances are positive for both; the generator climbs them.
    `batch_norm_distance` is how far a batch norm layer is from what it remembers; with `student_contrastive`
    the student and the adapter learn from the contrastive term too.
    """

    def __init__(
        self, settings: LossSettings, preset: Preset, adapter: nn.Module, *, student_contrastive: bool = False
    ) -> None:
        self.settings = settings
        self.preset = preset
        self.adapter = adapter
        self.student_contrastive = student_contrastive
        self.distance = Distance.named(settings.ikd_form)
        self.pseudo_label = PSEUDO_LABEL[preset.pseudo_label_on]
        self.batch_norm_distance = BATCH_NORM_DISTANCE[preset.batch_norm_distance]

    def generator(
        self, student: Output, teacher: Output, labels_B: Tensor, batch_norm: Tensor | None
    ) -> dict[str, Tensor]:
        """What the generator descends; a term without weight that costs time is left out.

        `batch_norm` is how far the teacher's batch norm layers are from what they remember, None if that has
        no weight.
        """
        terms = self._disagreement(student.logits_BC, teacher.logits_BC)
        terms["pseudo_label"] = self.pseudo_label(teacher.logits_BC, labels_B)
        if batch_norm is not None:
            terms["batch_norm"] = batch_norm
        if self.settings.contrastive:
            terms["contrastive"] = self._contrast(student, teacher, labels_B)
        return _weighed("generator", terms, self._weights(sign=-1.0))

    def student(self, student: Output, teacher: Output, labels_B: Tensor) -> dict[str, Tensor]:
        """What the student descends."""
        terms = {
            "kl": losses.distillation_kl(student.logits_BC, teacher.logits_BC),
            "ikd": self.distance.student(student.logits_BC, teacher.logits_BC),
        }
        if self.preset.student_pseudo_label:
            terms["pseudo_label"] = self.pseudo_label(student.logits_BC, labels_B)
        if self.settings.contrastive and self.student_contrastive:
            terms["contrastive"] = self._contrast(student, teacher, labels_B)
        return _weighed("student", terms, self._weights(sign=1.0))

    def _disagreement(self, student_BC: Tensor, teacher_BC: Tensor) -> dict[str, Tensor]:
        """What the generator climbs."""
        if self.preset.adversary == "bounded":
            return {"ikd": losses.jensen_shannon(student_BC, teacher_BC)}
        return {
            "kl": losses.distillation_kl(student_BC, teacher_BC),
            "ikd": self.distance.generator(student_BC, teacher_BC.detach()),
        }

    def _contrast(self, student: Output, teacher: Output, labels_B: Tensor) -> Tensor:
        student_BD = self.adapter(F.normalize(student.features_BD))
        teacher_BD = F.normalize(teacher.features_BD)
        return losses.supervised_contrastive(
            student_BD, teacher_BD, labels_B, temperature=self.settings.temperature
        )

    def _weights(self, *, sign: float) -> Mapping[str, float]:
        """The weight of each term for a player that descends (+1) or climbs (-1) the distances."""
        return {
            "kl": sign,
            "ikd": sign * self.settings.ikd,
            "batch_norm": self.settings.batch_norm,
            "contrastive": self.settings.contrastive,
            "pseudo_label": self.settings.pseudo_label,
        }


def _weighed(player: str, terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, Tensor]:
    total = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
    return {f"{player}_{name}": value for name, value in terms.items()} | {f"{player}_loss": total}

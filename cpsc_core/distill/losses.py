"""The terms of CPSC-DFKD (Shao, Zhang, Wang 2023) as pure functions: tensors in, a scalar out.

B = batch, C = classes, D = feature width. Every term is small when its arguments agree; which player climbs
it and which descends is written in `objective`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.linalg import vector_norm

__all__ = [
    "channel_statistics",
    "cross_entropy_on_logits",
    "cross_entropy_on_probabilities",
    "distillation_kl",
    "jensen_shannon",
    "log_frobenius",
    "log_mse",
    "mse",
    "relative_distance",
    "remembered_distance",
    "statistics_distance",
    "supervised_contrastive",
]

CLOSEST_SQUARED = 1e-12
"""Logits whose squared distance is less count as equal: below it a logarithm has no slope."""


def distillation_kl(student_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """KL(teacher || student) of the softmax of both logits, averaged over the batch, at temperature 1."""
    log_student_BC = F.log_softmax(student_BC, dim=1)
    log_teacher_BC = F.log_softmax(teacher_BC, dim=1)
    return F.kl_div(log_student_BC, log_teacher_BC, reduction="batchmean", log_target=True)


def jensen_shannon(student_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """Jensen-Shannon divergence of the softmax of both logits (Lin 1991), averaged over the batch.

    (KL(s || m) + KL(t || m)) / 2 with m = (s + t) / 2, in nats: symmetric, and log 2 at most. Where the
    networks already tell an image fully apart it has no slope left, so climbing it stops there.
    """
    log_student_BC = F.log_softmax(student_BC, dim=1)
    log_teacher_BC = F.log_softmax(teacher_BC, dim=1)
    log_middle_BC = torch.logaddexp(log_student_BC, log_teacher_BC) - math.log(2)
    from_student = F.kl_div(log_middle_BC, log_student_BC, reduction="batchmean", log_target=True)
    from_teacher = F.kl_div(log_middle_BC, log_teacher_BC, reduction="batchmean", log_target=True)
    return (from_student + from_teacher) / 2


def mse(student_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """Squared distance of the logits, averaged over batch and classes."""
    return F.mse_loss(student_BC, teacher_BC)


def log_mse(student_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """Logarithm of `mse`; equal logits give a finite value without a slope."""
    return mse(student_BC, teacher_BC).clamp(min=CLOSEST_SQUARED).log()


def log_frobenius(student_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """Logarithm of the Frobenius norm of the difference of the whole logit matrices.

    It is half of `log_mse` plus a constant, and like it has no slope where the logits are equal.
    """
    squared = F.mse_loss(student_BC, teacher_BC, reduction="sum")
    return squared.clamp(min=CLOSEST_SQUARED).log() / 2


def cross_entropy_on_logits(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Cross-entropy of the softmax of the logits against the labels, averaged over the batch."""
    return F.cross_entropy(logits_BC, labels_B)


def cross_entropy_on_probabilities(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Cross-entropy that takes the softmax of the logits for logits, as the released code does.

    Softmax is thus applied twice: the value never reaches zero and its slope is small.
    """
    return F.cross_entropy(F.softmax(logits_BC, dim=1), labels_B)


def supervised_contrastive(
    student_BD: Tensor, teacher_BD: Tensor, labels_B: Tensor, *, temperature: float
) -> Tensor:
    """Supervised contrast (Khosla et al. 2020) of two views of an image: the features of both networks.

    Every feature is an anchor. Its positives are all other features of the same label, the other view of the
    same image among them. Features are used as they are given: normalise them first.
    """
    features_ND = torch.cat((student_BD, teacher_BD))
    labels_N = labels_B.repeat(2)
    similarity_NN = features_ND @ features_ND.T / temperature
    self_NN = torch.eye(len(labels_N), dtype=torch.bool, device=labels_N.device)
    positive_NN = (labels_N[:, None] == labels_N) & ~self_NN
    mean_positive_N = (similarity_NN * positive_NN).sum(1) / positive_NN.sum(1)
    log_total_N = similarity_NN.masked_fill(self_NN, -torch.inf).logsumexp(1)
    return (log_total_N - mean_positive_N).mean()


def statistics_distance(x_BCHW: Tensor, running_mean_C: Tensor, running_var_C: Tensor) -> Tensor:
    """How far the channel statistics of a batch lie from remembered ones: both L2 distances, added.

    The variance of the batch is the biased one; the norms are not squared.
    """
    return remembered_distance(*channel_statistics(x_BCHW), running_mean_C, running_var_C)


def remembered_distance(
    mean_C: Tensor, var_C: Tensor, running_mean_C: Tensor, running_var_C: Tensor
) -> Tensor:
    """`statistics_distance` of a batch whose channel statistics are known."""
    return torch.dist(running_var_C, var_C) + torch.dist(running_mean_C, mean_C)


def relative_distance(mean_C: Tensor, var_C: Tensor, running_mean_C: Tensor, running_var_C: Tensor) -> Tensor:
    """`remembered_distance` in shares of what is remembered, so that every layer counts alike.

    The distance of the variances is divided by their norm, that of the means by the norm of the deviations:
    a layer whose inputs are all multiplied by a factor has the same distance as before.
    """
    of_variances: Tensor = torch.dist(running_var_C, var_C) / vector_norm(running_var_C)
    of_means: Tensor = torch.dist(running_mean_C, mean_C) / vector_norm(running_var_C.sqrt())
    return of_variances + of_means


def channel_statistics(x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel."""
    mean_C, var_C = _ChannelStatistics.apply(x_BCHW)
    return mean_C, var_C


class _ChannelStatistics(torch.autograd.Function):
    """Mean and biased variance per channel, in single precision at least: `torch.var_mean`, faster.

    The gradient is written out so that nothing but the input is kept for it.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        # As a matrix, which channels_last maps are already: the CPU reduces its columns several times faster.
        x_NC = x_BCHW.permute(0, 2, 3, 1).flatten(0, 2)
        mean_C = x_NC.mean(0, dtype=torch.promote_types(x_NC.dtype, torch.float32))
        var_C = (x_NC - mean_C).square_().mean(0)
        ctx.save_for_backward(x_BCHW, mean_C)
        return mean_C, var_C

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, mean_grad_C: Tensor, var_grad_C: Tensor) -> Tensor:
        x_BCHW, mean_C = ctx.saved_tensors
        count = x_BCHW.numel() // len(mean_C)
        slope_C = var_grad_C * (2 / count)
        offset_C = mean_grad_C / count - slope_C * mean_C
        return torch.addcmul(offset_C[:, None, None], x_BCHW, slope_C[:, None, None]).to(x_BCHW.dtype)

"""How the features of two networks are compared."""

from __future__ import annotations

import torch
from torch import nn

from cpsc_core.errors import SettingsError
from cpsc_core.images import ImageSpec
from cpsc_core.networks.output import Output

__all__ = ["build_adapter"]


def build_adapter(student: nn.Module, teacher: nn.Module, image: ImageSpec) -> nn.Module:
    """Maps the student's normalised features to the teacher's width; the identity if that is its own.

    What it returns is not normalised again, as in the released code. It never becomes part of the student.
    Raises SettingsError if one of the networks tells another number of classes apart than the images have.
    """
    student_dim = _feature_dim("student", student, image)
    teacher_dim = _feature_dim("teacher", teacher, image)
    if student_dim == teacher_dim:
        return nn.Identity()
    return nn.Sequential(
        nn.Linear(student_dim, student_dim),
        nn.ReLU(),
        nn.Linear(student_dim, teacher_dim),
    )


def _feature_dim(role: str, network: nn.Module, image: ImageSpec) -> int:
    """Width of the features a network returns for a blank image; its mode and statistics are left alone."""
    weight = next(network.parameters())
    blank_BCHW = weight.new_zeros(1, image.channels, image.size, image.size)
    mode = network.training
    with torch.no_grad():
        output: Output = network.eval()(blank_BCHW)
    network.train(mode)
    num_classes = output.logits_BC.shape[1]
    if num_classes != image.num_classes:
        raise SettingsError(
            f"the {role} tells {num_classes} classes apart, but the data set has {image.num_classes}; "
            f"name a {role} for {image.num_classes} classes, or the data set the teacher was trained on"
        )
    return output.features_BD.shape[1]

"""A trained student, back from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cpsc_core.data.labelled import PlacedData
from cpsc_core.settings import TrialSettings
from cpsc_core.weights import build_network, fill_network, parse_tensors, read_file

__all__ = ["LogitsOnly", "load_student"]


class LogitsOnly(nn.Module):
    """A network as others expect one: images in, logits out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits (B, C) of normalised images."""
        logits_BC: Tensor = self.network(images_BCHW).logits_BC
        return logits_BC


def load_student(settings: Mapping[str, Any], weights: Path) -> nn.Module:
    """The student of a trial, in evaluation mode on the CPU, from the trial's settings and a weights file.

    Raises TeacherError if the file does not hold it, UnknownNameError if its network is not installed.
    """
    trial = TrialSettings.from_dict(settings)
    network = build_network(trial.student_arch, PlacedData.of(trial.data).spec)
    tensors = parse_tensors(read_file(weights), weights)
    fill_network(network, tensors, source=weights, arch=trial.student_arch)
    return network.eval()

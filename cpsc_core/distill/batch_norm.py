"""What batch norm layers see and remember: `with` blocks that watch it or hold it still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cpsc_core.distill.losses import statistics_distance
from cpsc_core.errors import SettingsError

__all__ = ["BatchNormWatch", "batch_norm_layers", "forgetting_batch_norm", "watching_batch_norm"]


class BatchNormWatch:
    """Collects how far the inputs of BatchNorm layers lie from what the layers remember."""

    def __init__(self) -> None:
        self._distances: list[Tensor] = []

    def loss(self) -> Tensor:
        """Sum of `losses.statistics_distance` over the layers run since the block began, all alike."""
        return torch.stack(self._distances).sum()

    def observe(self, layer: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        """Forward pre-hook of a layer."""
        (x_BCHW,) = inputs
        assert layer.running_mean is not None and layer.running_var is not None  # noqa: S101
        x_BCHW = x_BCHW.to(torch.promote_types(x_BCHW.dtype, layer.running_mean.dtype))
        self._distances.append(statistics_distance(x_BCHW, layer.running_mean, layer.running_var))


def batch_norm_layers(network: nn.Module) -> list[nn.BatchNorm2d]:
    """The BatchNorm2d layers of a network that remember statistics, in order of definition."""
    layers = (layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))
    return [layer for layer in layers if layer.running_mean is not None]


@contextmanager
def watching_batch_norm(network: nn.Module) -> Iterator[BatchNormWatch]:
    """Watch the BatchNorm2d layers of a network while the block runs; SettingsError if it has none."""
    layers = batch_norm_layers(network)
    if not layers:
        raise SettingsError(
            f"{type(network).__name__} has no BatchNorm2d layer with running statistics to match; "
            "set loss.batch_norm to 0, or distil a teacher that has some"
        )
    watch = BatchNormWatch()
    handles = [layer.register_forward_pre_hook(watch.observe) for layer in layers]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def forgetting_batch_norm(network: nn.Module) -> Iterator[None]:
    """In train mode, normalise with the statistics of each batch but remember none while the block runs."""
    layers = batch_norm_layers(network)
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True

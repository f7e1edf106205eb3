"""A network for inference, with batch norm folded into the convolutions before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cpsc_core.distill.batch_norm import with_the_same_tensors
from cpsc_core.images import ImageSpec

__all__ = ["fold_batch_norm"]

PROBE_IMAGES = 2
TOLERANCE = 1e-3
"""Share of the largest logit or feature by which a folded network may differ; in truth it is rounding."""


def fold_batch_norm(network: nn.Module, image: ImageSpec) -> nn.Module:
    """A copy in eval mode that computes the same without the batch norm layers that follow a convolution.

    Which layers those are is seen in a pass over noise, so it need not be known how a network is built. It is
    left unfolded if the copy then says anything else than the network itself, as it would where something
    besides the batch norm reads what the convolution returns. Tensors that were not folded are shared.
    """
    weight = next(network.parameters())
    noise = torch.Generator().manual_seed(0)
    shape = (PROBE_IMAGES, image.channels, image.size, image.size)
    probe_BCHW = torch.randn(shape, generator=noise).to(weight)
    plain = with_the_same_tensors(network).eval()
    folded = with_the_same_tensors(network).eval()
    with torch.no_grad():
        for convolution, norm in _neighbours(folded, probe_BCHW):
            layers: Any = folded.get_submodule(convolution), folded.get_submodule(norm)
            folded.set_submodule(convolution, fuse_conv_bn_eval(*layers).requires_grad_(False))
            folded.set_submodule(norm, nn.Identity())
        agrees = all(map(_close, folded(probe_BCHW), plain(probe_BCHW)))
    return folded if agrees else plain


def _neighbours(network: nn.Module, probe_BCHW: Tensor) -> list[tuple[str, str]]:
    """Names of convolutions whose output is handed to a batch norm layer as it is, and of those layers."""
    made_by: dict[int, str] = {}
    alive: list[Tensor] = []  # an identity is only one as long as its tensor lives
    pairs: list[tuple[str, str]] = []

    def note(name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if type(layer) is nn.Conv2d:
            made_by[id(output)] = name
            alive.append(output)
        elif id(inputs[0]) in made_by:
            pairs.append((made_by[id(inputs[0])], name))

    with ExitStack() as hooks:
        for name, layer in _layers(network):
            handle = layer.register_forward_hook(
                lambda layer, inputs, output, name=name: note(name, layer, inputs, output)
            )
            hooks.callback(handle.remove)
        network(probe_BCHW)
    return [pair for pair in pairs if all(sum(name in other for other in pairs) == 1 for name in pair)]


def _layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in network.named_modules():
        remembers = type(layer) is nn.BatchNorm2d and layer.running_mean is not None
        if type(layer) is nn.Conv2d or remembers:
            yield name, layer


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= TOLERANCE * other.abs().max())

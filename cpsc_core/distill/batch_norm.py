"""What batch norm layers see and remember: watched networks, shared layers, blocks that change nothing."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from cpsc_core.distill.losses import channel_statistics, remembered_distance
from cpsc_core.errors import SettingsError
from cpsc_core.networks.output import Output
from cpsc_core.rank import ALONE, Rank

__all__ = [
    "Seen",
    "SharedBatchNorm2d",
    "WatchedNetwork",
    "batch_norm_layers",
    "distance_from_memory",
    "forgetting_batch_norm",
    "remembering_aside",
    "share_batch_norm",
    "with_the_same_tensors",
]

Statistics = tuple[Tensor, Tensor]
"""Mean and biased variance of each channel."""


class Seen(NamedTuple):
    """What a layer was given, and what it remembers."""

    given: Statistics
    """Of its input."""
    remembered: Statistics
    """Its running mean and variance."""


class WatchedNetwork(nn.Module):
    """A network that also tells what its BatchNorm2d layers were given.

    It shares the tensors of the network it is made from, which itself is left as it is. Raises SettingsError
    if there is no such layer.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = with_the_same_tensors(network)
        layers = batch_norm_layers(self.network)
        if not layers:
            raise SettingsError(
                f"{type(network).__name__} has no BatchNorm2d layer with running statistics to match; "
                "set loss.batch_norm to 0, or distil a teacher that has some"
            )
        self._seen: list[Seen] | None = None
        for layer in layers:
            layer.register_forward_pre_hook(self._observe)

    def forward(self, x_BCHW: Tensor) -> tuple[Output, list[Seen]]:
        """What the network returns, and what its layers saw in the order they were run."""
        seen = self._seen = []
        output = self.network(x_BCHW)
        self._seen = None
        return output, seen

    def _observe(self, layer: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        assert layer.running_mean is not None and layer.running_var is not None  # noqa: S101
        given = channel_statistics(*inputs)
        if self._seen is not None:  # else a block is run a second time, for its gradients
            self._seen.append(Seen(given, (layer.running_mean, layer.running_var)))


def distance_from_memory(
    seen: Sequence[Seen], rank: Rank = ALONE, distance: Callable[..., Tensor] = remembered_distance
) -> Tensor:
    """Sum of a distance of statistics (see `losses`) over the layers, all alike, for all ranks' images."""
    pairs = zip(_merged([each.given for each in seen], rank), seen, strict=True)
    return torch.stack([distance(*given, *each.remembered) for given, each in pairs]).sum()


def with_the_same_tensors(network: nn.Module) -> nn.Module:
    """A network of the same layers, whose parameters and buffers are those of the given one."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the images of all ranks together, as `nn.BatchNorm2d` does it on one.

    torch's own SyncBatchNorm refuses the CPU. Where running statistics are used or none are remembered, the
    other ranks are not needed.
    """

    def __init__(self, layer: nn.BatchNorm2d, rank: Rank) -> None:
        super().__init__(layer.num_features, eps=layer.eps, momentum=layer.momentum, affine=False)
        self.rank = rank
        self.affine = layer.affine
        self.weight, self.bias = layer.weight, layer.bias
        self.running_mean, self.running_var = layer.running_mean, layer.running_var
        self.num_batches_tracked = layer.num_batches_tracked
        self.train(layer.training)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The normalised input."""
        if not (self.training and self.track_running_stats):
            return super().forward(x_BCHW)
        assert self.running_mean is not None  # noqa: S101
        with torch.no_grad():
            own = torch.batch_norm_update_stats(x_BCHW, None, None, momentum=0.0)
            ((mean_C, var_C),) = _merged([own], self.rank)
            self._remember(mean_C, var_C, x_BCHW[:, 0].numel() * self.rank.world_size)
        normalised: Tensor = _SharedNorm.apply(
            x_BCHW, self.weight, self.bias, mean_C, var_C, self.eps, self.rank
        )
        return normalised

    def _remember(self, mean_C: Tensor, var_C: Tensor, count: int) -> None:
        assert self.running_mean is not None and self.running_var is not None  # noqa: S101
        assert self.num_batches_tracked is not None  # noqa: S101
        self.num_batches_tracked += 1
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C, share)
        self.running_var.lerp_(var_C * (count / (count - 1)), share)


class _SharedNorm(torch.autograd.Function):
    """Normalise by the statistics of all ranks' images, of which each depends on every image.

    Written out, as composed of single operations it would read and write each map three times as often.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_BCHW: Tensor,
        weight_C: Tensor | None,
        bias_C: Tensor | None,
        mean_C: Tensor,
        var_C: Tensor,
        epsilon: float,
        rank: Rank,
    ) -> Tensor:
        ctx.save_for_backward(x_BCHW, weight_C, mean_C, var_C)
        ctx.epsilon, ctx.rank = epsilon, rank
        return F.batch_norm(x_BCHW, mean_C, var_C, weight_C, bias_C, eps=epsilon)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, y_grad_BCHW: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, weight_C, mean_C, var_C = ctx.saved_tensors
        # Against the weight and the bias, which both exist for this, if not in the layer.
        _, weight_grad_C, bias_grad_C = torch.ops.aten.native_batch_norm_backward(
            y_grad_BCHW, x_BCHW, weight_C, mean_C, var_C, None, None, False, ctx.epsilon, [False, True, True]
        )
        x_grad_BCHW = None
        if ctx.needs_input_grad[0]:
            count = x_BCHW[:, 0].numel() * ctx.rank.world_size
            by_weight_C, by_bias_C = ctx.rank.sum(torch.stack((weight_grad_C, bias_grad_C))) / count
            inverse_C = (var_C + ctx.epsilon).rsqrt()
            scale_C = inverse_C if weight_C is None else inverse_C * weight_C
            slope_C = -scale_C * inverse_C * by_weight_C
            offset_C = -scale_C * by_bias_C - slope_C * mean_C
            through_statistics_BCHW = torch.addcmul(offset_C[:, None, None], x_BCHW, slope_C[:, None, None])
            x_grad_BCHW = through_statistics_BCHW.addcmul_(y_grad_BCHW, scale_C[:, None, None])
            x_grad_BCHW = x_grad_BCHW.to(x_BCHW.dtype)
        learned = ctx.needs_input_grad[1]
        return (
            x_grad_BCHW,
            weight_grad_C if learned else None,
            bias_grad_C if learned else None,
            None,
            None,
            None,
            None,
        )


def share_batch_norm(network: nn.Module, rank: Rank) -> None:
    """Let the batch norm layers of a network see the images of all ranks; parameters stay the same objects.

    Raises SettingsError if it has a layer that looks at the whole batch in another way.
    """
    if rank.is_alone:
        return
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, _BatchNorm):
                if type(layer) is not nn.BatchNorm2d or layer.running_mean is None:
                    raise SettingsError(
                        f"{type(network).__name__} has a {type(layer).__name__} layer, which "
                        f"{rank.world_size} ranks cannot share, as only a plain BatchNorm2d with running "
                        "statistics can be; use one rank or another network"
                    )
                parent.add_module(name, SharedBatchNorm2d(layer, rank))


def batch_norm_layers(network: nn.Module) -> list[nn.BatchNorm2d]:
    """The BatchNorm2d layers of a network that remember statistics, in order of definition."""
    layers = (layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))
    return [layer for layer in layers if layer.running_mean is not None]


@contextmanager
def forgetting_batch_norm(network: nn.Module) -> Iterator[None]:
    """In train mode, normalise with the statistics of each batch but remember none while the block runs.

    The batch is then this rank's own.
    """
    layers = batch_norm_layers(network)
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


@contextmanager
def remembering_aside(network: nn.Module) -> Iterator[None]:
    """Let what batch norm layers remember while the block runs go into copies, which are then thrown away."""
    layers = [each for each in network.modules() if isinstance(each, _BatchNorm)]
    kept = [dict(layer.named_buffers()) for layer in layers]
    for layer, buffers in zip(layers, kept, strict=True):
        for name, buffer in buffers.items():
            setattr(layer, name, buffer.clone())
    try:
        yield
    finally:
        for layer, buffers in zip(layers, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(layer, name, buffer)


def _merged(own: Sequence[Statistics], rank: Rank) -> Sequence[Statistics]:
    """The statistics of all ranks' images, of those of as many images on each; one exchange for all layers.

    Means and variances are exchanged, not sums of squares, in whose difference small variances drown.
    """
    if rank.is_alone:
        return own
    means, variances = zip(*own, strict=True)
    mean_RN, var_RN = rank.gather(torch.stack((torch.cat(means), torch.cat(variances)))).unbind(1)
    mean_N = mean_RN.mean(0)
    var_N = var_RN.mean(0) + (mean_RN - mean_N).square().mean(0)
    widths = [len(mean_C) for mean_C in means]
    return list(zip(torch.split(mean_N, widths), torch.split(var_N, widths), strict=True))

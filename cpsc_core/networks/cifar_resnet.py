"""The narrow residual networks for small images of He et al. 2016, section 4.2.

Three stages of 16, 32 and 64 channels; a shortcut that changes shape subsamples and pads with zero channels
(option A), so it has no weights. Parameter names are those of the widely shared CIFAR-10 checkpoints.
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from cpsc_core.networks.output import Network, Output

__all__ = ["CifarResNet", "resnet20", "resnet32", "resnet44", "resnet56", "resnet8"]

WIDTHS = (16, 32, 64)


class CifarResNet(Network):
    """A residual network of 6n+2 layers."""

    def __init__(self, depth: int, *, num_classes: int, channels: int, size: int) -> None:
        super().__init__(feature_dim=WIDTHS[-1], size=size)
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], blocks, stride=1)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], blocks, stride=2)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], blocks, stride=2)
        self.linear = nn.Linear(WIDTHS[2], num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x_BCHW: Tensor) -> Output:
        """Logits and 64 features per image."""
        maps_BCHW = F.relu(self.bn1(self.conv1(x_BCHW)), inplace=True)
        maps_BCHW = self.layer3(self.layer2(self.layer1(maps_BCHW)))
        features_BD = maps_BCHW.mean((2, 3))
        return Output(self.linear(features_BD), features_BD)


class _Block(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.padding = (width - width_in) // 2
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = F.relu(self.bn1(self.conv1(x_BCHW)), inplace=True)
        y_BCHW = self.bn2(self.conv2(y_BCHW))
        return F.relu(y_BCHW + self._shortcut(x_BCHW), inplace=True)

    def _shortcut(self, x_BCHW: Tensor) -> Tensor:
        if self.stride == 1:
            return x_BCHW
        subsampled_BCHW = x_BCHW[:, :, :: self.stride, :: self.stride]
        return F.pad(subsampled_BCHW, (0, 0, 0, 0, self.padding, self.padding))


def _stage(width_in: int, width: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = _Block(width_in, width, stride)
    return nn.Sequential(first, *(_Block(width, width, 1) for _ in range(blocks - 1)))


resnet8 = partial(CifarResNet, 8)
resnet20 = partial(CifarResNet, 20)
resnet32 = partial(CifarResNet, 32)
resnet44 = partial(CifarResNet, 44)
resnet56 = partial(CifarResNet, 56)

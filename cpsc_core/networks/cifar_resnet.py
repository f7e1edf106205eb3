"""The narrow residual networks for small images of He et al. 2016, section 4.2.

Three stages of 16, 32 and 64 channels. A shortcut that changes shape subsamples and pads with zero channels
(option A), so it has no weights, or it is a 1x1 convolution with batch norm (option B). Collections of
trained networks have either; parameter names are those of the widely shared option-A checkpoints.
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from cpsc_core.networks.output import Network, Output

__all__ = [
    "CifarResNet",
    "resnet20",
    "resnet20_b",
    "resnet32",
    "resnet32_b",
    "resnet44",
    "resnet44_b",
    "resnet56",
    "resnet56_b",
    "resnet8",
]

WIDTHS = (16, 32, 64)


class CifarResNet(Network):
    """A residual network of 6n+2 layers."""

    def __init__(
        self, depth: int, *, projects: bool = False, num_classes: int, channels: int, size: int
    ) -> None:
        super().__init__(feature_dim=WIDTHS[-1], size=size)
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], blocks, stride=1, projects=projects)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], blocks, stride=2, projects=projects)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], blocks, stride=2, projects=projects)
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


class _Padding(nn.Module):
    """A shortcut without weights: every second pixel, and zero channels on both sides."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.pad(x_BCHW[:, :, ::2, ::2], (0, 0, 0, 0, self.channels, self.channels))


def _shortcut(width_in: int, width: int, *, projects: bool) -> nn.Module:
    if width_in == width:
        return nn.Identity()
    if projects:
        return nn.Sequential(nn.Conv2d(width_in, width, 1, stride=2, bias=False), nn.BatchNorm2d(width))
    return _Padding((width - width_in) // 2)


class _Block(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int, *, projects: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(width_in, width, projects=projects)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = F.relu(self.bn1(self.conv1(x_BCHW)), inplace=True)
        y_BCHW = self.bn2(self.conv2(y_BCHW))
        return F.relu(y_BCHW + self.shortcut(x_BCHW), inplace=True)


def _stage(width_in: int, width: int, blocks: int, *, stride: int, projects: bool) -> nn.Sequential:
    first = _Block(width_in, width, stride, projects=projects)
    return nn.Sequential(first, *(_Block(width, width, 1, projects=projects) for _ in range(blocks - 1)))


resnet8 = partial(CifarResNet, 8)
resnet20 = partial(CifarResNet, 20)
resnet32 = partial(CifarResNet, 32)
resnet44 = partial(CifarResNet, 44)
resnet56 = partial(CifarResNet, 56)
resnet20_b = partial(CifarResNet, 20, projects=True)
resnet32_b = partial(CifarResNet, 32, projects=True)
resnet44_b = partial(CifarResNet, 44, projects=True)
resnet56_b = partial(CifarResNet, 56, projects=True)

"""The wide residual networks of He et al. 2016, with a 3x3 stem without pooling for small images."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from cpsc_core.networks.output import Network, Output

__all__ = ["ResNet", "resnet18", "resnet34", "resnet50"]

WIDTHS = (64, 128, 256, 512)


class ResNet(Network):
    """Four stages of basic or bottleneck blocks."""

    def __init__(
        self,
        block: type[_Basic] | type[_Bottleneck],
        counts: tuple[int, int, int, int],
        *,
        num_classes: int,
        channels: int,
        size: int,
    ) -> None:
        super().__init__(feature_dim=WIDTHS[-1] * block.expansion, size=size)
        self.conv1 = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        width_in = WIDTHS[0]
        stages = []
        for width, count in zip(WIDTHS, counts, strict=True):
            stages.append(_stage(block, width_in, width, count))
            width_in = width * block.expansion
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.linear = nn.Linear(self.feature_dim, num_classes)

    def forward(self, x_BCHW: Tensor) -> Output:
        """Logits and `feature_dim` features per image."""
        maps_BCHW = F.relu(self.bn1(self.conv1(x_BCHW)), inplace=True)
        maps_BCHW = self.layer4(self.layer3(self.layer2(self.layer1(maps_BCHW))))
        features_BD = maps_BCHW.mean((2, 3))
        return Output(self.linear(features_BD), features_BD)


class _Basic(nn.Module):
    expansion = 1

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(width_in, width, stride)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = F.relu(self.bn1(self.conv1(x_BCHW)), inplace=True)
        y_BCHW = self.bn2(self.conv2(y_BCHW))
        return F.relu(y_BCHW + self.shortcut(x_BCHW), inplace=True)


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.shortcut = _shortcut(width_in, width * self.expansion, stride)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = F.relu(self.bn1(self.conv1(x_BCHW)), inplace=True)
        y_BCHW = F.relu(self.bn2(self.conv2(y_BCHW)), inplace=True)
        y_BCHW = self.bn3(self.conv3(y_BCHW))
        return F.relu(y_BCHW + self.shortcut(x_BCHW), inplace=True)


def _shortcut(width_in: int, width: int, stride: int) -> nn.Sequential:
    if width_in == width and stride == 1:
        return nn.Sequential()
    return nn.Sequential(
        nn.Conv2d(width_in, width, 1, stride=stride, bias=False),
        nn.BatchNorm2d(width),
    )


def _stage(block: type[_Basic] | type[_Bottleneck], width_in: int, width: int, count: int) -> nn.Sequential:
    stride = 1 if width == WIDTHS[0] else 2
    first = block(width_in, width, stride)
    return nn.Sequential(first, *(block(width * block.expansion, width, 1) for _ in range(count - 1)))


resnet18 = partial(ResNet, _Basic, (2, 2, 2, 2))
resnet34 = partial(ResNet, _Basic, (3, 4, 6, 3))
resnet50 = partial(ResNet, _Bottleneck, (3, 4, 6, 3))

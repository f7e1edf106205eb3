"""Wide residual networks of Zagoruyko and Komodakis 2016, as zero-shot distillation papers use them.

Normalisation and activation come before each convolution; no dropout. A block that changes width starts
both of its paths from the activated input.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpsc_core.networks.output import Network, Output

__all__ = ["WideResNet", "wrn16_1", "wrn16_2", "wrn40_1", "wrn40_2"]

STEM_WIDTH = 16


class WideResNet(Network):
    """A residual network of 6n+4 layers, each stage `widening` times as wide as the narrow one."""

    def __init__(self, depth: int, widening: int, *, num_classes: int, channels: int, size: int) -> None:
        super().__init__(feature_dim=64 * widening, size=size)
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(channels, STEM_WIDTH, 3, padding=1, bias=False)
        self.block1 = _stage(STEM_WIDTH, 16 * widening, blocks, stride=1)
        self.block2 = _stage(16 * widening, 32 * widening, blocks, stride=2)
        self.block3 = _stage(32 * widening, 64 * widening, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * widening)
        self.fc = nn.Linear(64 * widening, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x_BCHW: Tensor) -> Output:
        """Logits and `feature_dim` features per image."""
        maps_BCHW = self.block3(self.block2(self.block1(self.conv1(x_BCHW))))
        features_BD = F.relu(self.bn1(maps_BCHW), inplace=True).mean((2, 3))
        return Output(self.fc(features_BD), features_BD)


class _Block(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Conv2d(width_in, width, 1, stride=stride, bias=False) if width_in != width else None
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        active_BCHW = F.relu(self.bn1(x_BCHW), inplace=True)
        y_BCHW = F.relu(self.bn2(self.conv1(active_BCHW)), inplace=True)
        skipped_BCHW = x_BCHW if self.shortcut is None else self.shortcut(active_BCHW)
        return torch.add(skipped_BCHW, self.conv2(y_BCHW))


def _stage(width_in: int, width: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = _Block(width_in, width, stride)
    return nn.Sequential(first, *(_Block(width, width, 1) for _ in range(blocks - 1)))


wrn16_1 = partial(WideResNet, 16, 1)
wrn16_2 = partial(WideResNet, 16, 2)
wrn40_1 = partial(WideResNet, 40, 1)
wrn40_2 = partial(WideResNet, 40, 2)

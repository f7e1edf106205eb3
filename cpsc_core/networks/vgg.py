"""VGG-11 of Simonyan and Zisserman 2015 with batch norm and one linear layer, for small images."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from cpsc_core.networks.output import Network, Output

__all__ = ["Vgg11", "vgg11"]

BLOCK_WIDTHS = ((64,), (128,), (256, 256), (512, 512), (512, 512))
SIZE_OF_FOURTH_POOL = 64


class Vgg11(Network):
    """Eight convolutions in five blocks; the fourth is pooled only if images are 64 pixels or larger."""

    def __init__(self, *, num_classes: int, channels: int, size: int) -> None:
        super().__init__(feature_dim=BLOCK_WIDTHS[-1][-1], size=size)
        self.num_pools = 4 if size >= SIZE_OF_FOURTH_POOL else 3
        starts = (channels, *(widths[-1] for widths in BLOCK_WIDTHS))
        self.blocks = nn.ModuleList(
            _block((start, *widths)) for start, widths in zip(starts, BLOCK_WIDTHS, strict=False)
        )
        self.classifier = nn.Linear(self.feature_dim, num_classes)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 4:
                nn.init.kaiming_normal_(parameter, mode="fan_out")
        nn.init.normal_(self.classifier.weight, std=0.01)

    def forward(self, x_BCHW: Tensor) -> Output:
        """Logits and 512 features per image."""
        maps_BCHW = x_BCHW
        for index, block in enumerate(self.blocks):
            maps_BCHW = F.relu(block(maps_BCHW), inplace=True)
            if index < self.num_pools:
                maps_BCHW = F.max_pool2d(maps_BCHW, 2)
        features_BD = maps_BCHW.mean((2, 3))
        return Output(self.classifier(features_BD), features_BD)


def _block(widths: tuple[int, ...]) -> nn.Sequential:
    """Convolutions with batch norm, an activation between them and none at the end."""
    layers: list[nn.Module] = []
    for width_in, width in pairwise(widths):
        layers += [nn.Conv2d(width_in, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


vgg11 = Vgg11

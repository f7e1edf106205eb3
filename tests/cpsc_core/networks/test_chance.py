"""Networks draw nothing at random, whoever wrote them."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from cpsc_core.images import ImageSpec
from cpsc_core.networks.output import Network, Output
from cpsc_core.tables import NETWORKS
from cpsc_core.weights import build_network

IMAGES = ImageSpec(num_classes=3, channels=1, size=16, mean=(0.0,), std=(1.0,))


class Forgetful(Network):
    """A network with dropout of units, of maps, of paths and of attention."""

    def __init__(self, *, num_classes: int, channels: int, size: int) -> None:
        super().__init__(feature_dim=6, size=size)
        self.maps = nn.Sequential(
            nn.Conv2d(channels, 6, 3), nn.Dropout2d(0.5), StochasticDepth(0.5, "row"), nn.Dropout(0.5)
        )
        self.attend = nn.TransformerEncoderLayer(6, nhead=2, dim_feedforward=8, dropout=0.5, batch_first=True)
        self.decide = nn.Linear(6, num_classes)

    def forward(self, x_BCHW: Tensor) -> Output:
        features_BD = self.attend(self.maps(x_BCHW).flatten(2).mT).mean(1)
        return Output(self.decide(features_BD), features_BD)


def test_a_network_of_ones_own_with_dropout_answers_twice_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS._entries, "forgetful", f"{__name__}:Forgetful")
    network = build_network("forgetful", IMAGES)
    images_BCHW = torch.randn(8, 1, 16, 16)

    assert network.training
    assert torch.equal(network(images_BCHW).logits_BC, network(images_BCHW).logits_BC)

import pytest
import torch
from torch import Tensor, nn

from cpsc_core.distill.folded import fold_batch_norm
from cpsc_core.images import ImageSpec
from cpsc_core.networks.output import Network, Output
from cpsc_core.tables import NETWORKS, lookup

IMAGE = ImageSpec(num_classes=10, channels=3, size=32, mean=(0.5,) * 3, std=(0.5,) * 3)


def experienced(network: nn.Module) -> nn.Module:
    """With statistics of its own in every batch norm layer, in double precision."""
    torch.manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
            layer.running_mean = torch.randn(layer.num_features)
            layer.running_var = torch.rand(layer.num_features) + 0.5
    return network.double().eval().requires_grad_(False)


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = lookup(NETWORKS, name)(num_classes=10, channels=3, size=32)
    return experienced(network)


def count_batch_norm(network: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


@pytest.mark.parametrize(
    ("name", "left"),
    [("resnet20", 0), ("resnet18", 0), ("vgg11", 0), ("wrn16_2", 6), ("torchvision:resnet18", 0)],
)
def test_a_folded_network_says_the_same_with_less_batch_norm(name: str, left: int) -> None:
    network = build(name)
    images_BCHW = torch.randn(4, 3, 32, 32).double()

    folded = fold_batch_norm(network, IMAGE)

    assert count_batch_norm(folded) == left
    for ours, theirs in zip(folded(images_BCHW), network(images_BCHW), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_the_network_itself_keeps_every_layer_and_tensor() -> None:
    network = build("resnet20")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    fold_batch_norm(network, IMAGE)

    assert count_batch_norm(network) == 19
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())
    assert not any(layer._forward_hooks for layer in network.modules())


class Forked(Network):
    """What its convolution returns is read by a batch norm and by something else."""

    def __init__(self) -> None:
        super().__init__(feature_dim=4, size=32)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4, 10)

    def forward(self, x_BCHW: Tensor) -> Output:
        maps_BCHW = self.conv(x_BCHW)
        features_BD = (self.norm(maps_BCHW) + maps_BCHW).mean((2, 3))
        return Output(self.linear(features_BD), features_BD)


class Repeated(Forked):
    """One batch norm for two convolutions."""

    def forward(self, x_BCHW: Tensor) -> Output:
        maps_BCHW = self.norm(self.conv(x_BCHW))
        features_BD = (maps_BCHW + self.norm(self.conv(x_BCHW.flip(3)))).mean((2, 3))
        return Output(self.linear(features_BD), features_BD)


@pytest.mark.parametrize("kind", [Forked, Repeated])
def test_a_network_that_folding_would_change_is_left_as_it_is(kind: type[Forked]) -> None:
    network = experienced(kind())
    images_BCHW = torch.randn(4, 3, 32, 32).double()

    folded = fold_batch_norm(network, IMAGE)

    assert count_batch_norm(folded) == 1
    assert torch.equal(folded(images_BCHW).logits_BC, network(images_BCHW).logits_BC)

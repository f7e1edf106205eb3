import pytest
import torch
from torch import Tensor, nn

from cpsc_core.distill.batch_norm import WatchedNetwork, distance_from_memory
from cpsc_core.distill.recompute import recompute_blocks
from cpsc_core.tables import NETWORKS, lookup

IMAGES_BCHW = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = lookup(NETWORKS, name)(num_classes=10, channels=3, size=32)
    return network.train()


def learn(network: nn.Module) -> dict[str, Tensor]:
    """All gradients of one step, and what the network remembers after it."""
    images_BCHW = IMAGES_BCHW.clone().requires_grad_()
    logits_BC, features_BD = network(images_BCHW)
    (logits_BC.square().mean() + features_BD.square().mean()).backward()
    gradients = {f"grad {name}": each.grad for name, each in network.named_parameters()}
    return {"images": images_BCHW.grad, **gradients, **network.state_dict()}


@pytest.mark.parametrize("name", ["resnet20", "wrn16_2", "vgg11", "torchvision:resnet18"])
def test_recomputed_blocks_give_the_same_gradients_and_memory_to_the_bit(name: str) -> None:
    usual, frugal = build(name), build(name)
    recompute_blocks(frugal)

    expected, actual = learn(usual), learn(frugal)

    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[key], actual[key]) for key in expected)


def test_under_autocast_too() -> None:
    usual, frugal = build("wrn16_2"), build("wrn16_2")
    recompute_blocks(frugal)

    with torch.autocast("cpu", torch.bfloat16):
        expected, actual = learn(usual), learn(frugal)

    assert all(torch.equal(expected[key], actual[key]) for key in expected)


def kept_bytes(network: nn.Module) -> int:
    """What a forward pass keeps for the gradients, outside of recomputed blocks."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(IMAGES_BCHW.clone().requires_grad_())
    return sum(kept.values())


@pytest.mark.parametrize("name", ["resnet20", "wrn40_2", "vgg11"])
def test_less_is_kept(name: str) -> None:
    usual, frugal = build(name), build(name)
    recompute_blocks(frugal)

    assert kept_bytes(frugal) < kept_bytes(usual) / 3


def test_the_statistics_of_a_watched_network_are_told_once_and_pull_the_same_way() -> None:
    teacher = build("wrn16_2").eval().requires_grad_(False)
    pulls = []
    for recompute in (False, True):
        watched = WatchedNetwork(teacher)
        if recompute:
            recompute_blocks(watched.network)
        images_BCHW = IMAGES_BCHW.clone().requires_grad_()
        _, seen = watched(images_BCHW)
        distance_from_memory(seen).backward()
        assert len(seen) == 13
        pulls.append(images_BCHW.grad)

    assert torch.equal(*pulls)


def test_without_gradients_nothing_is_run_twice() -> None:
    network, calls = build("resnet20"), []
    network.conv1.register_forward_hook(lambda *_: calls.append(1))
    recompute_blocks(network)

    with torch.no_grad():
        network(IMAGES_BCHW)

    assert len(calls) == 1


def test_a_block_may_be_told_something_by_name() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x_BD: Tensor, *, by: float) -> Tensor:
            result: Tensor = self.inner(x_BD) * by
            return result

    block = Scaled()
    recompute_blocks(block)
    x_BD = torch.ones(2, 3, requires_grad=True)

    block(x_BD, by=3.0).sum().backward()

    assert x_BD.grad is not None
    torch.testing.assert_close(x_BD.grad, 3.0 * block.inner.weight.sum(0).expand(2, 3))

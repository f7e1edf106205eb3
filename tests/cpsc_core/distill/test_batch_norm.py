import pytest
import torch
from torch import Tensor, nn

from cpsc_core.distill.batch_norm import (
    WatchedNetwork,
    distance_from_memory,
    forgetting_batch_norm,
    remembering_aside,
)
from cpsc_core.distill.losses import statistics_distance
from cpsc_core.errors import SettingsError
from cpsc_core.networks.cifar_resnet import resnet8


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.ReLU(), nn.BatchNorm2d(3)).eval()


@pytest.fixture
def images_BCHW() -> Tensor:  # noqa: N802
    return torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(1))


def test_the_loss_adds_the_distances_of_what_each_layer_is_given(
    network: nn.Module, images_BCHW: Tensor
) -> None:
    _, seen = WatchedNetwork(network)(images_BCHW)

    first, last = network[0], network[3]
    inner_BCHW = network[2](network[1](first(images_BCHW)))
    by_hand = statistics_distance(images_BCHW, first.running_mean, first.running_var)
    by_hand += statistics_distance(inner_BCHW, last.running_mean, last.running_var)
    torch.testing.assert_close(distance_from_memory(seen), by_hand)


def test_the_loss_pulls_the_images_towards_the_statistics(network: nn.Module, images_BCHW: Tensor) -> None:
    images_BCHW = (5 * images_BCHW + 3).requires_grad_()
    watched, losses = WatchedNetwork(network), []
    for _ in range(20):
        _, seen = watched(images_BCHW)
        losses.append(distance_from_memory(seen))
        (gradient_BCHW,) = torch.autograd.grad(losses[-1], images_BCHW)
        images_BCHW = (images_BCHW - 3 * gradient_BCHW).detach().requires_grad_()

    assert losses[-1] < 0.8 * losses[0]


def test_the_network_itself_is_left_as_it_is_and_shares_its_tensors(network: nn.Module) -> None:
    watched = WatchedNetwork(network)

    assert not any(layer._forward_pre_hooks for layer in network.modules())
    ours = {tensor.data_ptr() for tensor in watched.state_dict().values()}
    assert ours == {tensor.data_ptr() for tensor in network.state_dict().values()}


def test_a_layer_that_is_run_twice_is_compared_with_its_memory_twice(images_BCHW: Tensor) -> None:
    layer = nn.BatchNorm2d(2).eval()

    _, seen = WatchedNetwork(nn.Sequential(layer, layer))(images_BCHW)

    by_hand = sum(
        statistics_distance(x_BCHW, torch.zeros(2), torch.ones(2))
        for x_BCHW in (images_BCHW, layer(images_BCHW))
    )
    torch.testing.assert_close(distance_from_memory(seen), by_hand)


def test_a_pass_that_fails_leaves_nothing_for_the_next(network: nn.Module, images_BCHW: Tensor) -> None:
    watched = WatchedNetwork(network)
    with pytest.raises(RuntimeError):
        watched(torch.zeros(1, 7, 5, 5))

    assert len(watched(images_BCHW)[1]) == 2


def test_half_precision_inputs_are_measured_in_single_precision(
    network: nn.Module, images_BCHW: Tensor
) -> None:
    _, seen = WatchedNetwork(network[:1])(images_BCHW.bfloat16())

    exact = statistics_distance(
        images_BCHW.bfloat16().float(), network[0].running_mean, network[0].running_var
    )
    torch.testing.assert_close(distance_from_memory(seen), exact)


def test_a_network_without_batch_norm_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"Sequential has no BatchNorm2d.*set loss\.batch_norm to 0"):
        WatchedNetwork(nn.Sequential(nn.Conv2d(3, 3, 1)))


def test_forgetting_uses_batch_statistics_and_remembers_none() -> None:
    torch.manual_seed(0)
    network = resnet8(num_classes=4, channels=1, size=16).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images_BCHW = torch.randn(8, 1, 16, 16) * 3

    with forgetting_batch_norm(network):
        forgotten = network(images_BCHW)
    after_forgetting = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    remembered = network(images_BCHW)

    assert torch.equal(forgotten.logits_BC, remembered.logits_BC)
    assert all(torch.equal(before[name], after_forgetting[name]) for name in before)
    assert not torch.equal(before["bn1.running_mean"], network.state_dict()["bn1.running_mean"])


def test_what_is_remembered_aside_is_thrown_away() -> None:
    torch.manual_seed(0)
    network = resnet8(num_classes=4, channels=1, size=16).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images_BCHW = torch.randn(8, 1, 16, 16) * 3

    with remembering_aside(network):
        aside = network(images_BCHW)
        assert not torch.equal(before["bn1.running_mean"], network.state_dict()["bn1.running_mean"])

    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())
    assert torch.equal(aside.logits_BC, network(images_BCHW).logits_BC)


def test_vectors_are_remembered_aside_too() -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    with remembering_aside(network):
        network(torch.randn(4, 3, 2, 2))

    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cpsc_core.errors import SettingsError
from cpsc_core.networks.output import Network, Output
from cpsc_core.tables import NETWORKS, lookup

# Parameters with 100 classes (0: nobody published a count), BatchNorm2d layers, feature width.
PUBLISHED = {
    "resnet8": (0, 7, 64),
    "resnet20": (0, 19, 64),
    "resnet20_b": (0, 21, 64),
    "resnet32": (0, 31, 64),
    "resnet32_b": (0, 33, 64),
    "resnet44": (0, 43, 64),
    "resnet44_b": (0, 45, 64),
    "resnet56": (0, 55, 64),
    "resnet56_b": (0, 57, 64),
    "resnet18": (11.22e6, 20, 512),
    "resnet34": (21.33e6, 36, 512),
    "resnet50": (0, 53, 2048),
    "vgg11": (9.28e6, 8, 512),
    "wrn16_1": (0.181e6, 13, 64),
    "wrn16_2": (0.703e6, 13, 128),
    "wrn40_1": (0.570e6, 37, 64),
    "wrn40_2": (2.255e6, 37, 128),
}
# Parameters with 10 classes as He et al. 2016 print them in table 6.
NARROW = {"resnet20": 0.27e6, "resnet32": 0.46e6, "resnet44": 0.66e6, "resnet56": 0.85e6}


def build(name: str, *, num_classes: int = 100, channels: int = 3, size: int = 32) -> Network:
    network: Network = lookup(NETWORKS, name)(num_classes=num_classes, channels=channels, size=size)
    return network


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_every_network_of_the_table_is_counted_here() -> None:
    assert sorted(PUBLISHED) == sorted(NETWORKS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_has_the_published_size(name: str) -> None:
    parameters, batch_norms, width = PUBLISHED[name]

    with torch.device("meta"):
        network = build(name)

    if parameters:
        assert count_parameters(network) == pytest.approx(parameters, rel=3e-3)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()) == batch_norms
    assert network.feature_dim == width


@pytest.mark.parametrize("name", NARROW)
def test_a_narrow_network_has_the_size_in_the_paper(name: str) -> None:
    with torch.device("meta"):
        network = build(name, num_classes=10)

    assert count_parameters(network) == pytest.approx(NARROW[name], abs=0.0101e6)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 64), (3, 18)])
def test_a_network_takes_grey_and_colour_images_of_any_size(name: str, channels: int, size: int) -> None:
    with torch.device("meta"):
        network = build(name, num_classes=7, channels=channels, size=size)
        output = network(torch.zeros(2, channels, size, size))

    assert isinstance(output, Output)
    assert output.logits_BC.shape == (2, 7)
    assert output.features_BD.shape == (2, network.feature_dim)


@pytest.mark.parametrize("name", ["resnet8", "wrn16_1", "vgg11", "resnet18"])
def test_features_are_what_the_classifier_sees_and_are_not_normalised(name: str) -> None:
    torch.manual_seed(0)
    network = build(name, num_classes=7, size=16).eval()
    classifier = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]

    output = network(torch.randn(3, 3, 16, 16))

    torch.testing.assert_close(classifier(output.features_BD), output.logits_BC)
    assert not torch.allclose(output.features_BD.norm(dim=1), torch.ones(3), atol=1e-2)


@pytest.mark.parametrize("name", ["resnet8", "vgg11"])
def test_images_that_are_too_small_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="at least 16 pixels, but they have 12"):
        build(name, size=12)


def test_a_shortcut_that_changes_shape_subsamples_and_pads_with_zeros() -> None:
    block = build("resnet8").get_submodule("layer2.0")
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x_BCHW = torch.rand(2, 16, 8, 8)

    y_BCHW = block(x_BCHW)

    torch.testing.assert_close(y_BCHW[:, 8:24], x_BCHW[:, :, ::2, ::2])
    assert y_BCHW[:, :8].count_nonzero() == y_BCHW[:, 24:].count_nonzero() == 0


def test_a_shortcut_that_changes_shape_may_be_a_projection() -> None:
    block = build("resnet20_b").get_submodule("layer2.0").eval()
    x_BCHW = torch.rand(2, 16, 8, 8)

    y_BCHW = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x_BCHW)))))
    by_hand_BCHW = F.relu(y_BCHW + block.shortcut[1](block.shortcut[0](x_BCHW)))

    torch.testing.assert_close(block(x_BCHW), by_hand_BCHW)
    assert block.shortcut[0].weight.shape == (32, 16, 1, 1)


def test_the_fourth_block_of_vgg_is_pooled_for_large_images_only() -> None:
    shapes = {}
    for size in (32, 64):
        network = build("vgg11", size=size)
        network.get_submodule("blocks.4").register_forward_pre_hook(
            lambda _, inputs, size=size: shapes.update({size: inputs[0].shape[-1]})
        )
        network.eval()(torch.zeros(1, 3, size, size))

    assert shapes == {32: 4, 64: 4}


def test_wide_residual_blocks_start_both_paths_from_the_activated_input_where_width_changes() -> None:
    torch.manual_seed(0)
    block = build("wrn16_2").get_submodule("block1.0").eval()
    x_BCHW = torch.randn(2, 16, 8, 8)

    active_BCHW = F.relu(block.bn1(x_BCHW))
    by_hand_BCHW = block.shortcut(active_BCHW) + block.conv2(F.relu(block.bn2(block.conv1(active_BCHW))))

    torch.testing.assert_close(block(x_BCHW), by_hand_BCHW)

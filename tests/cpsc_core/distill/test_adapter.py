from collections.abc import Callable

import pytest
import torch
from torch import nn

from cpsc_core.distill.adapter import build_adapter
from cpsc_core.errors import SettingsError
from cpsc_core.images import ImageSpec
from cpsc_core.networks.cifar_resnet import resnet8
from cpsc_core.networks.wide_resnet import wrn16_1, wrn16_2

IMAGE = ImageSpec(num_classes=4, channels=1, size=16, mean=(0.5,), std=(0.5,))


def network(build: Callable[..., nn.Module] = wrn16_1, num_classes: int = 4) -> nn.Module:
    return build(num_classes=num_classes, channels=1, size=16)


def test_features_of_equal_width_are_compared_as_they_are() -> None:
    features_BD = torch.randn(3, 64)

    assert torch.equal(build_adapter(network(), network(resnet8), IMAGE)(features_BD), features_BD)


def test_narrow_features_are_mapped_to_the_width_of_the_teacher() -> None:
    adapter = build_adapter(network(), network(wrn16_2), IMAGE)

    assert adapter(torch.randn(3, 64)).shape == (3, 128)
    assert [tuple(weight.shape) for weight in adapter.parameters()] == [(64, 64), (64,), (128, 64), (128,)]


@pytest.mark.parametrize("mode", [True, False])
def test_measuring_the_width_leaves_a_network_as_it_was(mode: bool) -> None:
    student = network().train(mode)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}

    build_adapter(student, network(), IMAGE)

    assert student.training is mode
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())


def test_networks_that_tell_other_classes_apart_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"the teacher tells 7 classes apart, but the data set has 4"):
        build_adapter(network(), network(num_classes=7), IMAGE)
    with pytest.raises(SettingsError, match=r"the student tells 7 classes apart, but the data set has 4"):
        build_adapter(network(num_classes=7), network(), IMAGE)

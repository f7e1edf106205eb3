import re

import pytest
import torch
from torch import Tensor

from cpsc_core.images import ImageSpec
from cpsc_core.networks.zoo import layer_names, unwrapped
from cpsc_core.weights import build_network

COLOUR = ImageSpec(num_classes=10, channels=3, size=32, mean=(0.0,) * 3, std=(1.0,) * 3)

THEIRS = {
    "DAFL and CMI ResNet": ("resnet34", []),
    "pytorch_resnet_cifar10": ("resnet20", []),
    "pytorch-cifar-models": ("resnet20_b", [(r"\.shortcut\.", ".downsample."), ("^linear", "fc")]),
    "layer names of torchvision": ("resnet18", [(r"\.shortcut\.", ".downsample."), ("^linear", "fc")]),
    "ZSKT, CMI and CPSC wide ResNet": (
        "wrn40_2",
        [(r"^block(\d)\.(\d+)", r"block\1.layer.\2"), (r"\.shortcut\.", ".convShortcut.")],
    ),
    "RepDistiller and CMI VGG": ("vgg11", [(r"^blocks\.(\d)", r"block\1")]),
    "pytorch-cifar100": (
        "resnet50",
        [
            (r"^conv1\.", "conv1.0."),
            (r"^bn1\.", "conv1.1."),
            (r"\.conv1\.", ".residual_function.0."),
            (r"\.bn1\.", ".residual_function.1."),
            (r"\.conv2\.", ".residual_function.3."),
            (r"\.bn2\.", ".residual_function.4."),
            (r"\.conv3\.", ".residual_function.6."),
            (r"\.bn3\.", ".residual_function.7."),
            *((rf"^layer{stage}\.", f"conv{stage + 1}_x.") for stage in range(1, 5)),
            ("^linear", "fc"),
        ],
    ),
}
"""Our network, and what a collection calls its layers."""


def named(state: dict[str, Tensor], rules: list[tuple[str, str]]) -> dict[str, Tensor]:
    names = {}
    for name in state:
        theirs = name
        for pattern, replacement in rules:
            theirs = re.sub(pattern, replacement, theirs)
        names[theirs] = state[name]
    return names


@pytest.mark.parametrize("collection", THEIRS)
def test_the_names_of_a_collection_become_ours(collection: str) -> None:
    arch, rules = THEIRS[collection]
    with torch.device("meta"):
        state = dict(build_network(arch, COLOUR).state_dict())
    theirs = named(state, rules)

    ours = layer_names(theirs, state.keys())

    assert len(theirs) == len(state)
    assert {name: id(tensor) for name, tensor in ours.items()} == {name: id(state[name]) for name in state}


def test_a_network_whose_own_names_look_like_a_wrapper_keeps_them() -> None:
    own = {"net.0.weight": torch.zeros(1), "net.0.bias": torch.zeros(1)}

    assert layer_names(own, own.keys()).keys() == own.keys()
    assert layer_names({f"module.{name}": own[name] for name in own}, own.keys()).keys() == own.keys()


def test_names_that_do_not_all_fit_are_left_as_they_are() -> None:
    with torch.device("meta"):
        state = dict(build_network("resnet8", COLOUR).state_dict())
    theirs = {name.replace("linear", "fc"): tensor for name, tensor in state.items()} | {
        "extra": torch.zeros(1)
    }

    assert layer_names(theirs, state.keys()).keys() == theirs.keys()


@pytest.mark.parametrize("prefix", ["module.", "model.", "net.module.", "_orig_mod.", ""])
def test_wrappers_are_taken_off_one_by_one(prefix: str) -> None:
    forms = list(unwrapped({f"{prefix}conv1.w": torch.zeros(1), f"{prefix}fc.b": torch.ones(1)}))

    assert len(forms) == prefix.count(".") + 1
    assert forms[-1].keys() == {"conv1.w", "fc.b"}


def test_a_prefix_that_not_all_share_stays() -> None:
    names = {"model.w": torch.zeros(1), "head.w": torch.zeros(1)}

    assert [form.keys() for form in unwrapped(names)] == [names.keys()]

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from cpsc_core.attempt import AttemptPaths
from cpsc_core.distill.batch_norm import batch_norm_layers
from cpsc_core.distill.trainer import Trainer
from cpsc_core.errors import SettingsError, UnknownNameError
from cpsc_core.images import ImageSpec
from cpsc_core.networks import offered
from cpsc_core.networks.output import Output
from cpsc_core.settings import TeacherSettings, TrainSettings
from cpsc_core.tables import NETWORKS, lookup
from cpsc_core.teacher import import_checkpoint
from cpsc_core.trial import run_trial
from cpsc_core.weights import build_network
from tests.support.trials import digest, finish, tiny_trial

timm = pytest.importorskip("timm")

# Heads of every kind: linear, a convolution (dla34, resnetv2_50), two at once (swiftformer), with helpers
# (googlenet), of fixed image size (coatnet), behind a hidden layer (mobilenet_v3_small, vgg11_bn).
NETWORKS_HERE = [
    ("torchvision:resnet18", 1, 16),
    ("torchvision:vgg11_bn", 1, 32),
    ("torchvision:mobilenet_v3_small", 3, 16),
    ("torchvision:shufflenet_v2_x0_5", 3, 224),
    ("torchvision:googlenet", 1, 64),
    ("timm:test_resnet", 1, 16),
    ("timm:test_efficientnet", 3, 224),
    ("timm:dla34", 1, 32),
    ("timm:resnetv2_50", 3, 64),
    ("timm:swiftformer_xs", 3, 16),
    ("timm:coatnet_pico_rw_224", 1, 64),
]
COLOUR = ImageSpec(num_classes=7, channels=3, size=32, mean=(0.5,) * 3, std=(0.5,) * 3)


def build(arch: str, *, num_classes: int = 7, channels: int = 3, size: int = 32) -> Any:
    return lookup(NETWORKS, arch)(num_classes=num_classes, channels=channels, size=size)


@pytest.mark.parametrize(("arch", "channels", "size"), NETWORKS_HERE)
def test_a_network_of_a_library_gives_logits_and_features_and_says_their_width(
    arch: str, channels: int, size: int
) -> None:
    with torch.device("meta"):
        network = build(arch, channels=channels, size=size)
        output = network(torch.zeros(2, channels, size, size))

    assert isinstance(output, Output)
    assert output.logits_BC.shape == (2, 7)
    assert output.features_BD.shape == (2, network.feature_dim)
    assert network.training


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_torchvision_computes_the_same_from_our_weights(name: str) -> None:
    network = build(f"torchvision:{name}").eval()
    plain = models.get_model(name, weights=None, num_classes=7).eval()
    plain.load_state_dict(network.state_dict())
    images_BCHW = torch.randn(3, 3, 32, 32)
    inside = {"mobilenet_v3_small": "classifier.2", "shufflenet_v2_x0_5": "mean"}[name]

    with torch.no_grad():
        output = network(images_BCHW)
        features_BD = create_feature_extractor(plain, [inside])(images_BCHW)[inside]
        torch.testing.assert_close(output.logits_BC, plain(images_BCHW))

    torch.testing.assert_close(output.features_BD, features_BD)


@pytest.mark.parametrize("name", ["test_resnet", "swiftformer_xs", "dla46_c", "levit_128s"])
def test_timm_computes_the_same_from_our_weights(name: str) -> None:
    network = build(f"timm:{name}").eval()
    options = {"img_size": 32} if name == "levit_128s" else {}
    plain = timm.create_model(name, num_classes=7, **options).eval()
    plain.load_state_dict(network.state_dict())
    images_BCHW = torch.randn(3, 3, 32, 32)

    with torch.no_grad():
        output = network(images_BCHW)
        torch.testing.assert_close(output.logits_BC, plain(images_BCHW))
        features_BD = plain.forward_head(plain.forward_features(images_BCHW), pre_logits=True)

    torch.testing.assert_close(output.features_BD, features_BD)


@pytest.mark.parametrize("name", ["volo_d1_224", "deit_tiny_distilled_patch16_224"])
def test_a_network_whose_logits_are_made_of_more_than_its_features_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"timm:{name} makes its logits from more than one vector"):
        build(f"timm:{name}", size=224)


def test_looking_at_a_network_leaves_its_weights_and_the_global_stream_alone() -> None:
    torch.manual_seed(3)
    looked_at = build("timm:test_resnet").state_dict()
    after = torch.rand(1)
    torch.manual_seed(3)
    plain = timm.create_model("test_resnet", num_classes=7).state_dict()

    assert torch.equal(torch.rand(1), after)
    assert all(torch.equal(looked_at[name], tensor) for name, tensor in plain.items())


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "mnasnet0_5"])  # the second has versions of weights
def test_a_checkpoint_made_with_the_library_alone_is_a_teacher(tmp_path: Path, name: str) -> None:
    plain = models.get_model(name, weights=None, num_classes=7).eval()
    torch.save({"state_dict": plain.state_dict()}, tmp_path / "t.pth")

    teacher = import_checkpoint(tmp_path / "t.pth", f"torchvision:{name}", COLOUR)

    images_BCHW = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(teacher(images_BCHW).logits_BC, plain(images_BCHW))


@pytest.mark.parametrize("arch", ["torchvision:efficientnet_b0", "timm:test_efficientnet"])
def test_nothing_is_drawn_at_random_in_training(arch: str) -> None:
    network = build_network(arch, COLOUR)
    images_BCHW = torch.randn(4, 3, 32, 32)

    first, second = (network(images_BCHW).logits_BC for _ in range(2))

    assert torch.equal(first, second)


def test_a_copy_computes_with_its_own_weights() -> None:
    network = build("timm:test_resnet").eval()
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.get_classifier().bias += 1
    images_BCHW = torch.randn(2, 3, 32, 32)

    torch.testing.assert_close(other(images_BCHW).logits_BC, network(images_BCHW).logits_BC + 1)


def test_a_student_of_a_library_is_resumed_to_the_bit(tmp_path: Path, teacher: TeacherSettings) -> None:
    settings = replace(tiny_trial(teacher), student_arch="torchvision:mobilenet_v3_small")
    lines = run_trial(settings, tmp_path / "b", 1, threads=1)
    next(lines)
    lines.close()
    torch.manual_seed(99)

    assert digest(finish(settings, tmp_path / "b", 2)) == digest(finish(settings, tmp_path / "a"))
    assert AttemptPaths.of(tmp_path / "b", 2).student.exists()


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_the_names_read_from_the_sources_are_those_the_library_lists(library: str) -> None:
    listed: dict[str, Callable[[], list[str]]] = {
        "timm": lambda: timm.list_models(exclude_filters=""),
        "torchvision": lambda: models.list_models(module=models),
    }

    assert set(offered.offered_names(library)) == set(listed[library]())


def test_a_name_that_the_library_lacks_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"torchvision offers no classifier called 'resnet19'; .*resnet18"
    ):
        build("torchvision:resnet19")


@pytest.mark.parametrize(
    ("arch", "size", "complaint"),
    [
        (
            "torchvision:vgg11_bn",
            16,
            r"vgg11_bn cannot take images of 3 x 16 x 16 pixels \(.*\); choose another",
        ),
        ("torchvision:squeezenet1_1", 32, "squeezenet1_1 does not end in a linear layer; choose another"),
        (
            "timm:test_resnet",
            12,
            "timm:test_resnet needs images of at least 16 pixels, but they have 12; enlarge",
        ),
        ("timm:crossvit_15_240", 240, "timm:crossvit_15_240 cannot take images of .* choose another"),
    ],
)
def test_a_network_that_cannot_serve_is_refused_with_what_to_change(
    arch: str, size: int, complaint: str
) -> None:
    with torch.device("meta"), pytest.raises(SettingsError, match=complaint):
        build(arch, size=size)


def test_a_teacher_without_batch_norm_is_refused_while_its_loss_is_on() -> None:
    teacher, student = build("timm:test_convnext"), build("timm:test_resnet")
    assert not batch_norm_layers(teacher)

    with pytest.raises(SettingsError, match=r"no BatchNorm2d layer.*; set loss\.batch_norm to 0, or distil"):
        Trainer(TrainSettings(batch_size=8), teacher=teacher, student=student, image=COLOUR)


def test_a_grey_network_has_the_first_convolution_of_one_channel() -> None:
    grey, colour = (build("torchvision:resnet18", channels=channels).state_dict() for channels in (1, 3))

    different = {name: tensor.shape for name, tensor in grey.items() if tensor.shape != colour[name].shape}

    assert different == {"conv1.weight": (64, 1, 7, 7)}

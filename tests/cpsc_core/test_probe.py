from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from cpsc_core import probe as module
from cpsc_core.data.digits import DIGITS
from cpsc_core.data.labelled import LabelledImages
from cpsc_core.distill.batch_norm import WatchedNetwork, distance_from_memory
from cpsc_core.errors import TeacherError
from cpsc_core.images import ImageSpec
from cpsc_core.networks.output import Output
from cpsc_core.probe import confident_share, load_probe, make_probe, save_probe
from cpsc_core.process import using_threads
from cpsc_core.settings import DataSettings, TeacherTraining
from cpsc_core.teacher_training import train_teacher
from cpsc_core.weights import build_network


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with using_threads(1):
        yield


@pytest.fixture(scope="module")
def taught() -> nn.Module:
    """A ResNet-8 that has seen the digits for a few epochs."""
    training = TeacherTraining(epochs=4, batch_size=32, augment=False)
    *_, last = train_teacher("resnet8", DataSettings(name="digits"), training, threads=1)
    return last.network


def test_a_teacher_recognises_what_it_was_asked_to_imagine(taught: nn.Module) -> None:
    probe = make_probe(taught, DIGITS.spec, count=40)

    assert confident_share(taught, probe) > 0.9
    assert torch.bincount(probe.labels_B).tolist() == [4] * 10


def test_imagined_images_have_the_statistics_that_the_teacher_remembers(taught: nn.Module) -> None:
    noise_BCHW = torch.randn(40, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    distances = []
    for images_BCHW in (noise_BCHW, make_probe(taught, DIGITS.spec, count=40).images_BCHW):
        with module.evaluating(taught), torch.no_grad():
            _, seen = WatchedNetwork(taught)(images_BCHW)
        distances.append(float(distance_from_memory(seen)))

    assert distances[1] < distances[0] / 2


def test_the_same_teacher_imagines_the_same_images(
    monkeypatch: pytest.MonkeyPatch, taught: nn.Module
) -> None:
    monkeypatch.setattr(module, "STEPS", 3)
    torch.manual_seed(1)
    first = make_probe(taught, DIGITS.spec, count=20)
    torch.manual_seed(2)

    assert torch.equal(make_probe(taught, DIGITS.spec, count=20).images_BCHW, first.images_BCHW)


def test_imagining_leaves_the_teacher_as_it_was(monkeypatch: pytest.MonkeyPatch, taught: nn.Module) -> None:
    monkeypatch.setattr(module, "STEPS", 2)
    before = {name: tensor.clone() for name, tensor in taught.state_dict().items()}
    for parameter in taught.parameters():
        parameter.grad = None
    taught.train()

    make_probe(taught, DIGITS.spec, count=20)

    assert taught.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in taught.state_dict().items())
    assert all(parameter.grad is None for parameter in taught.parameters())


def test_pixels_are_between_black_and_white(monkeypatch: pytest.MonkeyPatch, taught: nn.Module) -> None:
    monkeypatch.setattr(module, "STEPS", 2)
    images_BCHW = make_probe(taught, DIGITS.spec, count=20).images_BCHW

    assert float(images_BCHW.min()) == pytest.approx(DIGITS.spec.level(0)[0])
    assert float(images_BCHW.max()) == pytest.approx(DIGITS.spec.level(1)[0])


@pytest.mark.parametrize(("classes", "count", "made"), [(3, 10, 9), (7, 2, 14), (4, 250, 248)])
def test_every_class_is_imagined_as_often_and_twice_at_least(
    monkeypatch: pytest.MonkeyPatch, classes: int, count: int, made: int
) -> None:
    monkeypatch.setattr(module, "STEPS", 1)
    spec = ImageSpec(num_classes=classes, channels=1, size=16, mean=(0.5,), std=(0.5,))
    signs: list[int] = []

    probe = make_probe(build_network("resnet8", spec), spec, count=count, on_step=lambda: signs.append(1))

    assert torch.bincount(probe.labels_B).tolist() == [made // classes] * classes
    assert len(signs) == -(-made // module.BATCH_SIZE)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(256, 10)

    def forward(self, x_BCHW: torch.Tensor) -> Output:
        return Output(self.linear(x_BCHW.flatten(1)), x_BCHW.flatten(1))


def test_a_teacher_without_batch_norm_imagines_classes_only() -> None:
    teacher = Plain()

    assert confident_share(teacher, make_probe(teacher, DIGITS.spec, count=20)) == 1.0


def test_a_share_counts_the_intended_class_only() -> None:
    teacher = Plain()
    with torch.no_grad():
        teacher.linear.weight.zero_()
        teacher.linear.bias.copy_(torch.tensor([9.0] + [0.0] * 9))

    assert (
        confident_share(teacher, LabelledImages(torch.zeros(4, 1, 16, 16), torch.tensor([0, 0, 0, 1])))
        == 0.75
    )


def test_probe_images_come_back(tmp_path: Path) -> None:
    probe = LabelledImages(torch.randn(4, 1, 16, 16), torch.arange(4))

    save_probe(tmp_path / "probe.safetensors", probe)

    loaded = load_probe(tmp_path / "probe.safetensors", DIGITS.spec)
    assert torch.equal(loaded.images_BCHW, probe.images_BCHW)
    assert torch.equal(loaded.labels_B, probe.labels_B)


def test_probe_images_of_another_shape_are_refused(tmp_path: Path) -> None:
    save_probe(tmp_path / "p.safetensors", LabelledImages(torch.zeros(2, 3, 32, 32), torch.arange(2)))

    with pytest.raises(TeacherError, match=r"images of shape \(1, 16, 16\), but holds .*\(2, 3, 32, 32\)"):
        load_probe(tmp_path / "p.safetensors", DIGITS.spec)


def test_missing_probe_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"p\.safetensors cannot be read"):
        load_probe(tmp_path / "p.safetensors", DIGITS.spec)


@pytest.mark.slow
def test_the_digits_have_a_teacher_that_is_worth_distilling() -> None:
    training = TeacherTraining(epochs=20, batch_size=64, lr=0.05, weight_decay=0.02)

    *_, last = train_teacher("resnet20", DataSettings(name="digits"), training, threads=1)

    assert min(last.accuracy.values()) >= 0.985
    assert confident_share(last.network, make_probe(last.network, DIGITS.spec)) >= 0.98

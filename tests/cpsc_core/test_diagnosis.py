from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from cpsc_core.data.labelled import LabelledImages
from cpsc_core.data.normalization import NORMALIZATIONS
from cpsc_core.data.pixels import HeldPixels
from cpsc_core.diagnosis import Reading, best_reading, check_accuracy
from cpsc_core.errors import TeacherError
from cpsc_core.evaluate import accuracy
from cpsc_core.images import ImageSpec
from cpsc_core.networks.output import Output

NAMES = tuple("abcd")
SPEC = ImageSpec(num_classes=4, channels=3, size=8, mean=(0.0,) * 3, std=(1.0,) * 3)


class Expert(nn.Module):
    """Knows the four classes exactly, of images that are prepared in one way."""

    def __init__(self, prepared: Callable[[Tensor], Tensor], order: list[int] | None = None) -> None:
        super().__init__()
        self.prepared = prepared
        self.order = order or [0, 1, 2, 3]

    def forward(self, x_BCHW: Tensor) -> Output:
        means_B3 = x_BCHW.mean((2, 3))
        known_43 = self.prepared(colours().view(4, 3, 1, 1)).mean((2, 3))
        logits_BC = -torch.cdist(means_B3, known_43)
        return Output(logits_BC[:, self.order], means_B3)


def colours() -> Tensor:
    return torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.5, 0.6, 0.3], [0.3, 0.1, 0.2]])


def normalised(name: str) -> Callable[[Tensor], Tensor]:
    mean, std = (
        torch.tensor(each).view(-1, 1, 1) for each in (NORMALIZATIONS[name].mean, NORMALIZATIONS[name].std)
    )
    return lambda x_BCHW: (x_BCHW - mean) / std


@pytest.fixture(params=[LabelledImages, HeldPixels])
def images(request: pytest.FixtureRequest) -> LabelledImages | HeldPixels:
    labels_B = torch.arange(1200) % 4
    noise_BCHW = torch.randn(1200, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.05
    images_BCHW = (colours()[labels_B][:, :, None, None] + noise_BCHW).clamp(0, 1)
    images = LabelledImages(images_BCHW, labels_B)
    return images if request.param is LabelledImages else held(images)


def held(images: LabelledImages) -> HeldPixels:
    return HeldPixels((images.images_BCHW * 255).round().to(torch.uint8), images.labels_B, SPEC)


def complaint(network: nn.Module, images: LabelledImages | HeldPixels, **figures: float | None) -> str:
    now, _ = best_reading(network, images, SPEC, NAMES)
    with pytest.raises(TeacherError) as refused:
        check_accuracy(network, images, SPEC, NAMES, measured=now.accuracy, **({"expected": None} | figures))
    return str(refused.value)


@pytest.mark.parametrize("name", ["imagenet", "minus_one_to_one", "svhn"])
@pytest.mark.parametrize("expected", [None, 0.99])
def test_another_normalisation_is_found(
    images: LabelledImages | HeldPixels, name: str, expected: float | None
) -> None:
    expert = Expert(normalised(name))

    said = complaint(expert, images, expected=expected)

    tried = NORMALIZATIONS[said.partition("try normalization: ")[2].split(" ")[0]]
    changed = replace(SPEC, mean=tried.mean, std=tried.std)
    pixels = images if isinstance(images, HeldPixels) else held(images)
    assert accuracy(expert, replace(pixels, spec=changed)) > 0.95
    assert ("99.0% expected" in said) == (expected is not None)


def test_pixels_from_0_to_255_are_recognised(images: LabelledImages | HeldPixels) -> None:
    said = complaint(Expert(lambda x_BCHW: x_BCHW * 255), images)

    assert "try normalization: {mean: [0.0, 0.0, 0.0], std: [0.00392157, 0.00392157, 0.00392157]}" in said


def test_another_order_of_the_channels_is_found(images: LabelledImages | HeldPixels) -> None:
    said = complaint(Expert(lambda x_BCHW: normalised("imagenet")(x_BCHW).flip(1)), images)

    assert "its channels are blue, green, red" in said


def test_another_order_of_the_classes_is_found(images: LabelledImages | HeldPixels) -> None:
    said = complaint(Expert(lambda x_BCHW: x_BCHW, order=[0, 2, 1, 3]), images)

    assert "what it calls class 1 are the images of class 2 (c)" in said


def test_where_nothing_does_better_the_architecture_is_doubted(images: LabelledImages | HeldPixels) -> None:
    class Stubborn(nn.Module):
        def forward(self, x_BCHW: Tensor) -> Output:
            return Output(torch.eye(4)[torch.zeros(len(x_BCHW), dtype=torch.int64)], x_BCHW.mean((2, 3)))

    assert "is teacher.arch what it is?" in complaint(Stubborn(), images)
    assert "90.0% expected, 25.0% measured" in complaint(Stubborn(), images, expected=0.9)


def test_a_teacher_that_is_what_it_should_be_is_taken(images: LabelledImages | HeldPixels) -> None:
    expert = Expert(lambda x_BCHW: x_BCHW)

    check_accuracy(expert, images, SPEC, NAMES, measured=0.999, expected=None)
    check_accuracy(expert, images, SPEC, NAMES, measured=0.90, expected=0.91)


def test_a_low_accuracy_that_is_expected_is_taken(images: LabelledImages | HeldPixels) -> None:
    check_accuracy(Expert(normalised("svhn")), images, SPEC, NAMES, measured=0.3, expected=0.3)


def test_grey_images_have_readings_too() -> None:
    grey = replace(SPEC, channels=1, mean=(0.0,), std=(1.0,))
    labels_B = torch.arange(400) % 2
    images = LabelledImages((0.3 + 0.4 * labels_B)[:, None, None, None].expand(400, 1, 8, 8), labels_B)

    class Threshold(nn.Module):
        def forward(self, x_BCHW: Tensor) -> Output:
            bright_B1 = x_BCHW.mean((1, 2, 3))[:, None] - (0.5 - 0.1307) / 0.3081
            return Output(torch.cat([-bright_B1, bright_B1], 1), bright_B1)

    _, best = best_reading(Threshold(), images, replace(grey, num_classes=2), ("dark", "bright"))

    assert best.accuracy == 1.0
    assert "mnist" in best.advice


@pytest.mark.parametrize(("measured", "is_taken"), [(0.95, True), (0.8, True), (0.6, False)])
def test_a_teacher_of_two_classes_need_not_be_perfect(
    monkeypatch: pytest.MonkeyPatch, measured: float, is_taken: bool
) -> None:
    two = replace(SPEC, num_classes=2)
    reading = Reading(accuracy=measured, advice="")
    monkeypatch.setattr("cpsc_core.diagnosis.best_reading", lambda *_: (reading, reading))
    nothing = LabelledImages(torch.zeros(2, 3, 8, 8), torch.arange(2))

    def check() -> None:
        check_accuracy(
            Expert(normalised("cifar10")), nothing, two, NAMES[:2], measured=measured, expected=None
        )

    if is_taken:
        check()
    else:
        with pytest.raises(TeacherError, match=r"60\.0% measured"):
            check()

import pytest
import torch
import torch.nn.functional as F

from cpsc_core.distill.generator import ConditionalBatchNorm2d, DoublingConv2d, Generator
from cpsc_core.errors import SettingsError
from cpsc_core.images import ImageSpec
from cpsc_core.settings import GeneratorSettings


def build(
    *,
    size: int = 32,
    channels: int = 3,
    num_classes: int = 10,
    settings: GeneratorSettings | None = None,
    label_input: bool = False,
) -> Generator:
    image = ImageSpec(num_classes=num_classes, channels=channels, size=size, mean=(0.5,), std=(0.5,))
    return Generator(settings or GeneratorSettings(), image, label_input=label_input)


@pytest.mark.parametrize(
    ("num_classes", "size", "millions"), [(10, 32, 2.335), (100, 32, 2.393), (200, 64, 8.774)]
)
def test_it_has_the_size_of_the_released_one(num_classes: int, size: int, millions: float) -> None:
    generator = build(size=size, num_classes=num_classes)

    assert sum(each.numel() for each in generator.parameters()) == pytest.approx(millions * 1e6, abs=500)


@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 20), (3, 64)])
def test_it_makes_grey_and_colour_images_of_any_size(channels: int, size: int) -> None:
    settings = GeneratorSettings(latent_dim=5, width=4)
    generator = build(size=size, channels=channels, settings=settings)

    images_BCHW = generator(torch.randn(6, 5), torch.arange(6))

    assert images_BCHW.shape == (6, channels, size, size)


def test_a_size_that_cannot_be_doubled_twice_is_refused_with_its_neighbours() -> None:
    with pytest.raises(SettingsError, match=r"multiple of 4 pixels wide, but they have 30.*to 28 or 32"):
        build(size=30)


def test_images_start_with_zero_mean_and_unit_deviation_per_channel() -> None:
    torch.manual_seed(0)
    generator = build(settings=GeneratorSettings(latent_dim=8, width=4))

    images_BCHW = generator(torch.randn(16, 8), torch.arange(16) % 10)

    torch.testing.assert_close(images_BCHW.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(images_BCHW.std((0, 2, 3)), torch.ones(3), atol=0.02, rtol=0)


@pytest.mark.parametrize("label_input", [False, True])
def test_classes_differ_from_the_start_only_if_the_label_is_an_input(label_input: bool) -> None:
    torch.manual_seed(0)
    generator = build(settings=GeneratorSettings(latent_dim=8, width=4), label_input=label_input)
    latents_BZ = torch.randn(1, 8).expand(4, 8)

    first, same, other, another = generator(latents_BZ, torch.tensor([1, 1, 0, 9]))

    torch.testing.assert_close(first, same)
    for different in (other, another):
        assert ((first - different).abs().max() > 0.1) == label_input


def test_a_doubling_convolution_is_a_convolution_of_repeated_pixels() -> None:
    torch.manual_seed(0)
    layer = DoublingConv2d(3, 5).double()
    x_BCHW = torch.randn(2, 3, 4, 6).double().requires_grad_()
    doubled_BCHW = x_BCHW.repeat_interleave(2, 2).repeat_interleave(2, 3)
    slow_BCHW = F.conv2d(doubled_BCHW, layer.weight, layer.bias, padding=1)
    slope_BCHW = torch.randn_like(slow_BCHW)

    fast_BCHW = layer(x_BCHW)

    torch.testing.assert_close(fast_BCHW, slow_BCHW)
    inputs = (x_BCHW, layer.weight, layer.bias)
    torch.testing.assert_close(
        torch.autograd.grad(fast_BCHW, inputs, slope_BCHW), torch.autograd.grad(slow_BCHW, inputs, slope_BCHW)
    )


def test_conditional_batch_norm_normalises_the_mixed_batch_then_scales_by_class() -> None:
    torch.manual_seed(0)
    layer = ConditionalBatchNorm2d(2, num_classes=3, epsilon=0.8).double()
    for embedding in (layer.scale, layer.shift):
        torch.nn.init.normal_(embedding.weight)
    x_BCHW, labels = torch.randn(4, 2, 3, 3).double(), [2, 0, 2, 1]

    y_BCHW = layer(x_BCHW, torch.tensor(labels))

    for channel in range(2):
        pixels = x_BCHW[:, channel]
        normal = (pixels - pixels.mean()) / (pixels.var(correction=0) + 0.8).sqrt()
        for row, label in enumerate(labels):
            by_hand = layer.scale.weight[label, channel] * normal[row] + layer.shift.weight[label, channel]
            torch.testing.assert_close(y_BCHW[row, channel], by_hand)


def test_each_class_starts_with_scale_one_and_shift_zero() -> None:
    layer = ConditionalBatchNorm2d(2, num_classes=3, epsilon=1e-3)

    assert torch.equal(layer.scale.weight, torch.ones(3, 2))
    assert torch.equal(layer.shift.weight, torch.zeros(3, 2))

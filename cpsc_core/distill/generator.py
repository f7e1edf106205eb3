"""The class-conditional generator of CPSC-DFKD, for images of any size that is a multiple of 4."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpsc_core.errors import SettingsError
from cpsc_core.images import ImageSpec
from cpsc_core.settings import GeneratorSettings

__all__ = ["ConditionalBatchNorm2d", "DoublingConv2d", "Generator"]

SLOPE = 0.2
"""Of the leaky rectifiers, below zero."""
LABEL_SCALE = 2.0
"""What stands for the label next to the noise, of unit deviation. The more, the less the noise matters."""


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm over the whole mixed-class batch, then a scale and a shift of the image's class."""

    def __init__(self, width: int, *, num_classes: int, epsilon: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, eps=epsilon, affine=False)
        self.scale = nn.Embedding(num_classes, width)
        self.shift = nn.Embedding(num_classes, width)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x_BCHW: Tensor, labels_B: Tensor) -> Tensor:
        """The normalised input, scaled and shifted."""
        scale_BC11 = self.scale(labels_B)[:, :, None, None]
        shift_BC11 = self.shift(labels_B)[:, :, None, None]
        return torch.addcmul(shift_BC11, scale_BC11, self.norm(x_BCHW))


class DoublingConv2d(nn.Conv2d):
    """A 3x3 convolution of maps that were doubled by repeating every pixel.

    Neighbouring outputs share their inputs, so it is computed as one 4x4 transposed convolution of the small
    maps: the same sums with 16 products per small pixel and channel pair in place of 36.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__(width_in, width, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Maps of twice the size."""
        padded = F.pad(self.weight.transpose(0, 1).flip(2, 3), (1, 1, 1, 1))
        rows = padded[:, :, 1:] + padded[:, :, :-1]
        kernel = rows[..., 1:] + rows[..., :-1]
        return F.conv_transpose2d(x_BCHW, kernel, self.bias, stride=2, padding=1)


class Generator(nn.Module):
    """Images from noise and labels, in the space of normalised images: about zero mean and unit deviation.

    A linear layer makes maps of a quarter of the image's size, which are doubled twice. The last layer is a
    conditional batch norm as well, so pixels are not bounded and a class can have a colour and a contrast.
    With `label_input` the linear layer is given the label as well, so that classes differ in shape at once.
    """

    def __init__(self, settings: GeneratorSettings, image: ImageSpec, *, label_input: bool = False) -> None:
        super().__init__()
        if image.size % 4:
            raise SettingsError(
                f"the generator doubles its maps twice, so images must be a multiple of 4 pixels wide, but "
                f"they have {image.size}; resize the data set to {image.size - image.size % 4} or "
                f"{image.size + 4 - image.size % 4}"
            )
        self.start_size = image.size // 4
        wide, narrow = 2 * settings.width, settings.width
        self.label_inputs = image.num_classes if label_input else 0
        self.linear = nn.Linear(settings.latent_dim + self.label_inputs, wide * self.start_size**2)
        self.conv1 = DoublingConv2d(wide, wide)
        self.conv2 = DoublingConv2d(wide, narrow)
        self.conv3 = nn.Conv2d(narrow, image.channels, 3, padding=1)
        self.norm0, self.norm1, self.norm2, self.norm3 = (
            ConditionalBatchNorm2d(width, num_classes=image.num_classes, epsilon=settings.norm_epsilon)
            for width in (wide, wide, narrow, image.channels)
        )

    def forward(self, latents_BZ: Tensor, labels_B: Tensor) -> Tensor:
        """One image per latent vector, of the class its label says."""
        if self.label_inputs:
            one_hot_BC = F.one_hot(labels_B, self.label_inputs).to(latents_BZ.dtype)
            latents_BZ = torch.cat((latents_BZ, LABEL_SCALE * one_hot_BC), 1)
        x_BCHW = self.linear(latents_BZ).unflatten(1, (-1, self.start_size, self.start_size))
        x_BCHW = self.norm0(x_BCHW.contiguous(memory_format=torch.channels_last), labels_B)
        x_BCHW = F.leaky_relu(self.norm1(self.conv1(x_BCHW), labels_B), SLOPE, inplace=True)
        x_BCHW = F.leaky_relu(self.norm2(self.conv2(x_BCHW), labels_B), SLOPE, inplace=True)
        images_BCHW: Tensor = self.norm3(self.conv3(x_BCHW).tanh(), labels_B)
        return images_BCHW

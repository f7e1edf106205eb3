"""Classifiers of timm and torchvision as teachers and students; no weights are ever downloaded.

A network stays what its library builds, with the library's own names of tensors: weights files of the library
can be read, and ours can be read by it. One thing is changed: it returns its penultimate features with the
logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from cpsc_core.errors import SettingsError
from cpsc_core.networks.offered import check_offered
from cpsc_core.networks.output import Output, check_size

__all__ = ["timm_network", "torchvision_network"]

WITHOUT_HELPERS: Mapping[str, Mapping[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
"""What makes torchvision leave out a second classifier, which only its own training would use."""


def timm_network(name: str, *, num_classes: int, channels: int, size: int) -> nn.Module:
    """A classifier of timm, untrained. Raises UnknownNameError, or SettingsError if it can't be one here."""
    check_offered("timm", name)
    import timm

    config = timm.get_pretrained_cfg(name)
    options: dict[str, Any] = {"img_size": size} if config is not None and config.fixed_input_size else {}
    images = _Images(f"timm:{name}", num_classes, channels, size)
    with images.trying():
        body: Any = timm.create_model(
            name, pretrained=False, num_classes=num_classes, in_chans=channels, **options
        )
    body.forward = MethodType(_forward_timm, body)
    network = images.prepared(body)
    if not next(network.parameters()).is_meta:  # where nothing is computed
        images.check_logits(network)
    return network


def torchvision_network(name: str, *, num_classes: int, channels: int, size: int) -> nn.Module:
    """A classifier of torchvision, untrained. Raises UnknownNameError, or SettingsError if it can't be one
    here. For grey images the first convolution keeps one of its three input channels.
    """
    check_offered("torchvision", name)
    images = _Images(f"torchvision:{name}", num_classes, channels, size)
    options = WITHOUT_HELPERS.get(name, {})
    body = models.get_model(name, weights=None, num_classes=num_classes, **options)
    first = next(layer for layer in body.modules() if isinstance(layer, nn.Conv2d))
    first.weight = nn.Parameter(first.weight.detach()[:, :channels].clone())
    first.in_channels = channels
    path, last = [each for each in body.named_modules() if isinstance(each[1], nn.Conv2d | nn.Linear)][-1]
    if not isinstance(last, nn.Linear):
        raise SettingsError(f"{images.arch} does not end in a linear layer; choose another network")
    body.set_submodule(path, _Classifier.instead_of(last))
    return images.prepared(body)


def _forward_timm(self: Any, x_BCHW: Tensor) -> Output:
    """Logits and features, by the halves that every classifier of timm has."""
    features_BD = self.forward_head(self.forward_features(x_BCHW), pre_logits=True)
    heads = self.get_classifier()
    heads = heads if isinstance(heads, tuple) else (heads,)  # of a second head most take the mean
    logits_BC = torch.stack([_classified(head, features_BD) for head in heads]).mean(0)
    return Output(logits_BC, features_BD)


def _classified(head: nn.Module, features_BD: Tensor) -> Tensor:
    logits: Tensor = (
        head(features_BD[:, :, None, None]).flatten(1) if isinstance(head, nn.Conv2d) else head(features_BD)
    )
    return logits


class _Classifier(nn.Linear):
    """A linear layer that ends a network: it returns its input as the features."""

    @classmethod
    def instead_of(cls, layer: nn.Linear) -> Self:
        """The same layer, weights included."""
        own = cls(layer.in_features, layer.out_features, bias=layer.bias is not None)
        own.weight, own.bias = layer.weight, layer.bias
        return own

    def forward(self, features_BD: Tensor) -> Output:  # type: ignore[override]
        """Logits and what they were made from."""
        return Output(F.linear(features_BD, self.weight, self.bias), features_BD)


@dataclass(frozen=True, slots=True)
class _Images:
    """What a network is to classify."""

    arch: str
    """The network's name, library included."""
    num_classes: int
    """Classes to tell apart."""
    channels: int
    """Of the images."""
    size: int
    """Of the images, in pixels."""

    def prepared(self, body: Any) -> nn.Module:
        """The network in training mode, once it has taken an image."""
        noise_BCHW = self.noise()
        with self.trying(), torch.no_grad():
            output = body.eval()(noise_BCHW)
        shapes = [tuple(each.shape) for each in output] if isinstance(output, Output) else []
        if [len(shape) for shape in shapes] != [2, 2] or shapes[0] != (1, self.num_classes):
            raise SettingsError(f"{self.arch} has no single vector of features; choose another network")
        body.feature_dim = shapes[1][1]
        trained: nn.Module = body.train()
        return trained

    def check_logits(self, network: Any) -> None:
        """Refuse a network whose library makes its logits from more than the features."""
        heads = network.get_classifier()
        heads = nn.ModuleList(heads if isinstance(heads, tuple) else (heads,))
        kept = [weight.clone() for weight in heads.parameters()]
        chance = torch.Generator().manual_seed(0)
        network.eval()
        with self.trying(), torch.no_grad():
            for weight in heads.parameters():  # some begin at 0, where all logits are equal
                weight.normal_(std=0.02, generator=chance)
            ours_BC, theirs_BC = network(self.noise()).logits_BC, type(network).forward(network, self.noise())
            for weight, before in zip(heads.parameters(), kept, strict=True):
                weight.copy_(before)
        network.train()
        if not torch.allclose(ours_BC, theirs_BC, rtol=1e-3, atol=1e-5):
            raise SettingsError(
                f"{self.arch} makes its logits from more than one vector of features; choose another network"
            )

    def noise(self) -> Tensor:
        """An image to try."""
        chance = torch.Generator().manual_seed(0)
        return torch.randn(1, self.channels, self.size, self.size, generator=chance)

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Turn whatever a network does with images it was not made for into a SettingsError."""
        check_size(self.arch, self.size)
        try:
            yield
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise SettingsError(
                f"{self.arch} cannot take images of {self.channels} x {self.size} x {self.size} pixels "
                f"({reason}); choose another network, or images of another size"
            ) from error

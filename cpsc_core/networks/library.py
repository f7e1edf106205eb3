"""Classifiers of timm and torchvision as teachers and students; no weights are ever downloaded.

A network stays what its library builds, with the library's own names of tensors: weights files of the library
can be read, and ours can be read by it. Two things are changed: it returns its penultimate features with the
logits, and dropout is off, since a layer that draws at random would make a resumed run differ from an
undisturbed one.
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
from torch.nn.modules.dropout import _DropoutNd
from torchvision import models
from torchvision.ops import StochasticDepth

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
    return images.prepared(body)


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
    heads = heads if isinstance(heads, tuple) else (heads,)  # of a second head timm too takes the mean
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
        """The network in training mode, without dropout, once it has taken a blank image."""
        for layer in body.modules():
            _switch_off_chance(layer)
        blank_BCHW = torch.zeros(1, self.channels, self.size, self.size)
        with self.trying(), torch.no_grad():
            output = body.eval()(blank_BCHW)
        shapes = [tuple(each.shape) for each in output] if isinstance(output, Output) else []
        if [len(shape) for shape in shapes] != [2, 2] or shapes[0] != (1, self.num_classes):
            raise SettingsError(f"{self.arch} has no single vector of features; choose another network")
        body.feature_dim = shapes[1][1]
        trained: nn.Module = body.train()
        return trained

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


def _switch_off_chance(layer: Any) -> None:
    """Dropout of units and of whole paths, under the names the libraries give its share."""
    if isinstance(layer, _DropoutNd | StochasticDepth):
        layer.p = 0.0
    for share in ("drop_prob", "drop_rate"):
        if hasattr(layer, share):
            setattr(layer, share, 0.0)

"""Names of weights in the collections people share, and what they are called here.

Networks of one kind differ between collections by the names of their layers alone. Known are:

- the ResNets, wide ResNets and VGGs of DAFL, CMI, ZSKT and the released code of CPSC-DFKD;
- the CIFAR ResNets of pytorch_resnet_cifar10 (option A) and of pytorch-cifar-models (projections);
- ResNets with the layer names of torchvision, and those of pytorch-cifar100.

Which of them a file has is seen from its names: they must all fit the network, or the file is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set

from torch import Tensor

__all__ = ["COUNTER", "layer_names", "unwrapped"]

COUNTER = "num_batches_tracked"
"""Old checkpoints have none of these, and nothing here reads them."""

_WRAPPERS = ("module", "model", "net", "network", "backbone", "encoder", "_orig_mod")
"""What DataParallel, compilers and training frameworks put a network into."""

_HEADS = ("linear", "fc", "classifier")

_STYLES: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    ((r"\.downsample\.", ".shortcut."),),
    ((r"^block(\d)\.layer\.(\d+)\.", r"block\1.\2."), (r"\.convShortcut\.", ".shortcut.")),
    ((r"^block(\d)\.", r"blocks.\1."),),
    (
        (r"^conv1\.0\.", "conv1."),
        (r"^conv1\.1\.", "bn1."),
        *((rf"^conv{stage + 1}_x\.", f"layer{stage}.") for stage in range(1, 5)),
        (r"\.residual_function\.0\.", ".conv1."),
        (r"\.residual_function\.1\.", ".bn1."),
        (r"\.residual_function\.3\.", ".conv2."),
        (r"\.residual_function\.4\.", ".bn2."),
        (r"\.residual_function\.6\.", ".conv3."),
        (r"\.residual_function\.7\.", ".bn3."),
    ),
)
"""Each is a list of patterns and what to put in their place; the first that makes all names fit is taken."""


def layer_names(tensors: Mapping[str, Tensor], wanted: Set[str]) -> dict[str, Tensor]:
    """The tensors under the names that a network wants.

    Where no known style makes all of them fit, only what names a wrapper is taken off.
    """
    candidate = dict(tensors)
    for candidate in unwrapped(tensors):
        for style in _STYLES:
            named = {_renamed(name, style, wanted): tensor for name, tensor in candidate.items()}
            if _essential(named) == _essential(wanted):
                return named
    return candidate


def unwrapped(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The tensors as they are, then without the first prefix that all share and that names a wrapper, ..."""
    plain = dict(tensors)
    yield plain
    while plain:
        first = next(iter(plain)).split(".")[0]
        if first not in _WRAPPERS or not all(name.startswith(f"{first}.") for name in plain):
            return
        plain = {name.removeprefix(f"{first}."): tensor for name, tensor in plain.items()}
        yield plain


def _essential(names: Mapping[str, Tensor] | Set[str]) -> set[str]:
    return {name for name in names if not name.endswith(COUNTER)}


def _renamed(name: str, style: tuple[tuple[str, str], ...], wanted: Set[str]) -> str:
    for pattern, replacement in style:
        name = re.sub(pattern, replacement, name)
    layer, _, kind = name.rpartition(".")
    if layer in _HEADS:
        return next((f"{head}.{kind}" for head in _HEADS if f"{head}.{kind}" in wanted), name)
    return name

"""Networks by name, and the files their weights lie in.

Weights are written as safetensors: tensors and nothing else. Files that others made with `torch.save` are
read too, see `cpsc_core.confined`, whatever their collection calls the layers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from cpsc_core.attempt import replacing
from cpsc_core.confined import read_confined
from cpsc_core.errors import TeacherError
from cpsc_core.images import ImageSpec
from cpsc_core.networks.chance import switch_off_chance
from cpsc_core.networks.zoo import COUNTER, layer_names
from cpsc_core.tables import NETWORKS, lookup

__all__ = ["build_network", "fill_network", "parse_tensors", "read_checkpoint", "read_file", "save_tensors"]

_ANOTHER_NETWORK = 4
_ANY_SIZE = 32


def build_network(arch: str, spec: ImageSpec) -> nn.Module:
    """A network of the table for some images; its weights come from torch's global stream.

    It draws nothing at random when it is run: that would make a resumed run differ from an undisturbed one,
    and activations that are computed twice from each other.
    """
    network: nn.Module = lookup(NETWORKS, arch)(
        num_classes=spec.num_classes, channels=spec.channels, size=spec.size
    )
    for layer in network.modules():
        switch_off_chance(layer)
    return network


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a safetensors file whole or not at all; returns its SHA-256. Equal tensors give equal files."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = safetensors.torch.save(plain)
    with replacing(path) as draft:
        draft.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_file(path: Path) -> bytes:
    """The content of a weights file; TeacherError if there is none to be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise TeacherError(
            f"the weights file {path} cannot be read: {error.strerror}; check the path and its permissions"
        ) from error


def parse_tensors(content: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors in the content of a safetensors file, by name."""
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise TeacherError(f"{path} is not a safetensors file: {error}") from error


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors in a file that somebody else made, by name, on the CPU.

    `.safetensors`, or what `torch.save` wrote: a state dict, or a dictionary with one under a usual key.
    Raises TeacherError if the file is anything else.
    """
    content = read_file(path) if path.suffix == ".safetensors" else read_confined(path)
    return parse_tensors(content, path)


def fill_network(network: nn.Module, tensors: Mapping[str, Tensor], *, source: Path, arch: str) -> None:
    """Copy tensors into a network of the same shapes, whatever a known collection calls its layers.

    Raises TeacherError naming the tensor, the shape it should have and the one it has, and the network the
    tensors are of if it is one of ours. Counters of batches may be missing.
    """
    expected: dict[str, Tensor] = network.state_dict()
    tensors = layer_names(tensors, expected.keys())
    needed = {name for name in expected if not name.endswith(COUNTER)}
    given = {name for name in tensors if not name.endswith(COUNTER)}
    if missing := sorted(needed - given):
        complaint = f"{_several(missing)} is missing{_hint(tensors, missing)}"
        raise TeacherError(f"{source} is not a {arch}: {complaint}")
    if unknown := sorted(given - needed):
        complaint = f"{_several(unknown)} has no place in it{_hint(tensors, unknown)}"
        raise TeacherError(f"{source} is not a {arch}: {complaint}")
    wrong = sorted(
        name for name in expected if name in tensors and tensors[name].shape != expected[name].shape
    )
    if wrong:
        raise TeacherError(_wrong_shape(wrong, tensors, expected, f"{source} is not a {arch} for this data"))
    for name in sorted(needed):
        if not tensors[name].float().isfinite().all():
            raise TeacherError(f"{source} holds weights that are not finite, the first in {name}")
    for name in expected.keys() & tensors.keys():
        expected[name] = tensors[name]
    network.load_state_dict(expected)  # with what else it says of itself: some networks have versions


def _hint(tensors: Mapping[str, Tensor], misfits: Sequence[str]) -> str:
    """Which of our networks the tensors are of, for the end of a message; a few misfits are a slip."""
    heads = [tensor for tensor in tensors.values() if tensor.ndim == 2]
    kernels = [tensor for tensor in tensors.values() if tensor.ndim == 4]
    channels = min((kernel.shape[1] for kernel in kernels), default=0)
    if len(misfits) < _ANOTHER_NETWORK or not heads or channels not in (1, 3):
        return ""
    for arch in NETWORKS.ours:
        with torch.device("meta"):
            network = lookup(NETWORKS, arch)(num_classes=len(heads[-1]), channels=channels, size=_ANY_SIZE)
        wanted = _shapes(network.state_dict())
        if _shapes(layer_names(tensors, wanted.keys())) == wanted:
            return f"; it is a {arch}: set teacher.arch to that"
    return ""


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items() if not name.endswith(COUNTER)}


def _wrong_shape(
    wrong: list[str], tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], complaint: str
) -> str:
    shapes = [(tuple(tensors[name].shape), tuple(expected[name].shape)) for name in wrong]
    message = f"{complaint}: {_several(wrong)} should have shape {shapes[0][1]} but has {shapes[0][0]}"
    classes = {(found[0], right[0]) for found, right in shapes if found[:1] and found[1:] == right[1:]}
    if len(classes) == 1 and all(found[1:] == right[1:] for found, right in shapes):
        found, right = classes.pop()
        message += (
            f" (a classifier of {found} classes, where the data has {right}); name the data set it was "
            f"trained on, or a teacher for {right} classes"
        )
    return message


def _several(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (with {len(names) - 1} more)"

"""Networks by name, and the files their weights lie in.

Weights are written as safetensors: tensors and nothing else. Files that others made with `torch.save` are
read too, but only as tensors: a file that needs more is refused, never loaded another way.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from cpsc_core.attempt import replacing
from cpsc_core.errors import TeacherError
from cpsc_core.images import ImageSpec
from cpsc_core.tables import NETWORKS, lookup

__all__ = ["build_network", "fill_network", "parse_tensors", "read_checkpoint", "read_file", "save_tensors"]

_COUNTER = "num_batches_tracked"


def build_network(arch: str, spec: ImageSpec) -> nn.Module:
    """A network of the table for some images; its weights come from torch's global stream."""
    network: nn.Module = lookup(NETWORKS, arch)(
        num_classes=spec.num_classes, channels=spec.channels, size=spec.size
    )
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

    `.safetensors`, or what `torch.save` wrote: a state dict, or a dictionary with one under `state_dict`. The
    prefix `module.` of DataParallel is taken off. Raises TeacherError if the file is anything else.
    """
    content = read_file(path)
    tensors = parse_tensors(content, path) if path.suffix == ".safetensors" else _unpickle(content, path)
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def fill_network(network: nn.Module, tensors: Mapping[str, Tensor], *, source: Path, arch: str) -> None:
    """Copy tensors into a network of the same names and shapes.

    Raises TeacherError naming the tensor, the shape it should have and the one it has. Counters of batches
    may be missing: old checkpoints have none, and nothing here reads them.
    """
    expected: dict[str, Tensor] = network.state_dict()
    needed = {name for name in expected if not name.endswith(_COUNTER)}
    given = {name for name in tensors if not name.endswith(_COUNTER)}
    if missing := sorted(needed - given):
        raise TeacherError(f"{source} is not a {arch}: {_several(missing)} is missing")
    if unknown := sorted(given - needed):
        raise TeacherError(f"{source} is not a {arch}: {_several(unknown)} has no place in it")
    wrong = sorted(
        name for name in expected if name in tensors and tensors[name].shape != expected[name].shape
    )
    if wrong:
        raise TeacherError(_wrong_shape(wrong, tensors, expected, f"{source} is not a {arch} for this data"))
    for name in sorted(needed):
        if not tensors[name].float().isfinite().all():
            raise TeacherError(f"{source} holds weights that are not finite, the first in {name}")
    network.load_state_dict({name: tensors.get(name, expected[name]) for name in expected})


def _unpickle(content: bytes, path: Path) -> dict[str, Tensor]:
    try:
        loaded: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a hostile or broken file provokes, it is the file that is wrong
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TeacherError(
            f"{path} cannot be loaded as plain tensors ({reason}); where it came from, save it again with "
            "torch.save(network.state_dict(), path) or as safetensors"
        ) from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not all(_is_entry(*each) for each in loaded.items()):
        raise TeacherError(
            f"{path} holds no state dict: it should be a dictionary of tensors, or have one as 'state_dict'"
        )
    return dict(loaded)


def _is_entry(name: object, tensor: object) -> bool:
    if not isinstance(name, str) or not isinstance(tensor, Tensor):
        return False
    return tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized


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

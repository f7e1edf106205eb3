"""Where tensors can be computed on."""

from __future__ import annotations

import torch

from cpsc_core.errors import SettingsError

__all__ = ["device_type", "own_device"]


def device_type(device: str) -> str:
    """cpu or cuda; SettingsError if a device is neither, or is not here."""
    try:
        found = torch.device(device).type
    except RuntimeError as error:
        raise SettingsError(f"there is no device {device!r}; use cpu or cuda") from error
    if found not in ("cpu", "cuda"):
        raise SettingsError(f"nothing here computes on a device like {device!r}; use cpu or cuda")
    if found == "cuda" and not torch.cuda.is_available():
        raise SettingsError(f"device {device!r} was asked for, but torch sees no GPU here; use cpu")
    return found


def own_device(local_rank: int) -> str:
    """The GPU of a rank, by its number among those of its machine; cpu where there is none.

    Raises SettingsError if there are fewer GPUs than ranks.
    """
    if not torch.cuda.is_available():
        return "cpu"
    if local_rank >= (count := torch.cuda.device_count()):
        raise SettingsError(
            f"rank {local_rank} of this machine has no GPU of its own, as there are {count}; "
            f"start {count} ranks here at most, or use --device cpu"
        )
    return f"cuda:{local_rank}"

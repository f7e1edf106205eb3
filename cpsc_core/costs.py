"""What a student costs: its parameters, the time for an image, and the memory its training took."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from cpsc_core.evaluate import evaluating
from cpsc_core.images import ImageSpec

__all__ = ["costs_of", "latency", "parameters", "peak_memory_gb", "watch_memory"]

logger = logging.getLogger(__name__)

_WARM_UPS = 3
_REPETITIONS = 20
_GB = 1e9


def costs_of(student: nn.Module, image: ImageSpec) -> dict[str, float]:
    """The content of costs.json.

    `student_parameters` is a count; `latency` seconds for one image; `peak_memory_gb` what training took at
    most since `watch_memory`, in units of 1e9 bytes. The last two depend on the machine.
    """
    device = next(student.parameters()).device
    return {
        "student_parameters": parameters(student),
        "peak_memory_gb": peak_memory_gb(device),
        "latency": latency(student, image, device),
    }


def parameters(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(parameter.numel() for parameter in network.parameters())


def latency(
    network: nn.Module, image: ImageSpec, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Median seconds that a network takes for one image on its device."""
    image_1CHW = torch.zeros(1, image.channels, image.size, image.size, device=device)

    def once() -> float:
        began = clock()
        network(image_1CHW)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - began

    with evaluating(network), torch.no_grad():
        times = [once() for _ in range(_WARM_UPS + _REPETITIONS)]
    return statistics.median(times[_WARM_UPS:])


def watch_memory(device: torch.device) -> None:
    """Forget what was the most memory so far: another trial may have run in this process before."""
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        logger.warning("peak_memory_gb counts from the start of the process, not of the trial: %s", error)


def peak_memory_gb(device: torch.device) -> float:
    """The most memory since `watch_memory`: that of tensors on a GPU, that of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _GB
    status = Path("/proc/self/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024 / _GB

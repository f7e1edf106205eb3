"""The process an attempt runs in: its threads, its log, and what is written down about it."""

from __future__ import annotations

import json
import logging
import os
import platform
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cpsc_core
from cpsc_core.device import device_type
from cpsc_core.rank import ALONE, Rank
from cpsc_core.redaction import RedactingFormatter

__all__ = ["describe_process", "end_on_sigterm", "logging_to", "using_threads", "versions", "warn_of_drift"]

logger = logging.getLogger(__name__)


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads: their number decides how sums are rounded."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def logging_to(path: Path, level: int = logging.INFO) -> Iterator[None]:
    """Add what the core logs inside the block, from a level on, to a file.

    An exception that leaves the block is logged with its trace. Secrets of the environment are left out.
    """
    core = logging.getLogger(cpsc_core.__name__)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.setLevel(level)
    level_before = core.level
    core.addHandler(handler)
    core.setLevel(logging.INFO)
    try:
        yield
    except Exception:
        logger.exception("the attempt failed")
        raise
    finally:
        core.removeHandler(handler)
        core.setLevel(level_before)
        handler.close()


def describe_process(device: str, rank: Rank = ALONE) -> dict[str, Any]:
    """Node, process and device, and everything that may decide how a number is rounded.

    `pids` are the processes of all ranks, in their order; all of them have to ask.
    Raises SettingsError if there is no such device here.
    """
    is_gpu = device_type(device) == "cuda"
    return {
        "node": platform.node(),
        "pid": os.getpid(),
        "ranks": rank.world_size,
        "pids": rank.gather(torch.tensor([os.getpid()])).flatten().tolist(),
        "threads": torch.get_num_threads(),
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if is_gpu else platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "versions": versions(),
    }


def warn_of_drift(before: Path, process: Mapping[str, Any]) -> None:
    """Log in what a process differs from the one described in a file, where numbers may depend on it."""
    try:
        other = json.loads(before.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it died before it wrote it whole
        return
    for key in ("ranks", "threads", "device", "cpu_capability", "versions"):
        if other.get(key) != process[key]:
            logger.warning(
                "%s was %s and is now %s: from here on the numbers may differ from an uninterrupted run's",
                key,
                other.get(key),
                process[key],
            )


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as an exception does, so that nothing half written stays behind."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


def versions() -> dict[str, str]:
    """Versions of what the numbers come from."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cpsc_core": cpsc_core.__version__,
    }

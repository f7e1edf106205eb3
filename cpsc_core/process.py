"""The process an attempt runs in: its threads, its log, and what is written down about it."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cpsc_core

__all__ = ["describe_process", "logging_to", "using_threads", "versions"]


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
def logging_to(path: Path) -> Iterator[None]:
    """Add what the core logs inside the block to a file.

    An exception that leaves the block is logged with its trace.
    """
    logger = logging.getLogger(cpsc_core.__name__)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    except Exception:
        logger.exception("the attempt failed")
        raise
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()


def describe_process(device: str) -> dict[str, Any]:
    """Node, process and device, and everything that may decide how a number is rounded."""
    is_gpu = torch.device(device).type == "cuda"
    return {
        "node": platform.node(),
        "pid": os.getpid(),
        "ranks": 1,
        "threads": torch.get_num_threads(),
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if is_gpu else platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of what the numbers come from."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cpsc_core": cpsc_core.__version__,
    }

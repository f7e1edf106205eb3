"""Where the time of a few steps goes: a trace for Perfetto or chrome://tracing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.profiler import profile, schedule

__all__ = ["tracing"]

ITERATIONS = 2
BEFORE = 2
"""Calls before the first that is traced: what is set up, and one iteration, which still allocates."""


@contextmanager
def tracing(path: Path) -> Iterator[Callable[[], None]]:
    """Give what is to be called before every iteration while the block runs.

    The second iteration and the third are written to `path` (JSON, compressed if it ends in .gz). A block
    that ends before that leaves no file.
    """
    plan = schedule(wait=0, warmup=BEFORE, active=ITERATIONS, repeat=1)
    with profile(schedule=plan, on_trace_ready=lambda done: done.export_chrome_trace(str(path))) as profiler:
        yield profiler.step

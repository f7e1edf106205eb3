"""The command as a user runs it: a process of its own, on a small experiment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["EXPERIMENT", "command", "document", "start", "wait_for"]

EXPERIMENT = """
name: tiny
data: {name: digits}
teacher: {arch: resnet8, train: {epochs: 1, batch_size: 128}}
student: {arch: resnet8}
train:
  epochs: 4
  iterations_per_epoch: 2
  batch_size: 8
  samples_every: 2
  generator: {width: 8, steps: 1}
  student: {steps: 1, lr: 0.02}
search:
  loss.ikd: {low: 0.1, high: 1.0, log: true}
  loss.pseudo_label: {low: 0.1, high: 1.0, log: true}
  generator.latent_dim: {choices: [4, 8]}
sampler: {name: random}
pruner: {name: successive_halving, min_epochs: 1, reduction_factor: 2}
objective: {metric: student_kl, direction: minimize}
budget: {trials: 6}
confirm: {top: 1, seeds: 2}
tracking: {register_best: false}
"""

_PROGRAM = [sys.executable, "-c", "from orchestrator.cli import main; main()"]


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """The command, running in a process group of its own."""
    return subprocess.Popen(
        [*_PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "COLUMNS": "120"},
    )


def command(*arguments: str | Path, code: int = 0) -> str:
    """What the command prints; it must end with an exit code."""
    process = start(*arguments)
    out, error = process.communicate(timeout=240)
    assert process.returncode == code, f"exit {process.returncode}\n{out}\n{error}"
    return out if code == 0 else error


def document(*arguments: str | Path) -> Any:
    """The JSON document that the command prints."""
    return json.loads(command(*arguments, "--json"))


def wait_for(what: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)

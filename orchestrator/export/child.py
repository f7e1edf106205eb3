"""A module of the training core, asked in a process of its own: the controller has no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import UsageError

__all__ = ["ask"]

_LONGEST_SECONDS = 6 * 3600.0


def ask(module: str, request: Mapping[str, Any], *, to: str) -> dict[str, Any]:
    """The answer of `python -m module` to a JSON request with the threads of this machine added.

    Raises UsageError with the module's own words if it could not do what `to` says.
    """
    answer = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps({**request, "threads": len(os.sched_getaffinity(0))}),
        capture_output=True,
        text=True,
        timeout=_LONGEST_SECONDS,
        check=False,
    )
    if answer.returncode:
        said = (answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1]
        raise UsageError(f"could not {to}: {said.removeprefix('error: ')}")
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found

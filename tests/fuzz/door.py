"""What `cpsc-orchestrate validate` makes of a file, and everything it did on the way."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.config import load_experiment, parse_experiment
from tests.fuzz.mutate import Case

__all__ = ["MOST_SECONDS", "Knock", "knock", "warm_up"]

CODES = (0, 2)
MOST_SECONDS = 1.0
_STUCK_SECONDS = 20
_MOST_CHARACTERS = 2**20
_PROCESSES = (
    "subprocess.Popen",
    "os.fork",
    "os.forkpty",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
)
_NET = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto")
_CHANGES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

_seen: list[str] | None = None
"""What was done while a file is looked at; None: nobody looks."""


@dataclass(frozen=True)
class Knock:
    """What became of one file."""

    code: int
    """The exit code."""
    said: str
    """What a person reads."""
    seconds: float
    """Of the processor."""
    complaints: tuple[str, ...]
    """What must not be; empty if all is well."""


def warm_up(folder: Path) -> None:
    """Have everything imported that is imported when it is first needed: that is no work of a file."""
    for text in (b"", b"name: x\n"):
        knock(Case(text), folder / "x.yaml")


def knock(case: Case, path: Path) -> Knock:
    """Write a file and have it validated, in this process."""
    path.write_bytes(case.data)
    arguments = ["validate", str(path), *(word for each in case.overrides for word in ("--set", each))]
    began = time.process_time()
    with _watched() as done, _impatient():
        result = CliRunner().invoke(main, arguments, env={"NO_COLOR": "1"})
    seconds = time.process_time() - began
    complaints = [f"it did {each}" for each in done]
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        complaints.append("".join(traceback.format_exception(result.exception)))
    elif result.exit_code not in CODES:
        complaints.append(f"exit {result.exit_code}")
    if seconds > MOST_SECONDS:
        complaints.append(f"it took {seconds:.2f} s of the processor")
    complaints += _complain(result.exit_code, result.stdout, result.stderr)
    if result.exit_code == 0:
        complaints += _means_the_same(case, path)
    return Knock(result.exit_code, result.stdout + result.stderr, seconds, tuple(complaints))


def _complain(code: int, out: str, error: str) -> Iterator[str]:
    said = out + error
    if "Traceback" in said or "<class '" in said or "object at 0x" in said:
        yield f"it speaks to programmers: {said[-2000:]!r}"
    if strange := [
        letter for letter in said if (letter != "\n" and ord(letter) < 32) or 127 <= ord(letter) < 160
    ]:
        yield f"it sends the terminal {strange[:5]}"
    if len(said) > _MOST_CHARACTERS:
        yield f"it says {len(said)} characters"
    if code == 2 and (out or "cpsc-orchestrate " not in error.strip().splitlines()[-1]):
        yield f"its last line does not say what to do next: {error[-500:]!r}"


def _means_the_same(case: Case, path: Path) -> Iterator[str]:
    """Whether what is kept of an experiment that was accepted is that experiment."""
    accepted = load_experiment(path, case.overrides)
    kept = parse_experiment(accepted.text)
    before, after = (
        json.dumps(each.config.model_dump(mode="json"), sort_keys=True) for each in (accepted, kept)
    )
    if accepted.config != kept.config or before != after:
        yield f"it is kept as another experiment:\n{before}\n{after}"


@contextmanager
def _watched() -> Iterator[list[str]]:
    global _seen
    done: list[str] = []
    _seen = done
    try:
        yield done
    finally:
        _seen = None


@contextmanager
def _impatient() -> Iterator[None]:
    """A file that would hang is left with the place where it hangs."""

    def stuck(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"nothing after {_STUCK_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stuck)
    signal.alarm(_STUCK_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _seen is None:
        return
    if event in (*_PROCESSES, *_NET, *_CHANGES):
        _seen.append(f"{event} {arguments!r:.200}")
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
        _seen.append(f"open {arguments[0]!r} to write")


sys.addaudithook(_note)

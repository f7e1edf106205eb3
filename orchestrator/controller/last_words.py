"""What an attempt that failed left behind: the last lines of its log, and where its processes were."""

from __future__ import annotations

import hashlib
import re
import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cpsc_core.attempt import AttemptPaths
from orchestrator.store.records import AttemptEnd, EndClass

__all__ = ["explain"]

_LINES = 50
_LINES_READ = 500
_OF_A_LOG = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ")
_HANG = "Timeout ("
_CRASH = "Fatal Python error: "
_PLACE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)(?:,)? in (?P<function>.+)')
_EXITS = {
    "Segmentation fault": 128 + signal.SIGSEGV,
    "Aborted": 128 + signal.SIGABRT,
    "Bus error": 128 + signal.SIGBUS,
    "Floating-point exception": 128 + signal.SIGFPE,
    "Illegal instruction": 128 + signal.SIGILL,
}
_MAY_BE_THE_NETWORK = "Aborted"
"""The backends of torch.distributed abort the process when another one is gone."""


def explain(end: AttemptEnd, attempt: AttemptPaths, trace: Sequence[str]) -> AttemptEnd:
    """The end of a failed attempt with the last lines of its log and where it was: `trace`, if it knew."""
    words = _last_words(attempt.log)
    if end.ended is EndClass.HANG and words.hang:
        end = replace(end, stack=words.hang)
    elif end.ended is EndClass.INFRASTRUCTURE and words.crash:
        status = next((code for name, code in _EXITS.items() if name in words.crash[0]), None)
        end = replace(end, stack=words.crash, cause=f"{words.crash[0]} ({end.cause})", exit=status)
    else:
        end = replace(end, stack=list(trace))
    return replace(end, lines=words.lines, fingerprint=_fingerprint(end.ended, end.stack))


@dataclass(frozen=True, slots=True, kw_only=True)
class _LastWords:
    """The end of an attempt's log."""

    lines: list[str]
    """Its last lines, stacks left out."""
    hang: list[str]
    """Where the processes were when they had said nothing for too long; empty if that never came."""
    crash: list[str]
    """Where the interpreter was when it crashed; empty if it did not."""


def _last_words(log: Path) -> _LastWords:
    """The last words in a log file, all empty if there is none."""
    said: list[str] = []
    stacks: dict[str, list[str]] = {_HANG: [], _CRASH: []}
    current = said
    for line in _tail(log):
        if _OF_A_LOG.match(line):
            current = said
        elif (marker := next((each for each in stacks if line.startswith(each)), None)) is not None:
            # of several ranks each leaves its stack: the first to crash matters, and all that hang
            current = stacks[marker] if marker == _HANG or not stacks[marker] else []
        current.append(line)
    return _LastWords(lines=said[-_LINES:], hang=stacks[_HANG], crash=stacks[_CRASH])


def _fingerprint(ended: EndClass, stack: Sequence[str]) -> str | None:
    """Equal for failures that will only happen again: an exception or a crash of one kind at one place.

    None for what may well go better next time.
    """
    is_crash = bool(stack) and stack[0].startswith(_CRASH) and _MAY_BE_THE_NETWORK not in stack[0]
    if not stack or not (ended is EndClass.ERROR or is_crash):
        return None
    kind = stack[0] if is_crash else stack[-1].partition(":")[0]
    places = [
        (Path(match["file"]).name, match["line"], match["function"])
        for match in map(_PLACE.search, stack)
        if match
    ]
    return hashlib.sha256(repr((kind, places)).encode()).hexdigest()[:16]


def _tail(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, maxlen=_LINES_READ)]
    except FileNotFoundError:
        return []

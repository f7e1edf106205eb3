"""What the processor's time of a controller is spent on."""

from __future__ import annotations

import time
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

from orchestrator.sweep.watched import Watched

__all__ = ["Ledger", "Marking"]


@dataclass
class Ledger:
    """Processor seconds by what they were spent on, and how they stood at every so many trials."""

    spent: dict[str, float] = field(default_factory=dict)
    marks: list[dict[str, float]] = field(default_factory=list)

    def charge(self, owner: Any, method: str, to: str) -> None:
        """Charge every call of a method to an account; what it calls in turn is part of it."""
        call = getattr(owner, method)

        def charged(*given: Any, **named: Any) -> Any:
            before = time.thread_time()
            try:
                return call(*given, **named)
            finally:
                self.spent[to] = self.spent.get(to, 0.0) + time.thread_time() - before

        setattr(owner, method, charged)

    def mark(self, trials: int) -> None:
        """Note how the accounts stand; to be called on the controller's thread."""
        here = {"trials": trials, "wall": time.monotonic(), "controller": time.thread_time()}
        self.marks.append(here | self.spent)

    def per_trial(self, first: int, last: int) -> dict[str, float]:
        """Milliseconds per trial between two marks, by account; `scheduling` is the rest of the thread."""
        begin, end = self.marks[first], self.marks[last]
        count = end["trials"] - begin["trials"]
        spent = {key: (end[key] - begin.get(key, 0.0)) * 1e3 / count for key in end if key != "trials"}
        rest = spent.pop("controller") - spent.get("suggestion", 0.0) - spent.get("commit", 0.0)
        return {"scheduling": rest, **spent}


class Marking(Watched):
    """A controller's orders whose accounts are noted as trials end."""

    def note_in(self, ledger: Ledger, at: Container[int]) -> None:
        """Note the accounts each time that so many trials have ended as `at` holds."""
        self._ledger, self._at, self._ends = ledger, at, 0

    def hear_end(self, *heard: Any) -> None:
        """Take note of an attempt's end."""
        super().hear_end(*heard)
        self._ends += 1
        if self._ends in self._at:
            self._ledger.mark(self._ends)

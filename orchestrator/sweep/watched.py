"""The controller's orders, with the display and the mirror kept up to date."""

from __future__ import annotations

import time
from typing import Any, Protocol

from orchestrator.controller.controller import Controller
from orchestrator.store.records import EndClass
from orchestrator.sweep.board import Drawing, Pace
from orchestrator.sweep.progress import Progress
from orchestrator.sweep.vitals import Vitals
from orchestrator.trial.assignment import Assignment

__all__ = ["Watched"]


_REST = 200.0
"""Showing thousands of trials takes a while; the controller's time is for the trials."""
_LONGEST_REST_SECONDS = 2.0


class Follower(Protocol):
    """Who mirrors the folders while trials run."""

    @property
    def last_error(self) -> str | None:
        """Why it is behind; None if it is not."""

    def wake(self) -> None:
        """Say that something has changed."""


class Watched:
    """What Tune carries out (`orchestrator.trial.tune.Orders`): the controller's orders, and who looks on."""

    def __init__(
        self, controller: Controller, pace: Pace, progress: Progress, mirror: Follower, vitals: Vitals
    ) -> None:
        self._controller = controller
        self._vitals = vitals
        self._pace = pace
        self._drawing = Drawing(controller, pace)
        self._progress = progress
        self._mirror = mirror
        self._next_show = 0.0

    @property
    def finished(self) -> bool:
        """Whether nothing is left to hand out, ever."""
        return self._controller.finished

    def hand_out(self) -> Assignment | None:
        """The next attempt to run; None if there is none now."""
        return self._controller.hand_out()

    def hear_line(self, assignment: Assignment, line: dict[str, Any]) -> bool:
        """Take note of an epoch; whether the trial goes on."""
        self._pace.hear_epoch()
        goes_on = self._controller.hear_line(assignment, line)
        self._mirror.wake()
        return goes_on

    def hear_end(
        self, assignment: Assignment, ended: EndClass, cause: str | None, trace: list[str], node: str | None
    ) -> None:
        """Take note of an attempt's end."""
        self._pace.hear_epoch()
        self._controller.hear_end(assignment, ended, cause, trace, node)
        self._mirror.wake()
        self.tick()

    def tick(self) -> None:
        """Look for a request to stop, and show how the sweep stands; raises if the cluster is dead."""
        self._vitals.refuse_death()
        self._controller.tick()
        if time.monotonic() >= self._next_show:
            self.show()

    def show(self) -> None:
        """Show how the sweep stands now."""
        began = time.monotonic()
        self._progress.show(self._drawing.board(self._mirror.last_error))
        now = time.monotonic()
        self._next_show = now + min(_REST * (now - began), _LONGEST_REST_SECONDS)

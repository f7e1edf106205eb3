"""The Tune trainable: one driver without torch per slot, which owns a gang and hands it trial after trial."""

from __future__ import annotations

import json
import signal
import socket
import time
from dataclasses import asdict, replace
from types import FrameType
from typing import Any

from ray.tune import PlacementGroupFactory, Trainable
from ray.util import get_current_placement_group

from orchestrator.store.records import EndClass
from orchestrator.store.stop_sign import StopSign
from orchestrator.trial.assignment import Assignment
from orchestrator.trial.failure import GangLostError, classify, describe, trace
from orchestrator.trial.gang import Gang
from orchestrator.trial.news import News

__all__ = ["LeavingError", "TrialDriver"]

_SLICE_SECONDS = 0.25
_LOOK_SECONDS = 1.0


class LeavingError(Exception):
    """The news of an attempt whose driver must not be used again: its machine may be gone.

    It is raised rather than returned, so that Tune gives up driver and placement group and takes new ones.
    """

    @classmethod
    def of(cls, news: News) -> LeavingError:
        """The error that carries some news, as text: of an error Tune keeps nothing else that we can read."""
        return cls(json.dumps(asdict(news)))

    @classmethod
    def find(cls, said: str) -> News | None:
        """The news in what Ray says of the error; None if it was another one."""
        for line in reversed(said.splitlines()):
            name, _, news = line.partition(": ")
            if name.endswith(cls.__name__):
                return News.from_dict(json.loads(news))
        return None


class TrialDriver(Trainable):
    """Runs one attempt after another; a Tune step is an epoch.

    Tune may build a driver and drop it unused, so `setup` has no effect on anything: the gang and the
    attempt start in the first step. No failure but LeavingError leaves a step: it costs driver and gang.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
        """A placement group for this trial's shape, on the machines that may run it."""
        assignment = Assignment.from_config(config)
        shape = assignment.shape
        where: dict[str, Any] = {}
        if assignment.nodes:
            selector = {"ray.io/node-id": f"in({','.join(assignment.nodes)})"}
            where = {"bundle_label_selector": [selector] * shape.workers}
        return PlacementGroupFactory(shape.bundles(), strategy=shape.placement.upper(), **where)

    def setup(self, config: dict[str, Any]) -> None:
        """Remember the assignment."""
        self._gang: Gang | None = None
        self._terminated = False
        # Ray's own handler would end the process at once, and the ranks with it
        signal.signal(signal.SIGTERM, self._hear_sigterm)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Remember the next assignment; the gang stays."""
        self._assignment = Assignment.from_config(new_config)
        self._stop_sign = StopSign(self._assignment.stop_file)
        self._started = False
        self._asked_to_stop = False
        self._leaving: str | None = None
        self._looked = time.monotonic()
        return True

    def step(self) -> dict[str, Any]:
        """The next epoch's news, with `done` on the last one."""
        try:
            news = self._next_news()
        except Exception as error:
            news = News(ended=classify(error), cause=describe(error), trace=trace(error), node=self._host())
            self.cleanup()
        if news.ended is EndClass.STOPPED and self._leaving is not None:
            news = replace(news, ended=EndClass.PREEMPTED, cause=self._leaving)
        if self._gang is not None and not self._gang.is_sound:
            self.cleanup()
        if news.ended in (EndClass.PREEMPTED, EndClass.INFRASTRUCTURE):
            self.cleanup()
            raise LeavingError.of(news)
        return {"news": news, "done": news.ended is not None}

    def cleanup(self) -> None:
        """Kill the gang."""
        if self._gang is not None:
            self._gang.end()
            self._gang = None

    def _next_news(self) -> News:
        gang = self._warm_gang()
        self._look_after(gang)
        answers = gang.advance()
        while (news := gang.news(answers, _SLICE_SECONDS)) is None:
            self._look_after(gang)
        return news

    def _warm_gang(self) -> Gang:
        shape = self._assignment.shape
        if self._gang is not None and self._gang.shape != shape:
            self.cleanup()
        if self._gang is None:
            group = get_current_placement_group()
            if group is None:
                raise GangLostError("the driver has no placement group for its ranks")
            self._gang = Gang(shape, group)
        if not self._started:
            self._gang.start(self._assignment)
            self._started = True
        return self._gang

    def _look_after(self, gang: Gang) -> None:
        self._pass_on_stop(gang)
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            gang.look(self._assignment.hang_seconds)
            self._make_way(gang)

    def _pass_on_stop(self, gang: Gang) -> None:
        if not self._asked_to_stop and self._stop_sign.is_up():
            gang.stop()
            self._asked_to_stop = True

    def _make_way(self, gang: Gang) -> None:
        """Checkpoint and leave while there is time, if the machine below is wanted back."""
        if self._leaving is None:
            self._leaving = "its driver was sent SIGTERM" if self._terminated else gang.leaving()
            if self._leaving is not None:
                gang.stop()

    def _host(self) -> str:
        return (self._gang.host(0) if self._gang else None) or socket.gethostname()

    def _hear_sigterm(self, number: int, frame: FrameType | None) -> None:
        self._terminated = True

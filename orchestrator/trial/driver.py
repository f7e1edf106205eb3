"""The Tune trainable: one driver without torch per slot, which owns a gang and hands it trial after trial."""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import Any

from ray.tune import PlacementGroupFactory, Trainable
from ray.util import get_current_placement_group

from orchestrator.trial.assignment import Assignment
from orchestrator.trial.failure import GangLostError, HangError, classify, describe
from orchestrator.trial.gang import Gang, News

__all__ = ["TrialDriver"]

_SLICE_SECONDS = 0.25
_WATCH_SECONDS = 5.0


class TrialDriver(Trainable):
    """Runs one attempt after another; a Tune step is an epoch.

    Tune may build a driver and drop it unused, so `setup` has no effect on anything: the gang and the
    attempt start in the first step. No failure leaves a step: an exception would cost driver and gang.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
        """A placement group for this trial's shape."""
        return PlacementGroupFactory(Assignment.from_config(config).shape.bundles())

    def setup(self, config: dict[str, Any]) -> None:
        """Remember the assignment."""
        self._gang: Gang | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Remember the next assignment; the gang stays."""
        self._assignment = Assignment.from_config(new_config)
        self._started = False
        self._asked_to_stop = False
        return True

    def step(self) -> dict[str, Any]:
        """The next epoch's news, with `done` on the last one."""
        try:
            news = self._next_news()
            self._drop_unsound_gang()
        except Exception as error:
            self.cleanup()
            trace = traceback.format_exc().splitlines()
            news = News(ended=classify(error), cause=describe(error), trace=trace)
        return {"news": news, "done": news.ended is not None, "node": self._local_ip}

    def cleanup(self) -> None:
        """Kill the gang."""
        if self._gang is not None:
            self._gang.end()
            self._gang = None

    def _next_news(self) -> News:
        gang = self._warm_gang()
        self._pass_on_stop(gang)
        answers = gang.advance()
        watched = time.monotonic()
        while (news := gang.news(answers, _SLICE_SECONDS)) is None:
            self._pass_on_stop(gang)
            if time.monotonic() - watched > _WATCH_SECONDS:
                watched = time.monotonic()
                self._refuse_silence(gang)
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
            self._gang.start(self._assignment.to_config())
            self._started = True
        return self._gang

    def _drop_unsound_gang(self) -> None:
        if self._gang is not None and not self._gang.is_sound:
            self.cleanup()

    def _pass_on_stop(self, gang: Gang) -> None:
        if not self._asked_to_stop and Path(self._assignment.stop_file).exists():
            gang.stop()
            self._asked_to_stop = True

    def _refuse_silence(self, gang: Gang) -> None:
        silence = gang.silence()
        limit = self._assignment.hang_seconds
        if silence > limit:
            raise HangError(f"no update was finished for {silence:.0f} s (hang.seconds is {limit:g})")

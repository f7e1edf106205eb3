"""One sweep in trouble: it is watched while it runs, killed, resumed, and judged in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.chaos.killer import Victim
from tests.chaos.stage import Process, Stage
from tests.chaos.witness import Witness, fingerprints

__all__ = ["Troubled", "Verdict"]

_GLANCE_SECONDS = 0.1
_STUCK_SECONDS = 300.0


@dataclass
class Verdict:
    """What there is to say about some sweeps in trouble."""

    sweeps: int = 0
    trials: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    damages: dict[str, int] = field(default_factory=dict)
    orphan_seconds: float = 0.0
    complaints: list[str] = field(default_factory=list)

    def count(self, what: str, which: dict[str, int]) -> None:
        """One more of something."""
        which[what] = which.get(what, 0) + 1

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {what}" for what, count in (self.kills | self.damages).items())
        words = f"{counts or 'nothing'} in {self.sweeps} sweep(s); {self.trials} trials compared; "
        words += f"last orphan gone after {self.orphan_seconds:.1f} s; {len(self.complaints)} complaint(s)"
        return "\n  ".join([words, *self.complaints])


class Troubled:
    """A sweep that is started again each time it has ended before its time."""

    def __init__(
        self, stage: Stage, name: str, overrides: Sequence[str], processors: int | None, verdict: Verdict
    ) -> None:
        self.stage = stage
        self.name = name
        self.overrides = tuple(overrides)
        self.processors = processors
        self.verdict = verdict
        self.witness = Witness(stage.root(name))
        self.process: Process | None = None

    @property
    def lines(self) -> int:
        """Metric lines so far, in all attempts."""
        return self.stage.lines(self.name)

    @property
    def ended(self) -> bool:
        """Whether the command has ended by itself."""
        return self.process is not None and self.process.poll() is not None

    def go_on(self) -> None:
        """Start the command, or resume with it."""
        self.process = self.stage.start(self.name, self.overrides, self.processors)

    def watch(self, ripe: Callable[[], bool] = lambda: False) -> bool:
        """Look on until something is ripe; False if the command has ended before."""
        deadline = time.monotonic() + _STUCK_SECONDS
        while not ripe():
            if self.ended:
                return False
            if time.monotonic() > deadline:
                self._complain(f"nothing happened for {_STUCK_SECONDS:g} s")
                return False
            self.witness.look()
            time.sleep(_GLANCE_SECONDS)
        return not self.ended

    def watch_for(self, seconds: float) -> bool:
        """Look on for some time; False if the command has ended before."""
        until = time.monotonic() + seconds
        return self.watch(lambda: time.monotonic() > until)

    def watch_lines(self, more: int) -> bool:
        """Look on until so many more lines are there; False if the command has ended before."""
        goal = self.lines + more
        return self.watch(lambda: self.lines >= goal)

    def kill_controller(self, *, group: bool, wait: bool = True) -> None:
        """SIGKILL the command; whatever it started must be gone before long, which is waited for or not."""
        assert self.process is not None
        self.stage.killer.kill_controller(self.process.pid, group=group)
        self.process.wait()
        self.verdict.count("controller group" if group else "controller", self.verdict.kills)
        if wait:
            self._await_orphans()

    def kill_one(self, kind: Victim) -> bool:
        """SIGKILL a random process of a kind, if there is one."""
        if self.stage.killer.kill_one(kind) is None:
            return False
        self.verdict.count(kind.name.lower(), self.verdict.kills)
        return True

    def finish(self) -> None:
        """Let it run to its end, undisturbed, and judge it."""
        if self.process is None or self.process.poll() not in (None, 0):
            self.go_on()
        self.watch()
        self.judge()

    def judge(self) -> None:
        """Compare the ended sweep with one that nothing happened to."""
        assert self.process is not None
        if (code := self.process.poll()) != 0:
            self._complain(f"ended with exit code {code}; see {self.stage.log(self.name)}")
        self._await_orphans()
        self.witness.close()
        self.verdict.complaints += self.witness.complaints
        for left in self.stage.temporary.glob("cpsc-*"):
            self._complain(f"left {left.name} in the temporary folder")
        expected = self.stage.in_peace(self.name, self.overrides)
        found = fingerprints(self.stage.root(self.name))
        for trial in sorted(expected.keys() | found.keys()):
            if (there := found.get(trial)) != (wanted := expected.get(trial)):
                what = "is missing" if there is None else "ought not to be" if wanted is None else "differs"
                self._complain(f"trial {trial} {what}")
        self.verdict.sweeps += 1
        self.verdict.trials += len(expected)

    def _await_orphans(self) -> None:
        began = time.monotonic()
        for pid, command in self.stage.killer.survivors().items():
            self._complain(f"process {pid} has outlived its controller: {command[:80]}")
        self.verdict.orphan_seconds = max(self.verdict.orphan_seconds, time.monotonic() - began)

    def _complain(self, what: str) -> None:
        self.verdict.complaints.append(f"{self.name}: {what}")

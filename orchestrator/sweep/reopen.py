"""Which finished trials a resume tries again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.errors import UsageError
from orchestrator.store.folder import SweepFolder, TrialFolder, named
from orchestrator.store.records import TrialState

__all__ = ["Reopen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopen:
    """A choice of finished trials; the empty choice is none."""

    failed: bool = False
    """Every failed trial."""
    trials: tuple[str, ...] = ()
    """Trials by number, by hash, or by a beginning of it that only one trial has."""
    causes: tuple[str, ...] = ()
    """Failed trials whose failure is of one of these classes."""

    def choose(self, folder: SweepFolder) -> list[TrialFolder]:
        """The chosen trials of a sweep; raises UsageError for what does not name a single one."""
        trials = folder.trials()
        wanted = set(self._named(folder, trials))
        return [
            trial
            for trial in trials
            if trial.result is not None and (trial.name in wanted or self._is_meant(trial))
        ]

    def _named(self, folder: SweepFolder, trials: list[TrialFolder]) -> Iterator[str]:
        for wanted in self.trials:
            matches = [trial for trial in named(trials, wanted) if trial.result is not None]
            if len(matches) != 1:
                raise UsageError(
                    f"{wanted!r} names {len(matches)} finished trials of {folder.name}, and one is "
                    f"needed; `cpsc-orchestrate status {folder.paths.address}` lists them"
                )
            yield matches[0].name

    def _is_meant(self, trial: TrialFolder) -> bool:
        if trial.state is not TrialState.FAILED or trial.result is None:
            return False
        return self.failed or trial.result.cause in self.causes

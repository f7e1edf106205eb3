"""What is settled before anything of a sweep runs: what its file may change, and what is known already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.config import Experiment, SweepConfig, changes, difference, parse_experiment
from orchestrator.errors import UsageError
from orchestrator.manifest import begin_run
from orchestrator.store.folder import SweepFolder
from orchestrator.store.paths import SweepPaths
from orchestrator.store.working_copy import place_of
from orchestrator.store.writer import SweepWriter
from orchestrator.study.prior import describe_prior, gather_prior
from orchestrator.sweep.reopen import Reopen

__all__ = ["prepare"]


def prepare(
    experiment: Experiment,
    writer: SweepWriter,
    reopen: Reopen,
    say: Callable[[str], None],
) -> None:
    """Begin another run in a sweep's folder.

    What can be refused is refused here, before anything runs: raises UsageError for a file that decides the
    trials in another way than the sweep's own, and for trials to reopen that are not there.
    """
    folder = SweepFolder(writer.paths)
    changed = _changes(experiment.config, writer.paths)
    start_from = _start_from(experiment.config, folder, say)
    writer.write_experiment(experiment.text)
    for trial in reopen.choose(folder):
        writer.reopen(trial.name)
    manifest = begin_run(
        folder.manifest,
        experiment,
        name=writer.paths.name,
        generation=writer.lease.generation,
        changes=changed,
        start_from=start_from,
    )
    writer.write_manifest(manifest)


def _changes(config: SweepConfig, paths: SweepPaths) -> list[str]:
    """Fields in which the file differs from the sweep's own; UsageError if they decide a trial."""
    if not paths.experiment.exists():
        return []
    before = parse_experiment(SweepFolder(paths).experiment).config
    if lines := difference(before, config):
        raise UsageError(
            f"sweep {paths.name} in {paths.storage.address} was started with other values, "
            "which decide its trials:\n  "
            + "\n  ".join(lines)
            + f"\ngive the experiment another name, or go on with the old values: "
            f"`cpsc-orchestrate resume {paths.address}`"
        )
    return changes(before, config)


def _start_from(config: SweepConfig, folder: SweepFolder, say: Callable[[str], None]) -> Mapping[str, Any]:
    """What earlier sweeps know, looked up once, when the sweep begins."""
    if "start_from" in folder.manifest:
        known: Mapping[str, Any] = folder.manifest["start_from"]
        return known
    gathered = gather_prior(config, place_of(folder.paths.storage.root))
    for line in describe_prior(gathered):
        say(line)
    return gathered

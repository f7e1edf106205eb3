"""Whether what shows the sweeps of a storage folder agrees with their folders, and making it agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.doctor.check import Check, Verdict
from orchestrator.errors import OrchestratorError
from orchestrator.mirror import Mirror, default_uri
from orchestrator.report.views import Views
from orchestrator.store.folder import SweepFolder
from orchestrator.store.ownership import owner_of
from orchestrator.store.paths import StoragePaths
from orchestrator.store.relay import push_views

__all__ = ["examine_views"]


def examine_views(storage: Path, *, fix: bool) -> list[Check]:
    """One check per sweep that nobody runs; with `fix` what disagrees is written again first.

    A living controller keeps the views of its own sweep, so that one is left alone.
    """
    names = sorted(path.parent.name for path in storage.glob("*/manifest.json"))
    checks = (_readable(SweepFolder(StoragePaths(storage).sweep(name)), fix) for name in names)
    return [check for check in checks if check is not None]


def _readable(folder: SweepFolder, fix: bool) -> Check | None:
    """What `_sweep` finds, or why the sweep cannot be read; None while somebody runs it."""
    try:
        return None if owner_of(folder.paths) is not None else _sweep(folder, fix)
    except (OrchestratorError, OSError) as error:
        found, _, advice = str(error).rpartition("; ")
        return Check(
            name=f"views of {folder.name}",
            verdict=Verdict.WARN,
            finding=found or advice,
            advice=advice if found else "see to it and try again",
        )


def _sweep(folder: SweepFolder, fix: bool) -> Check:
    name = f"views of {folder.name}"
    problems = _problems(folder)
    if not problems:
        return Check(name=name, verdict=Verdict.OK, finding="agree with the folders")
    if not fix:
        advice = f"cpsc-orchestrate doctor --fix --storage {folder.paths.storage.address}"
        return Check(name=name, verdict=Verdict.WARN, finding="; ".join(problems), advice=advice)
    try:
        _write(folder)
    except (OrchestratorError, OSError) as error:
        return Check(name=name, verdict=Verdict.WARN, finding=str(error), advice="see to it and try again")
    return Check(name=name, verdict=Verdict.OK, finding=f"brought up to date: {'; '.join(problems)}")


def _problems(folder: SweepFolder) -> list[str]:
    problems = []
    if (differing := _differing(folder)) is None:
        problems.append("trials.parquet cannot be read")
    elif differing:
        problems.append(f"trials.parquet is wrong about {differing} trial(s)")
    if folder.trials() and not folder.paths.report.exists():
        problems.append("there is no report.html")
    if lacking := _mirror(folder).backlog():
        problems.append(f"MLflow lacks {lacking} trial(s)")
    return problems


def _differing(folder: SweepFolder) -> int | None:
    """Trials of which the Parquet file says something else than their folder; None if it is no such file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    truth = {(trial.name, trial.state.value) for trial in folder.trials()}
    try:
        table: Any = pq.read_table(folder.paths.trials_table, columns=["trial", "state"])
        said = set(zip(table["trial"].to_pylist(), table["state"].to_pylist(), strict=True))
    except FileNotFoundError:
        return len(truth)
    except (OSError, KeyError, pa.ArrowException):
        return None
    return len({trial for trial, _ in truth ^ said})


def _write(folder: SweepFolder) -> None:
    from orchestrator.report.page.page import write_report

    folder.paths.trials_table.unlink(missing_ok=True)
    Views(folder).write()
    if folder.trials():
        write_report(folder)
    _mirror(folder).sync()
    push_views(folder.paths)


def _mirror(folder: SweepFolder) -> Mirror:
    uri = folder.manifest.get("tracking_uri") or default_uri(folder.paths.storage)
    return Mirror(uri, folder.paths)

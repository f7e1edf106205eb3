"""Commands that start, continue and stop sweeps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.frame import (
    PROGRAM,
    Command,
    end,
    file_argument,
    json_option,
    print_facts,
    print_json,
    set_option,
    show,
    storage_option,
    sweep_argument,
)
from orchestrator.store.address import Storage
from orchestrator.store.folder import SweepFolder, find_sweep
from orchestrator.store.ownership import owner_of
from orchestrator.store.records import EndClass

if TYPE_CHECKING:
    from orchestrator.sweep.run import Outcome

__all__ = ["RUNNING"]

_FAILURES = [each.value for each in EndClass if each.is_failure]
_ENDINGS = {
    1: ("some trials failed", "resume {sweep} --failed"),
    2: ("the sweep could not go on", "status {sweep}"),
    3: ("the cluster or the storage cannot be reached", "doctor"),
    4: ("the budget was spent before anything finished", "status {sweep}"),
    5: ("another controller owns the sweep", "status {sweep}"),
    130: ("interrupted", "resume {sweep}"),
    143: ("terminated", "resume {sweep}"),
}

_address_option = click.option(
    "--address",
    metavar="ADDRESS",
    help="Ray cluster to join, such as 10.0.0.1:6379; auto: the one this machine belongs to. "
    "Default: a private Ray on this machine.",
)


@click.command("sweep", cls=Command)
@file_argument
@set_option
@storage_option(default=None)
@_address_option
def _sweep(file: Path, overrides: tuple[str, ...], storage: Storage | None, address: str | None) -> None:
    """Run the sweep that FILE describes.

    If it has begun already it is continued; nothing that is finished is computed again.

    \b
    Example:
      cpsc-orchestrate sweep experiments/digits.yaml --set budget.trials=8
    """
    from orchestrator.config import load_experiment
    from orchestrator.sweep.commands import run_sweep
    from orchestrator.sweep.progress import progress_for

    experiment = load_experiment(file, overrides)
    storage = storage or experiment.config.storage
    with progress_for(sys.stdout) as progress:
        outcome = run_sweep(experiment, storage=storage, address=address, progress=progress)
    _close(outcome)


@click.command("resume", cls=Command)
@sweep_argument
@click.option("--failed", is_flag=True, help="Try all failed trials again.")
@click.option(
    "--trial",
    "trials",
    metavar="TRIAL",
    multiple=True,
    help="Try this trial again, by number or hash. May be repeated.",
)
@click.option(
    "--cause",
    "causes",
    type=click.Choice(_FAILURES),
    multiple=True,
    help="Try trials again that failed for this cause. May be repeated.",
)
@click.option(
    "--add-trials", type=click.IntRange(min=0), default=0, metavar="N", help="Search N trials more."
)
@set_option
@click.option("--takeover", is_flag=True, help="Fence off a controller that is beyond reach.")
@_address_option
def _resume(sweep: str, storage: Storage, **choices: Any) -> None:
    """Continue SWEEP where it stands.

    Nothing that is finished is computed again, unless one of the options asks for it. --set changes a field
    of the sweep for good; one that decides its trials, such as train.epochs, is refused.

    \b
    Examples:
      cpsc-orchestrate resume digits
      cpsc-orchestrate resume digits --cause out_of_memory --add-trials 16
      cpsc-orchestrate resume digits --set budget.hours=8
    """
    from orchestrator.sweep.commands import resume_sweep
    from orchestrator.sweep.progress import progress_for

    folder = find_sweep(sweep, storage)
    with progress_for(sys.stdout) as progress:
        outcome = resume_sweep(folder, **choices, progress=progress)
    _close(outcome)


@click.command("stop", cls=Command)
@sweep_argument
def _stop(sweep: str, storage: Storage) -> None:
    """Ask SWEEP to checkpoint its trials and stop.

    `resume` continues it.

    \b
    Example:
      cpsc-orchestrate stop digits
    """
    from orchestrator.sweep.commands import request_stop

    folder = find_sweep(sweep, storage)
    owner = owner_of(folder.paths)
    if owner is None:
        click.echo(f"{folder.name} is not running")
        return
    request_stop(folder)
    click.echo(f"{folder.name} will stop after its next checkpoints; its controller is {owner}")


@click.command("teacher", cls=Command)
@file_argument
@set_option
@storage_option(default=None)
@json_option
def _teacher(file: Path, overrides: tuple[str, ...], storage: Storage | None, as_json: bool) -> None:
    """Load the teacher of FILE, or train it.

    A trained teacher is kept in the storage folder, for all sweeps that name the same one.

    \b
    Example:
      cpsc-orchestrate teacher experiments/digits.yaml
    """
    from orchestrator.config import load_experiment
    from orchestrator.sweep.progress import progress_for
    from orchestrator.sweep.teacher_stage import make_teacher

    experiment = load_experiment(file, overrides)
    storage = storage or experiment.config.storage
    with progress_for(sys.stderr if as_json else sys.stdout) as progress:
        card = make_teacher(experiment, storage=storage, progress=progress)
    if as_json:
        print_json(card)
    else:
        print_facts(card)


RUNNING = (_teacher, _sweep, _resume, _stop)


def _close(outcome: Outcome) -> None:
    """Print what was found and leave with the outcome's exit code and, unless all is well, a last line."""
    from orchestrator.report.closing import closing_text

    folder = SweepFolder(outcome.sweep)
    if folder.manifest:
        show(closing_text(folder))
    if outcome.exit_code:
        cause, command = _ENDINGS[outcome.exit_code]
        following = f"{PROGRAM} {command.format(sweep=outcome.sweep.address)}"
        end(outcome.exit_code, outcome.message or cause, following)
    if outcome.message:
        click.echo(outcome.message)

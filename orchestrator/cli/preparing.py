"""Commands to run before a sweep: is the file right, what will it cost, is this machine fit."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.frame import (
    DEFAULT_STORAGE,
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
)
from orchestrator.errors import ConfigError
from orchestrator.store.address import Storage

if TYPE_CHECKING:
    from orchestrator.config import SweepConfig

__all__ = ["PREPARING"]


@click.command("validate", cls=Command)
@file_argument
@set_option
@json_option
def _validate(file: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check an experiment FILE without running anything.

    \b
    Example:
      cpsc-orchestrate validate experiments/digits.yaml --set pruner.name=none
    """
    from orchestrator.config import load_experiment

    try:
        config = load_experiment(file, overrides).config
    except ConfigError as error:
        if as_json:
            print_json({"valid": False, "file": str(file), "problems": str(error).splitlines()})
        raise
    facts = _facts(config)
    if as_json:
        print_json({"valid": True, "file": str(file), "problems": [], **facts})
        return
    click.echo(f"{file} is valid")
    print_facts(facts)


@click.command("plan", cls=Command)
@file_argument
@set_option
@json_option
def _plan(file: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Tell what the sweep of FILE will cost on this machine.

    Trials, rungs, epochs, disk and hours. Needs no cluster: a few training iterations are timed here, which
    takes some seconds.

    \b
    Example:
      cpsc-orchestrate plan experiments/digits.yaml --set budget.trials=100
    """
    from orchestrator.config import load_experiment
    from orchestrator.plan import measure, plan_document, render_plan

    config = load_experiment(file, overrides).config
    document = plan_document(config, measure(config))
    if as_json:
        print_json(document)
    else:
        show(render_plan(document))


@click.command("doctor", cls=Command)
@storage_option(default=DEFAULT_STORAGE)
@click.option("--address", metavar="ADDRESS", help="Check this Ray cluster too, such as 10.0.0.1:6379.")
@click.option("--fix", is_flag=True, help="Write reports, tables and MLflow again where they are behind.")
@json_option
def _doctor(storage: Storage, address: str | None, fix: bool, as_json: bool) -> None:
    """Check whether this machine can run sweeps and show them.

    Says what to do where it cannot, and where what shows them is not up to date.

    \b
    Example:
      cpsc-orchestrate doctor --storage /scratch/cpsc-runs --address 10.0.0.1:6379
    """
    from orchestrator.doctor.examination import doctor_document, examine, exit_code, failures, render_doctor

    checks = examine(storage, address=address, fix=fix)
    if as_json:
        print_json(doctor_document(checks))
    else:
        show(render_doctor(checks))
    if code := exit_code(checks):
        end(code, failures(checks), shlex.join([PROGRAM, "doctor", "--storage", str(storage)]))


@click.command("schema", cls=Command)
def _schema() -> None:
    """Print the JSON Schema of experiment files.

    Editors check and complete an experiment by it; one that knows the YAML language server reads the line
    `# yaml-language-server: $schema=FILE` at the top of the experiment.

    \b
    Example:
      cpsc-orchestrate schema > schema.json
    """
    from orchestrator.config.json_schema import experiment_schema

    print_json(experiment_schema())


PREPARING = (_validate, _plan, _doctor, _schema)


def _facts(config: SweepConfig) -> dict[str, Any]:
    """What a person would check first."""
    return {
        "sweep": config.name,
        "data": config.data.name,
        "teacher": f"{config.teacher.arch} ({config.teacher.checkpoint or 'trained if none is kept'})",
        "student": config.student.arch,
        "search": list(config.search),
        "sampler": config.sampler.name,
        "pruner": config.pruner.name,
        "objective": ", ".join(f"{each.direction} {each.of} {each.metric}" for each in config.objectives),
        "trials": config.budget.trials,
        "storage": str(config.storage),
    }

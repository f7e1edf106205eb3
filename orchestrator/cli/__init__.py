"""The command line. Nothing heavy is imported before a command runs, so that help is instant."""

from __future__ import annotations

import click

from orchestrator import __version__
from orchestrator.cli.data import DATA
from orchestrator.cli.frame import PROGRAM, Program
from orchestrator.cli.inspecting import INSPECTING
from orchestrator.cli.preparing import PREPARING
from orchestrator.cli.reporting import REPORTING
from orchestrator.cli.running import RUNNING
from orchestrator.cli.tidying import TIDYING

__all__ = ["main"]


@click.group(PROGRAM, cls=Program, invoke_without_command=True)
@click.version_option(__version__, prog_name=PROGRAM)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Find the settings that distil the best small student from a trained teacher, without its data.

    An experiment FILE describes a sweep; a SWEEP is its name below --storage, the path of its
    folder, or its address in a bucket.

    \b
    Start here:
      cpsc-orchestrate validate experiments/digits.yaml
      cpsc-orchestrate sweep experiments/digits.yaml
      cpsc-orchestrate status digits
      cpsc-orchestrate ui
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for command in (*PREPARING, *DATA, *RUNNING, *INSPECTING, *REPORTING, *TIDYING):
    main.add_command(command)

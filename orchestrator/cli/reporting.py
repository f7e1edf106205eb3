"""Commands that make something of a sweep to keep or to show: a report, a comparison, an export."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli.frame import (
    DEFAULT_STORAGE,
    Command,
    json_option,
    print_json,
    show,
    storage_option,
    sweep_argument,
)
from orchestrator.errors import UsageError
from orchestrator.store.folder import find_sweep

__all__ = ["REPORTING"]


@click.command("report", cls=Command)
@sweep_argument
@click.option("--markdown", is_flag=True, help="Print the leaderboard as Markdown, for a pull request.")
@json_option
def _report(sweep: str, storage: Path, markdown: bool, as_json: bool) -> None:
    """Write SWEEP as one HTML page.

    The page lies in the sweep's folder as report.html, needs no network and can be sent to anybody.

    \b
    Examples:
      cpsc-orchestrate report digits
      cpsc-orchestrate report digits --markdown
    """
    from orchestrator.report.leaderboard import leaderboard_document
    from orchestrator.report.markdown import leaderboard_markdown
    from orchestrator.report.page.document import report_document
    from orchestrator.report.page.page import write_report
    from orchestrator.report.snapshot import SweepSnapshot

    folder = SweepSnapshot(find_sweep(sweep, storage).paths)
    if markdown and as_json:
        raise UsageError("--json and --markdown print different things; choose one of them")
    if as_json:
        print_json(report_document(folder))
    elif markdown:
        click.echo(leaderboard_markdown(leaderboard_document(folder)), nl=False)
    else:
        write_report(folder)
        click.echo(f"{folder.name} is described in {folder.paths.report}")


@click.command("compare", cls=Command)
@click.argument("sweeps", metavar="SWEEP SWEEP...", nargs=-1, required=True)
@storage_option(default=DEFAULT_STORAGE)
@json_option
def _compare(sweeps: tuple[str, ...], storage: Path, as_json: bool) -> None:
    """Show several sweeps side by side.

    Says on which terms they do not compare: another teacher, other data, another budget.

    \b
    Example:
      cpsc-orchestrate compare digits digits-wide
    """
    from orchestrator.report.compare import compare_document, render_comparison

    if len(sweeps) < 2:
        raise UsageError(f"one sweep, {sweeps[0]}, has nothing to be compared with; name another one")
    document = compare_document([find_sweep(sweep, storage) for sweep in sweeps])
    if as_json:
        print_json(document)
    else:
        show(render_comparison(document))


REPORTING = (_report, _compare)

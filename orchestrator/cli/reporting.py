"""Commands that make something of a sweep to keep or to show: a report, a comparison, an export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orchestrator.cli.frame import (
    DEFAULT_STORAGE,
    Command,
    complete_sweep,
    json_option,
    print_facts,
    print_json,
    show,
    storage_option,
    sweep_argument,
)
from orchestrator.errors import UsageError
from orchestrator.store.address import Storage
from orchestrator.store.folder import find_sweep
from orchestrator.store.relay import push_views
from orchestrator.store.working_copy import place_of, publish

__all__ = ["REPORTING"]


@click.command("report", cls=Command)
@sweep_argument
@click.option("--markdown", is_flag=True, help="Print the leaderboard as Markdown, for a pull request.")
@json_option
def _report(sweep: str, storage: Storage, markdown: bool, as_json: bool) -> None:
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
        push_views(folder.paths)
        click.echo(f"{folder.name} is described in {place_of(folder.paths.report)}")


@click.command("compare", cls=Command)
@click.argument("sweeps", metavar="SWEEP SWEEP...", nargs=-1, required=True, shell_complete=complete_sweep)
@storage_option(default=DEFAULT_STORAGE)
@json_option
def _compare(sweeps: tuple[str, ...], storage: Storage, as_json: bool) -> None:
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


@click.command("export", cls=Command)
@sweep_argument
@click.option("--to", type=click.Choice(["safetensors", "onnx"]), help="Write the student in this format.")
@click.option(
    "--images", type=click.IntRange(min=1), metavar="N", help="Write N images of the generator, for training."
)
@click.option("--trial", metavar="TRIAL", help="Its number, or the start of its hash. Default: the best.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to write to. Default: export/ in the sweep's folder.",
)
@json_option
def _export(
    sweep: str,
    storage: Storage,
    to: str | None,
    images: int | None,
    trial: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Write the best student of SWEEP, or images, for other programs.

    A student is read back and compared with what the sweep kept before this says that it is done.

    \b
    Examples:
      cpsc-orchestrate export digits --to onnx
      cpsc-orchestrate export digits --images 50000
    """
    from orchestrator.export import export_images, export_student

    if (to is None) == (images is None):
        raise UsageError("export writes a student (--to) or images (--images N); give one of the two")
    folder = find_sweep(sweep, storage)
    if to is not None:
        document = export_student(folder, to=to, trial=trial, output=output)
    else:
        document = export_images(folder, images or 0, trial=trial, output=output)
    if output is None:
        made = Path(document["folder"])
        publish(*(path for path in made.rglob("*") if path.is_file()))
        document["folder"] = str(place_of(made))
    if as_json:
        print_json(document)
    else:
        print_facts(_told(document))


REPORTING = (_report, _compare, _export)


def _told(document: dict[str, Any]) -> dict[str, str]:
    """An export as people read it."""
    from orchestrator.report.wording import size

    facts = {"trial": document["trial"], "folder": document["folder"], "size": size(document["bytes"])}
    if "images" in document:
        counts = document["images"]
        return facts | {"images": f"{counts['train']:,} to train on, {counts['test']:,} to test on"}
    return facts | {
        "file": document["file"],
        "parameters": f"{document['parameters']:,}",
        "latency": f"{document['milliseconds_for_one']:.2f} ms for one image, "
        f"{document['milliseconds_of_many']:.3f} ms each in batches of 32",
        "checked": f"answers as the student does, to {document['largest_difference']:.1e}",
    }

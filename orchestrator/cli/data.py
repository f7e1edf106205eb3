"""The command that shows and downloads data sets."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.frame import Command, json_option, print_json, show

if TYPE_CHECKING:
    from cpsc_core.data.catalogue import Entry

__all__ = ["DATA"]


@click.command("data", cls=Command)
@click.argument("name", required=False)
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to download to; the experiment file's data.root.",
)
@json_option
def _data(name: str | None, root: Path | None, as_json: bool) -> None:
    """Show the data sets there are, or download NAME.

    A download is verified by the publisher's digest and unpacked. One that was cut off goes on where it was,
    and what is there already is left alone. Nothing else ever downloads anything.

    \b
    Examples:
      cpsc-orchestrate data
      cpsc-orchestrate data cifar10 --root ~/data
    """
    if name is None:
        _print_table(as_json)
    elif root is None:
        raise click.UsageError(f"--root is needed: the folder to download {name} to")
    else:
        _download(name, root.expanduser().absolute(), as_json)


def _download(name: str, root: Path, as_json: bool) -> None:
    from cpsc_core.data.catalogue import file_set
    from cpsc_core.data.download import obtain

    data_set = file_set(name)
    with click.progressbar(length=100, label=name, file=sys.stderr) as bar:
        files = obtain(data_set, root, _follow(bar))
        bar.update(100 - bar.pos)
    if as_json:
        print_json({"data": name, "root": str(root), "files": [str(path) for path in files]})
    else:
        click.echo(f"{name} is in {root}; in the experiment file:\n  data: {{name: {name}, root: {root}}}")


def _follow(bar: Any) -> Callable[[str, int, int], None]:
    """Move the bar, which starts again for every file."""

    def told(file: str, done: int, total: int) -> None:
        bar.label = file
        bar.update((100 * done // total if total else 0) - bar.pos)

    return told


def _print_table(as_json: bool) -> None:
    from cpsc_core.data.catalogue import catalogue

    entries = catalogue()
    if as_json:
        print_json({"data": [asdict(each) for each in entries]})
        return
    from rich.table import Table

    table = Table("name", "images", "classes", "shape", "download", "terms", box=None, pad_edge=False)
    for entry in entries:
        table.add_row(*_row(entry))
    show(table)


def _row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.name,
        ", ".join(f"{count:,} {part}" for part, count in entry.images.items()),
        "" if entry.classes is None else str(entry.classes),
        entry.shape,
        f"{entry.megabytes:.0f} MB" if entry.megabytes else "",
        entry.licence,
    )


DATA = (_data,)

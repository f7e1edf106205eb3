"""The command that clears away what a sweep does not need any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from orchestrator.cli.frame import Command, json_option, print_json, sweep_argument
from orchestrator.store.address import Storage
from orchestrator.store.working_copy import place_of

if TYPE_CHECKING:
    from orchestrator.controller.retention import Litter
    from orchestrator.store.folder import SweepFolder

__all__ = ["TIDYING"]


@click.command("gc", cls=Command)
@sweep_argument
@click.option("--dry-run", is_flag=True, help="Say what would go, and let it be.")
@json_option
def _gc(sweep: str, storage: Storage, dry_run: bool, as_json: bool) -> None:
    """Clear away what SWEEP does not need any more.

    Checkpoints of pruned and failed trials, of complete ones all but the last, of unfinished ones all but
    the two newest; what interrupted writes and a Ray that is gone have left. Metrics, samples, weights and
    logs stay, and `resume` goes on as before. A sweep that is running is refused.

    \b
    Examples:
      cpsc-orchestrate gc digits --dry-run
      cpsc-orchestrate gc digits
    """
    from orchestrator.controller.retention import find_litter, remove_litter
    from orchestrator.store.folder import find_sweep
    from orchestrator.store.ownership import note_of, own

    folder = find_sweep(sweep, storage)
    scratch = note_of(folder.paths).get("scratch")
    if dry_run:
        litter = find_litter(folder, scratch)
    else:
        with own(folder.paths, note={"scratch": scratch}) as lease:
            folder.refresh()
            litter = find_litter(folder, scratch)
            for each in litter:
                remove_litter(each, lease)
    if as_json:
        print_json(_document(folder.name, litter, dry_run))
    else:
        _print(folder, litter, dry_run)


TIDYING = (_gc,)


def _document(name: str, litter: Sequence[Litter], dry_run: bool) -> dict[str, object]:
    found = [{"path": str(place_of(each.path)), "bytes": each.size, "kind": each.kind} for each in litter]
    return {
        "sweep": name,
        "removed": not dry_run,
        "bytes": sum(each.size for each in litter),
        "litter": found,
    }


def _print(folder: SweepFolder, litter: Sequence[Litter], dry_run: bool) -> None:
    from orchestrator.report.wording import size

    for kind in sorted({each.kind for each in litter}):
        sizes = [each.size for each in litter if each.kind == kind]
        click.echo(f"{size(sum(sizes)):>10}  {len(sizes)} {kind}")
    total = size(sum(each.size for each in litter))
    if not litter:
        click.echo(f"{folder.name} holds nothing that it does not need")
    elif dry_run:
        click.echo(f"{folder.name}: `cpsc-orchestrate gc {folder.paths.address}` would free {total}")
    else:
        click.echo(f"{folder.name}: {total} freed")

"""Images that a trial's generator makes, as a data set that experiment files can name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpsc_core.attempt import replacing
from orchestrator.errors import UsageError
from orchestrator.export.card import images_card
from orchestrator.export.child import ask
from orchestrator.opened import find_student
from orchestrator.store.folder import SweepFolder
from orchestrator.store.working_copy import discard, fetch, place_of

__all__ = ["export_images"]

_TEST_SHARE = 10


def export_images(
    folder: SweepFolder, count: int, *, trial: str | None = None, output: Path | None = None
) -> dict[str, Any]:
    """Write `count` images to train on and a tenth more to test on; what was written, as plain JSON values.

    There are two of each class at least to test on. Without `output` they go into export/<hash>-images/ of
    the sweep, in place of what was there. Raises UsageError if there is no such trial, its generator is gone,
    it hardly makes some class, or `output` holds other images.
    """
    chosen = find_student(folder, trial)
    result = chosen.result
    generator = chosen.paths.attempt(result.attempt).generator if result else None
    if generator is None or not fetch(generator):
        raise UsageError(
            f"the generator of trial {chosen.name} is no longer in {place_of(chosen.paths.root)}; "
            f"`cpsc-orchestrate resume {folder.paths.address} --trial {chosen.name}` trains it again"
        )
    own = folder.paths.export(f"{chosen.name}-images")
    _make_way(own, may_remove=True) if output is None else _make_way(output, may_remove=False)
    output = (output or own).absolute()
    request = {
        "settings": chosen.record.settings,
        "generator": str(generator),
        "folder": str(output),
        "train": count,
        "test": count // _TEST_SHARE,
    }
    written = ask("cpsc_core.synthesis", request, to=f"make images with trial {chosen.name}")
    with replacing(output / "README.md") as draft:
        draft.write_text(images_card(folder, chosen, written), encoding="utf-8")
    return {"sweep": folder.name, "trial": chosen.name, "folder": str(output), **written}


def _make_way(folder: Path, *, may_remove: bool) -> None:
    """Let no images lie in a folder: whoever reads the new ones would read those too."""
    there = sorted(folder.glob("*.parquet"))
    if there and not may_remove:
        raise UsageError(
            f"{folder} holds {there[0].name} already, which would be read as one set with the new images; "
            "remove it, or name another folder with --output"
        )
    for path in there:
        path.unlink()
        discard(path)

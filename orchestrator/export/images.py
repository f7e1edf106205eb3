"""Images that a trial's generator makes, as a data set that experiment files can name."""

from __future__ import annotations

from collections.abc import Sequence
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
    if output is not None:
        _refuse_others(output)
    chosen = find_student(folder, trial)
    result = chosen.result
    generator = chosen.paths.attempt(result.attempt).generator if result else None
    if generator is None or not fetch(generator):
        raise UsageError(
            f"the generator of trial {chosen.name} is no longer in {place_of(chosen.paths.root)}; "
            f"`cpsc-orchestrate resume {folder.paths.address} --trial {chosen.name}` trains it again"
        )
    folder_of_images = (output or folder.paths.export(f"{chosen.name}-images")).absolute()
    request = {
        "settings": chosen.record.settings,
        "generator": str(generator),
        "folder": str(folder_of_images),
        "train": count,
        "test": count // _TEST_SHARE,
    }
    written = ask("cpsc_core.synthesis", request, to=f"make images with trial {chosen.name}")
    if output is None:
        _remove_earlier(folder_of_images, written["files"])
    with replacing(folder_of_images / "README.md") as draft:
        draft.write_text(images_card(folder, chosen, written), encoding="utf-8")
    return {"sweep": folder.name, "trial": chosen.name, "folder": str(folder_of_images), **written}


def _refuse_others(folder: Path) -> None:
    """Refuse a folder with images that would be read as one set with the new ones."""
    if there := sorted(folder.glob("*.parquet")):
        raise UsageError(
            f"{folder} holds {there[0].name} already, which would be read as one set with the new images; "
            "remove it, or name another folder with --output"
        )


def _remove_earlier(folder: Path, files: Sequence[str]) -> None:
    """Of the images in a folder keep the files that were just written."""
    for path in folder.glob("*.parquet"):
        if path.name not in files:
            path.unlink()
            discard(path)

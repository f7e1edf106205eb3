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
from orchestrator.store.working_copy import fetch, place_of

__all__ = ["export_images"]

_TEST_SHARE = 10


def export_images(
    folder: SweepFolder, count: int, *, trial: str | None = None, output: Path | None = None
) -> dict[str, Any]:
    """Write `count` images to train on and a tenth more to test on; what was written, as plain JSON values.

    Without `output` they go into export/<hash>-images/ of the sweep. Raises UsageError if there is no such
    trial, its generator is gone, or it hardly makes some class.
    """
    chosen = find_student(folder, trial)
    result = chosen.result
    generator = chosen.paths.attempt(result.attempt).generator if result else None
    if generator is None or not fetch(generator):
        raise UsageError(
            f"the generator of trial {chosen.name} is no longer in {place_of(chosen.paths.root)}; "
            f"`cpsc-orchestrate resume {folder.paths.address} --trial {chosen.name}` trains it again"
        )
    output = (output or folder.paths.export(f"{chosen.name}-images")).absolute()
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

"""A trial's student in a folder of its own, in a format that others run, with a card that says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpsc_core.attempt import replacing
from orchestrator.export.card import student_card
from orchestrator.export.child import ask
from orchestrator.opened import find_student, student_weights
from orchestrator.store.folder import SweepFolder

__all__ = ["export_student"]


def export_student(
    folder: SweepFolder, *, to: str, trial: str | None = None, output: Path | None = None
) -> dict[str, Any]:
    """Write a student, read it back and compare; what was written, as plain JSON values.

    The best trial's, or that of the one whose hash begins with `trial`. Without `output` it goes into
    export/<hash>-<format>/ of the sweep. Raises UsageError if there is no such student or it cannot be
    written.
    """
    chosen = find_student(folder, trial)
    output = (output or folder.paths.export(f"{chosen.name}-{to}")).absolute()
    request = {
        "settings": chosen.record.settings,
        "weights": str(student_weights(chosen)),
        "to": to,
        "folder": str(output),
    }
    written = ask("cpsc_core.export", request, to=f"export trial {chosen.name} as {to}")
    with replacing(output / "README.md") as draft:
        draft.write_text(student_card(folder, chosen, written), encoding="utf-8")
    return {"sweep": folder.name, "trial": chosen.name, "format": to, "folder": str(output), **written}

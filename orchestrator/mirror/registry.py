"""Which student belongs in the model registry, and the process that puts it there."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

from orchestrator.errors import UnreachableError
from orchestrator.mirror.ledger import read_entry, write_entry
from orchestrator.mirror.uri import public_uri
from orchestrator.store.folder import SweepFolder
from orchestrator.store.working_copy import fetch

__all__ = ["register_best"]

_STUDENT = "<student>"
"""What stands for the registered student among the digests of the sweep's files."""
_LONGEST_SECONDS = 600.0


def register_best(folder: SweepFolder, uri: str) -> dict[str, str] | None:
    """Put the best student of a finished sweep into the registry at `uri`, see `Mirror.register_best`."""
    # Imported here, since what finds the best imports the ledger of the mirror.
    from orchestrator.report.best import best_student, find_best

    best = find_best(folder)
    weights = best_student(best) if best else None
    noted = read_entry(folder.paths.mirror, public_uri(uri))
    if best is None or weights is None or noted is None or folder.manifest.get("finished") != "complete":
        return None
    run = read_entry(best.paths.mirror, public_uri(uri))
    fetch(weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if run is None or noted.files.get(_STUDENT) == digest:
        return None
    request = {
        "uri": uri,
        "experiment": folder.name,
        "run_id": run.run_id,
        "trial": best.name,
        "settings": best.record.settings,
        "weights": str(weights),
        "digest": digest,
    }
    registered = _ask(request)
    write_entry(folder.paths.mirror, public_uri(uri), replace(noted, files=noted.files | {_STUDENT: digest}))
    return registered


def _ask(request: dict[str, Any]) -> dict[str, str]:
    answer = subprocess.run(
        [sys.executable, "-m", "orchestrator.mirror.register"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=_LONGEST_SECONDS,
        check=False,
    )
    if answer.returncode:
        said = (answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1]
        raise UnreachableError(
            f"MLflow at {public_uri(request['uri'])} could not register the best student: {said}; "
            "`sync` tries again"
        )
    registered: dict[str, str] = json.loads(answer.stdout.splitlines()[-1])
    return registered

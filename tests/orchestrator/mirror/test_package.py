"""What importing the mirror costs."""

from __future__ import annotations

import subprocess
import sys


def test_mlflow_is_imported_only_by_what_talks_to_it() -> None:
    script = (
        "import sys, orchestrator.mirror; print(*sorted({'mlflow', 'torch', 'PIL'} & sys.modules.keys()))"
    )

    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == ""

"""Where a sweep came from: the git commit of its experiment file and the versions it ran with."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["code_state", "git_state", "package_versions", "text_digest"]

_PACKAGES = ("cpsc-orchestrate", "torch", "torchvision", "ray", "optuna", "mlflow", "numpy")


def git_state(folder: Path) -> dict[str, Any]:
    """Commit and dirty flag of the repository a folder lies in; both null outside of one."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain"))}


def code_state() -> dict[str, Any]:
    """Commit and dirty flag of the code that runs; both null if it was installed without its repository."""
    here = Path(__file__).resolve()
    is_tracked = _git(here.parent, "ls-files", "--error-unmatch", here.name) is not None
    return git_state(here.parent) if is_tracked else {"commit": None, "dirty": None}


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def text_digest(text: str) -> str:
    """Sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()

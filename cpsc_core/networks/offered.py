"""Which classifiers other libraries offer; neither the library nor torch is imported.

`timm:NAME` and `torchvision:NAME` stand for a classifier of that library. Both libraries mark the functions
that build one in their sources, and those marks are read here, so a wrong name is refused before anything
starts.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from cpsc_core.errors import SettingsError, UnknownNameError

__all__ = ["check_offered", "offered_names"]

_MARKED = re.compile(r"^@register_model\b.*?^def (\w+)\(", re.MULTILINE | re.DOTALL)
_NEAREST = 5


def check_offered(library: str, name: str) -> None:
    """Raise UnknownNameError with the nearest names if a library offers no classifier of this name."""
    known = offered_names(library)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=_NEAREST, cutoff=0.0)
        raise UnknownNameError(
            f"{library} offers no classifier called {name!r}; nearest of its {len(known)}: {', '.join(near)}"
        )


@cache
def offered_names(library: str) -> tuple[str, ...]:
    """All classifiers of a library, sorted; SettingsError if it is not installed."""
    found = find_spec(library)
    if found is None or not found.submodule_search_locations:
        raise SettingsError(
            f"networks called {library}:NAME need {library}, which is not installed; "
            f'pip install "cpsc-orchestrate[{library}]"'
        )
    sources = sorted((Path(found.submodule_search_locations[0]) / "models").glob("*.py"))
    return tuple(sorted(name for path in sources for name in _MARKED.findall(path.read_text("utf-8"))))

"""Numbers, times and names as people read them; the same wording in every table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.store.records import TrialState

__all__ = [
    "counted",
    "duration",
    "fixed",
    "goals",
    "label",
    "setting",
    "share",
    "short_names",
    "size",
]

NOTHING = "-"
_LARGE = 1_000
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def fixed(value: float | None, digits: int = 4) -> str:
    """A value with a fixed number of decimals, or a dash if there is none.

    One that would have one or two digits left is given four of them, and a large count no decimals.
    """
    if value is None:
        return NOTHING
    if 0.0 < abs(value) < 10.0 ** (2 - digits):
        return f"{value:.4g}"
    if abs(value) >= _LARGE and float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.{digits}f}"


def goals(objectives: Iterable[Mapping[str, Any]]) -> str:
    """What a sweep ranks by, as one phrase."""
    return ", ".join(f"{each['direction']} {each['of']} {each['metric']}" for each in objectives)


def share(value: float | None) -> str:
    """A share from 0 to 1 in per cent, or a dash if there is none."""
    return NOTHING if value is None else f"{value * 100:.1f} %"


def setting(value: Any) -> str:
    """A parameter's value in at most four significant digits."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    return str(value)


def size(num_bytes: float) -> str:
    """A number of bytes in the largest unit that leaves at least one."""
    power = min(int(math.log(max(num_bytes, 1), 1024)), len(_UNITS) - 1)
    amount = num_bytes / 1024**power
    return f"{amount:.0f} {_UNITS[power]}" if power == 0 else f"{amount:.1f} {_UNITS[power]}"


def duration(seconds: float) -> str:
    """A length of time in its two largest units: 45 s, 3 min 05 s, 2 h 10 min, 3 d 4 h."""
    whole = round(max(seconds, 0.0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(whole / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(whole / 3600)
    return f"{hours // 24} d {hours % 24} h"


def counted(counts: Mapping[TrialState, int]) -> str:
    """Counts by state as one phrase, states without trials left out."""
    return ", ".join(f"{counts[state]} {state}" for state in TrialState if counts.get(state)) or "no trials"


def label(number: int | None, name: str) -> str:
    """What a trial is called in a table: its number, or the start of its hash if it has none."""
    return name[:8] if number is None else str(number)


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Each dotted path with the shortest ending that no other path of the set shares."""
    paths = list(paths)
    return {path: _shortest(path, [each for each in paths if each != path]) for path in paths}


def _shortest(path: str, others: list[str]) -> str:
    parts = path.split(".")
    endings = (".".join(parts[-count:]) for count in range(1, len(parts)))
    return next(
        (each for each in endings if not any(f".{other}".endswith(f".{each}") for other in others)), path
    )

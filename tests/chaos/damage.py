"""What is done to files of a trial that nobody runs: rot, truncation, exchange, torn and doubled lines."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

__all__ = ["CHECKPOINT_DAMAGES", "LINE_DAMAGES", "damage_checkpoint", "damage_lines", "unfinished"]


def unfinished(root: Path) -> list[Path]:
    """Trials of a sweep that have no result and no final line."""
    return sorted(
        path.parent
        for path in root.glob("trials/*/trial.json")
        if not (path.parent / "result.json").exists()
        and not any(b'"final"' in each.read_bytes() for each in path.parent.glob("attempts/*/metrics.jsonl"))
    )


def damage_checkpoint(root: Path, kind: str, chance: random.Random) -> Path | None:
    """Damage the newest checkpoint of a random unfinished trial; None if there is none."""
    candidates = [trial for trial in unfinished(root) if _checkpoints(trial)]
    if not candidates:
        return None
    victim = _checkpoints(chance.choice(candidates))[-1]
    CHECKPOINT_DAMAGES[kind](victim, root, chance)
    return victim


def damage_lines(root: Path, kind: str, chance: random.Random) -> Path | None:
    """Damage the lines of the newest attempt of a random unfinished trial; None if there are none."""
    candidates = [lines for trial in unfinished(root) if (lines := _newest_lines(trial))]
    if not candidates:
        return None
    victim = chance.choice(candidates)
    LINE_DAMAGES[kind](victim, chance)
    return victim


def _flip(checkpoint: Path, _root: Path, chance: random.Random) -> None:
    path = chance.choice(sorted(checkpoint.iterdir()))
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def _truncate(checkpoint: Path, _root: Path, chance: random.Random) -> None:
    path = chance.choice(sorted(checkpoint.iterdir()))
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def _exchange(checkpoint: Path, root: Path, chance: random.Random) -> None:
    """Put another trial's checkpoint, or an older one, in its place; if there is no other, remove a file."""
    others = [each for each in root.glob("trials/*/attempts/*/checkpoints/epoch-*") if each != checkpoint]
    if not others:
        next(iter(sorted(checkpoint.iterdir()))).unlink()
        return
    shutil.rmtree(checkpoint)
    shutil.copytree(chance.choice(sorted(others)), checkpoint)


def _tear(path: Path, chance: random.Random) -> None:
    """Half of a further line, as a loss of power may leave it."""
    last = path.read_bytes().splitlines()[-1]
    with path.open("ab") as file:
        file.write(last[: chance.randrange(1, len(last))])


def _double(path: Path, _chance: random.Random) -> None:
    """The last line again, with another number in it: a repetition never counts."""
    last = json.loads(path.read_bytes().splitlines()[-1])
    with path.open("ab") as file:
        file.write(json.dumps(last | {"val_accuracy": 2.0}).encode() + b"\n")


def _garble(path: Path, chance: random.Random) -> None:
    with path.open("ab") as file:
        file.write(chance.randbytes(40) + b"\n[1]\n{}\n")


CHECKPOINT_DAMAGES: dict[str, Callable[[Path, Path, random.Random], None]] = {
    "flipped": _flip,
    "truncated": _truncate,
    "exchanged": _exchange,
}
LINE_DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "torn": _tear,
    "doubled": _double,
    "garbled": _garble,
}


def _checkpoints(trial: Path) -> list[Path]:
    found = trial.glob("attempts/*/checkpoints/epoch-*")
    return sorted(found, key=lambda path: (path.name, int(path.parent.parent.name)))


def _newest_lines(trial: Path) -> Path | None:
    found = [path for path in trial.glob("attempts/*/metrics.jsonl") if path.stat().st_size]
    return max(found, key=lambda path: int(path.parent.name), default=None)

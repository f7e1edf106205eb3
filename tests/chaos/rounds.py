"""The parts of the chaos: each runs sweeps through one kind of trouble and says how they came out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from tests.chaos.damage import CHECKPOINT_DAMAGES, LINE_DAMAGES, damage_checkpoint, damage_lines
from tests.chaos.faulty_server import FaultyServer
from tests.chaos.killer import Victim
from tests.chaos.stage import IN_ANY_ORDER, ONE_SLOT, Stage
from tests.chaos.troubled import Troubled, Verdict

__all__ = ["PARTS"]

_LONG_TRIALS = ("train.epochs=12",)
_DISK_BYTES = 64 * 1024 * 1024


def peace(stage: Stage, verdict: Verdict, _kills: int, _chance: random.Random) -> None:
    """Nothing happens: the command gives what the trials give without it."""
    for sweep in _sweeps(stage, verdict, "peace", 2):
        sweep.finish()


def controller_kills(stage: Stage, verdict: Verdict, kills: int, chance: random.Random) -> None:
    """SIGKILL of the controller at any moment, start-up and shutdown included."""
    left = kills
    for sweep in _sweeps(stage, verdict, "controller", 2 * kills):
        sweep.go_on()
        while left and _wait_for_some_of_it(sweep, chance):
            sweep.kill_controller(group=chance.random() < 0.5)
            left -= 1
            sweep.go_on()
        sweep.finish()
        if not left:
            return


def worker_kills(stage: Stage, verdict: Verdict, kills: int, chance: random.Random) -> None:
    """SIGKILL of ranks and trial actors while the controller lives."""
    left = kills
    for turn in range(2 * kills):
        sweep = Troubled(stage, f"worker-{turn}", (*IN_ANY_ORDER, *_LONG_TRIALS), None, verdict)
        sweep.go_on()
        while left and sweep.watch_lines(chance.randint(1, 6)):
            left -= sweep.kill_one(chance.choice([Victim.RANK, Victim.DRIVER]))
        sweep.finish()
        if not left:
            return


def ray_kills(stage: Stage, verdict: Verdict, _kills: int, chance: random.Random) -> None:
    """SIGKILL of Ray's own processes: the controller may end, and a resume goes on."""
    for kind in (Victim.RAYLET, Victim.GCS):
        sweep = Troubled(stage, f"ray-{kind.name.lower()}", (*IN_ANY_ORDER, *_LONG_TRIALS), None, verdict)
        sweep.go_on()
        if sweep.watch_lines(chance.randint(4, 12)) and sweep.kill_one(kind):
            sweep.watch()
        sweep.finish()


def damaged_checkpoints(stage: Stage, verdict: Verdict, _kills: int, chance: random.Random) -> None:
    """Rotten, truncated and exchanged checkpoints between a kill and the resume."""
    for kind in CHECKPOINT_DAMAGES:
        sweep = Troubled(stage, f"checkpoint-{kind}", (*IN_ANY_ORDER, *_LONG_TRIALS), None, verdict)
        sweep.go_on()
        while verdict.damages.get(kind, 0) < 3 and sweep.watch_lines(chance.randint(4, 8)):
            sweep.kill_controller(group=True)
            if damage_checkpoint(sweep.witness.root, kind, chance):
                verdict.count(kind, verdict.damages)
            sweep.go_on()
        sweep.finish()


def damaged_lines(stage: Stage, verdict: Verdict, _kills: int, chance: random.Random) -> None:
    """Torn, doubled and garbled lines between a kill and the resume."""
    sweep = Troubled(stage, "lines", (*IN_ANY_ORDER, *_LONG_TRIALS), None, verdict)
    sweep.go_on()
    for kind in LINE_DAMAGES:
        if not sweep.watch_lines(chance.randint(4, 8)):
            break
        sweep.kill_controller(group=True)
        if path := damage_lines(sweep.witness.root, kind, chance):
            sweep.witness.forgive(path)
            verdict.count(kind, verdict.damages)
        sweep.go_on()
    sweep.finish()


def full_disk(stage: Stage, verdict: Verdict, _kills: int, chance: random.Random) -> None:
    """The disk fills up while trials run; a resume goes on once there is room."""
    sweep = Troubled(stage, "disk", (*IN_ANY_ORDER, *_LONG_TRIALS), None, verdict)
    with stage.on_a_disk_of(_DISK_BYTES):
        sweep.go_on()
        if sweep.watch_lines(chance.randint(4, 10)):
            ballast = stage.storage.root / "ballast"
            with ballast.open("wb", buffering=0) as file:
                while _write(file.write):
                    pass
            verdict.count("full disk", verdict.damages)
            sweep.watch_for(20.0)
            ballast.unlink()
            sweep.watch()
        sweep.finish()


def troubled_mlflow(stage: Stage, verdict: Verdict, _kills: int, chance: random.Random) -> None:
    """An MLflow server that is down, slow, or answers errors holds up no trial."""
    for kind in ("down", "slow", "errors"):
        with FaultyServer(kind) as server:
            overrides = (*IN_ANY_ORDER, f"tracking.uri={server.url}")
            sweep = Troubled(stage, f"mlflow-{kind}", overrides, None, verdict)
            sweep.finish()
            verdict.count(f"{kind}: {server.requests} requests", verdict.damages)


PARTS: dict[str, Callable[[Stage, Verdict, int, random.Random], None]] = {
    "peace": peace,
    "controller": controller_kills,
    "worker": worker_kills,
    "ray": ray_kills,
    "checkpoints": damaged_checkpoints,
    "lines": damaged_lines,
    "disk": full_disk,
    "mlflow": troubled_mlflow,
}


def _sweeps(stage: Stage, verdict: Verdict, name: str, count: int) -> Iterator[Troubled]:
    """Sweeps by turns with one trial at a time and with several."""
    for turn in range(count):
        overrides, processors = ((ONE_SLOT, 1), (IN_ANY_ORDER, None))[turn % 2]
        yield Troubled(stage, f"{name}-{turn}", overrides, processors, verdict)


def _wait_for_some_of_it(sweep: Troubled, chance: random.Random) -> bool:
    if chance.random() < 0.5:
        return sweep.watch_for(chance.uniform(0.0, 15.0))
    return sweep.watch_lines(chance.randint(1, 8))


def _write(write: Callable[[bytes], int | None]) -> bool:
    try:
        return bool(write(b"\0" * 65536))
    except OSError:
        return False

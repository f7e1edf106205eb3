"""Every crash point of the commit path: a process is killed at the entry of each system call that writes.

    python -m tests.chaos.crash_points controller FOLDER
    python -m tests.chaos.crash_points trial FOLDER

The work is done once under strace to count its system calls, then once for each of them in a process that
strace kills there, or whose call fails there; after that it is done again without strace, to its end, and
must come out as if nothing had happened. Prints a JSON document: the points tried, how many interrupted the
work, and what came out wrong.

`controller` is a sweep of the real controller whose trials are learning curves; `trial` is a trial as a rank
runs it. Both are forked from this process, which has imported everything and has no threads.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from cpsc_core.attempt import attempts_of
from cpsc_core.trial import run_trial
from orchestrator.store.drafts import remove_stale_drafts
from tests.chaos.witness import Witness, fingerprints
from tests.support.simulator import Simulator, experiment, run
from tests.support.trials import digest, tiny_teacher, tiny_trial

__all__ = ["STRACE", "Work", "controller_work", "try_all_points"]

STRACE = shutil.which("strace")
_WRITING = "write,pwrite64,fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,unlinkat,mkdir,rmdir"
_FAULTS = {
    "killed": (_WRITING, "signal=KILL"),
    "full": ("write", "error=ENOSPC"),
    "broken": ("fsync", "error=EIO"),
}


class Work:
    """Something that is done in a folder, may be interrupted anywhere, and can be gone on with."""

    def __init__(self, do: Callable[[Path], None], judge: Callable[[Path], list[str]]) -> None:
        self.do = do
        self.judge = judge


def controller_work(folder: Path) -> Work:
    """A sweep of four trials, one of them to confirm, on one slot."""
    config = experiment("budget.trials=3", "confirm.seeds=1", "train.epochs=3", "pruner.reduction_factor=2")

    def do(root: Path) -> None:
        if root.exists():
            remove_stale_drafts(root)
        run(config, root, Simulator(chance=random.Random(0)))

    calm = folder / "calm" / "toy"
    do(calm)
    expected = fingerprints(calm)

    def judge(root: Path) -> list[str]:
        witness = Witness(root)
        witness.look()
        if wrong := _in_child(lambda: do(root)):
            return [f"it cannot be gone on with: {wrong}"]
        witness.close()
        return witness.complaints + (["the table differs"] if fingerprints(root) != expected else [])

    return Work(do, judge)


def trial_work(folder: Path) -> Work:
    """A trial of two epochs, with grids, checkpoints and weights."""
    torch.set_num_threads(1)
    settings = tiny_trial(tiny_teacher(folder), epochs=2, iterations_per_epoch=1)

    def do(root: Path) -> None:
        attempts = attempts_of(root)
        for _ in run_trial(settings, root, len(attempts) + 1, threads=1):
            pass

    calm = folder / "calm" / "trial"
    do(calm)
    expected = digest(attempts_of(calm)[-1])

    def judge(root: Path) -> list[str]:
        if wrong := _in_child(lambda: do(root)):
            return [f"it cannot be gone on with: {wrong}"]
        last = [attempt for attempt in attempts_of(root) if attempt.student.exists()][-1]
        return ["lines or weights differ"] if digest(last) != expected else []

    return Work(do, judge)


def try_all_points(work: Work, folder: Path) -> dict[str, object]:
    """Interrupt the work at each of its writing system calls, in each way, and go on with it."""
    calls = _count_calls(work, folder / "counted" / "toy")
    tried, struck, wrong = Counter[str](), Counter[str](), []
    for fault, (names, injection) in _FAULTS.items():
        for name in sorted(set(names.split(",")) & calls.keys()):
            for number in range(1, calls[name] + 1):
                root = folder / "struck" / "toy"
                status = _strike(work, root, f"inject={name}:{injection}:when={number}")
                tried[fault] += 1
                struck[fault] += status != 0
                wrong += [f"{fault} at {name} {number}: {each}" for each in work.judge(root)]
                shutil.rmtree(root.parent)
    return {"calls": dict(calls), "tried": dict(tried), "struck": dict(struck), "wrong": wrong}


def _count_calls(work: Work, root: Path) -> Counter[str]:
    log = root.parent.with_suffix(".strace")
    _strike(work, root, f"trace={_WRITING}", log)
    return Counter(re.findall(r"^(?:\d+ +)?(\w+)\(", log.read_text(), re.MULTILINE))


def _strike(work: Work, root: Path, expression: str, log: Path | None = None) -> int:
    """Do the work in a child that strace is attached to before it begins; the child's exit status."""
    root.parent.mkdir(parents=True)
    gate, open_gate = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(gate, 1)
        _work_and_exit(lambda: work.do(root))
    command = ["strace", "-f", "-o", str(log or os.devnull), "-e", f"trace={_WRITING}", "-e", expression]
    with subprocess.Popen([*command, "-p", str(child)], stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        os.write(open_gate, b".")
        status = os.waitpid(child, 0)[1]
        said += strace.stderr.read()
    os.close(gate)
    os.close(open_gate)
    if "attached" not in said:
        raise RuntimeError(f"strace cannot attach to a process: {said}")
    return status


def _in_child(do: Callable[[], None]) -> int:
    """Do something in a child that is not traced; its exit status, 0 if it went well."""
    child = os.fork()
    if child == 0:
        _work_and_exit(do)
    return os.waitpid(child, 0)[1]


def _work_and_exit(do: Callable[[], None]) -> None:
    try:
        do()
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    place = Path(sys.argv[2])
    place.mkdir(parents=True, exist_ok=True)
    kinds = {"controller": controller_work, "trial": trial_work}
    print(json.dumps(try_all_points(kinds[sys.argv[1]](place), place)))

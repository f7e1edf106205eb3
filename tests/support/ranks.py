"""Several ranks on this machine."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch.distributed import FileStore

from cpsc_core.attempt import AttemptPaths
from cpsc_core.rank import Rank
from cpsc_core.settings import TrialSettings

__all__ = ["environment_of_ranks", "finish_on_ranks", "on_ranks"]


def environment_of_ranks(world_size: int) -> list[dict[str, str]]:
    """What `torchrun` tells each rank that it starts on one machine."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(unused.getsockname()[1])}
    every = place | {"WORLD_SIZE": str(world_size)}
    return [every | {"RANK": str(index), "LOCAL_RANK": str(index)} for index in range(world_size)]


def finish_on_ranks(world_size: int, settings: TrialSettings, folder: Path) -> AttemptPaths:
    """Run a trial to its end by `python -m cpsc_core` on a few ranks; its only attempt."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    config = folder.with_suffix(".json")
    config.write_text(json.dumps(settings.to_dict()))
    command = [sys.executable, "-m", "cpsc_core", str(config), "--folder", str(folder)]
    started = [
        subprocess.Popen(command, env={**os.environ, **told}, stdout=subprocess.DEVNULL)
        for told in environment_of_ranks(world_size)
    ]
    assert [each.wait() for each in started] == [0] * world_size
    return AttemptPaths.of(folder, 1)


def on_ranks(world_size: int, act: Callable[[Rank], Any], *, timeout_seconds: float = 60.0) -> list[Any]:
    """What a function returns on each of a few connected ranks, which are copies of this process.

    What it returns must be picklable. AssertionError, with the traces, if it fails on one of them.
    """
    copies = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        running = []
        for index in range(world_size):
            ours, theirs = copies.Pipe(duplex=False)
            place = (Path(folder) / "store", index, world_size, timeout_seconds)
            process = copies.Process(target=_act, args=(act, theirs, *place))
            process.start()
            theirs.close()
            running.append((process, ours))
        answers = [_hear(ours) for _, ours in running]
        for process, _ in running:
            process.join()
    failures = [trace for trace, _ in answers if trace]
    assert not failures, "\n".join(failures)
    return [answer for _, answer in answers]


def _act(
    act: Callable[[Rank], Any],
    report: Connection,
    store: Path,
    index: int,
    world_size: int,
    timeout_seconds: float,
) -> None:
    torch.set_num_threads(1)
    try:
        rank = Rank.join(
            FileStore(str(store), world_size),
            index=index,
            world_size=world_size,
            device="cpu",
            timeout_seconds=timeout_seconds,
        )
        answer = act(rank)
        rank.leave()
    except BaseException:
        _say(report, (traceback.format_exc(), None))
    else:
        _say(report, (None, answer))


def _say(report: Connection, answer: tuple[str | None, Any]) -> None:
    """By value: tensors that go through `send` stay in the memory of a process that is about to end."""
    report.send_bytes(pickle.dumps(answer))


def _hear(report: Connection) -> tuple[str | None, Any]:
    try:
        heard: tuple[str | None, Any] = pickle.loads(report.recv_bytes())  # noqa: S301
    except EOFError:
        return "a rank died without a word", None
    return heard

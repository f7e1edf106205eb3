"""Ranks that exchange through memory, as processes of their own; what dies is killed for real."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cpsc_core.blackboard import CAPACITY, Blackboard, place
from cpsc_core.rank import Rank
from tests.support.ranks import on_ranks

pytestmark = [
    pytest.mark.skipif(place() is None, reason="no memory can be shared on this processor"),
    pytest.mark.usefixtures("one_thread"),
]

TENSORS = {
    "numbers": torch.linspace(0.1, 7.3, 128),
    "a scalar": torch.tensor(0.3, dtype=torch.float64),
    "nothing": torch.zeros(0, 3),
    "integers": torch.arange(7),
    "flags": torch.tensor([True, False, True]),
    "half precision": torch.linspace(-3, 3, 9).to(torch.bfloat16),
    "columns": torch.arange(12.0).view(3, 4).t(),
    "channels last": torch.arange(48.0).view(1, 3, 4, 4).to(memory_format=torch.channels_last),
    "as much as there is room for": torch.ones(CAPACITY // 4),
    "more than there is room for": torch.linspace(0.1, 1.7, CAPACITY // 4 + 1),
}


class Other:
    """A second process that opens what this one made, does something with it and ends."""

    def __init__(self, act: Callable[[Blackboard], Any], *, timeout_seconds: float = 60.0) -> None:
        self.board = Blackboard.make(2, timeout_seconds)
        ready, told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            board = Blackboard.open(self.board.address, 1, 2, timeout_seconds)
            os.write(told, b".")
            act(board)
            os._exit(0)
        os.read(ready, 1)
        os.close(ready)
        os.close(told)

    def end(self) -> int:
        self.board.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def exchanged(rank: Rank) -> dict[str, tuple[Tensor, Tensor]]:
    """What ranks gather and sum of tensors that differ from rank to rank."""
    found = {}
    for name, tensor in TENSORS.items():
        own = tensor if tensor.dtype == torch.bool else tensor * (rank.index + 1)
        found[name] = (rank.gather(own), rank.sum(own.clone()))
    return found


def by_connection(rank: Rank) -> Rank:
    return replace(rank, blackboard=None)


def test_ranks_of_one_machine_have_one_and_what_they_exchange_is_what_connections_give() -> None:
    def act(rank: Rank) -> tuple[bool, Any, Any]:
        return rank.blackboard is not None, exchanged(rank), exchanged(by_connection(rank))

    for has_one, by_memory, connected in on_ranks(3, act):
        assert has_one
        for name, (gathered, total) in by_memory.items():
            expected, expected_total = connected[name]
            assert gathered.dtype == expected.dtype and gathered.shape == (3, *TENSORS[name].shape), name
            assert torch.equal(gathered, expected) and torch.equal(total, expected_total), name
            for index, each in enumerate(gathered):
                assert each.dtype == torch.bool or torch.equal(each, TENSORS[name] * (index + 1)), name


def test_what_is_gathered_has_a_gradient_summed_over_the_ranks() -> None:
    def act(rank: Rank) -> Tensor:
        own = torch.ones(3, requires_grad=True)
        (rank.gather(own) * torch.tensor([[2.0], [5.0]]) * (rank.index + 1)).sum().backward()
        assert own.grad is not None
        return own.grad

    first, second = on_ranks(2, act)

    assert first.tolist() == [2.0 * (1 + 2)] * 3
    assert second.tolist() == [5.0 * (1 + 2)] * 3


def test_ranks_that_take_turns_at_being_late_never_read_what_is_not_of_their_turn() -> None:
    def act(rank: Rank) -> bool:
        late = random.Random(rank.index)
        for turn in range(400):
            if late.random() < 0.1:
                time.sleep(late.choice((0.0, 0.001, 0.03)))
            gathered = rank.gather(torch.full((8192,), 3 * turn + rank.index))
            if not torch.equal(gathered[:, 0], torch.arange(3) + 3 * turn) or gathered.unique().numel() != 3:
                return False
        return True

    assert on_ranks(3, act) == [True] * 3


@pytest.mark.parametrize("death", [signal.SIGKILL, 0], ids=["killed", "left"])
def test_a_rank_that_ends_is_missed_at_once_though_nobody_has_buried_it(death: int) -> None:
    def act(board: Blackboard) -> None:
        board.gather(torch.ones(2))
        if death:
            os.kill(os.getpid(), death)
        board.close()
        time.sleep(0.5)

    other = Other(act)
    assert other.board.gather(torch.zeros(2)).tolist() == [[0, 0], [1, 1]]

    began = time.monotonic()
    with pytest.raises(RuntimeError, match="rank 1 has died"):
        other.board.gather(torch.zeros(2))

    assert time.monotonic() - began < 30
    assert other.end() == -death


def test_what_a_rank_wrote_before_it_ended_is_read() -> None:
    other = Other(_write_and_die)

    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)

    assert other.board.gather(torch.zeros(2)).tolist() == [[0, 0], [1, 1]]
    assert other.end() == -signal.SIGKILL


def _write_and_die(board: Blackboard) -> None:
    """Write, then die while waiting for the first rank."""
    writer = os.getpid()
    if os.fork() == 0:
        while board._counters[1] == 0:
            time.sleep(0.001)
        os.kill(writer, signal.SIGKILL)
        os._exit(0)
    board.gather(torch.ones(2))
    time.sleep(60)


def test_a_rank_that_is_stopped_is_given_up_after_the_timeout() -> None:
    other = Other(lambda _board: os.kill(os.getpid(), signal.SIGSTOP), timeout_seconds=0.3)

    with pytest.raises(RuntimeError, match=r"rank 1 has been silent for 0\.3 s"):
        other.board.gather(torch.zeros(2))

    os.kill(other.pid, signal.SIGCONT)
    assert other.end() == 0


def test_ranks_on_several_machines_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpsc_core.rank.place", lambda: str(os.getpid()))

    def act(rank: Rank) -> tuple[bool, list[int]]:
        return rank.blackboard is None, rank.gather(torch.tensor(rank.index)).tolist()

    assert on_ranks(2, act) == [(True, [0, 1])] * 2


@pytest.mark.parametrize("forbidden", ["make", "open"])
def test_ranks_that_may_not_share_memory_have_none(forbidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_place: object) -> Blackboard:
        raise PermissionError("no")

    monkeypatch.setattr(Blackboard, forbidden, refuse)

    def act(rank: Rank) -> tuple[bool, list[int], int]:
        memory = [each for each in Path("/proc/self/fd").iterdir() if "memfd:ranks" in _target(each)]
        return rank.blackboard is None, rank.gather(torch.tensor(rank.index)).tolist(), len(memory)

    (first, second) = on_ranks(2, act)
    assert first[:2] == second[:2] == (True, [0, 1])
    assert second[2] == 0


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:  # the one that lists them
        return ""


def test_a_processor_that_may_show_writes_out_of_order_has_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert place() is None
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert place() is None

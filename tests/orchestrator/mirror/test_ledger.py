"""mirror.json: spares work, and is never trusted further than that."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.mirror.ledger import Entry, locked, look, read_entry, write_entry
from orchestrator.mirror.tracker import HeldRun, RunStatus
from orchestrator.store.paths import TrialPaths
from orchestrator.store.records import EndClass, TrialState
from tests.support.mirroring import RecordedSweep

ENTRY = Entry(run_id="r", status=RunStatus.RUNNING, epoch=3, images=[1, 3], seen="abc")


def test_an_entry_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_entry(tmp_path / "mirror.json", "http://a", ENTRY)

    assert read_entry(tmp_path / "mirror.json", "http://a") == ENTRY


def test_writing_one_server_leaves_the_others_alone(tmp_path: Path) -> None:
    write_entry(tmp_path / "mirror.json", "http://a", ENTRY)
    write_entry(tmp_path / "mirror.json", "http://b", ENTRY)

    assert json.loads((tmp_path / "mirror.json").read_text()).keys() == {"http://a", "http://b"}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "\x00\x00", '{"http://a": {"status": "RUNNING"}}', '{"http://a": {"status": "?"}}'],
)
def test_what_is_illegible_counts_as_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "mirror.json").write_text(text)

    assert read_entry(tmp_path / "mirror.json", "http://a") is None
    write_entry(tmp_path / "mirror.json", "http://a", ENTRY)
    assert read_entry(tmp_path / "mirror.json", "http://a") == ENTRY


@pytest.mark.parametrize(
    ("change", "matches"),
    [
        ({}, True),
        ({"run_id": "s"}, False),
        ({"status": RunStatus.FAILED}, False),
        ({"epoch": 2}, False),
        ({"deleted": True}, False),
    ],
)
def test_an_entry_counts_while_the_server_agrees(change: dict[str, object], matches: bool) -> None:
    known = {"run_id": "r", "status": RunStatus.RUNNING, "epoch": 3}
    held = HeldRun(**known | change, tags={}, params=set(), images=None)  # type: ignore[arg-type]

    assert ENTRY.matches(held) is matches
    assert not ENTRY.matches(None)


def test_every_change_of_a_trial_can_be_seen_from_outside(tmp_path: Path) -> None:
    sweep = RecordedSweep(tmp_path)
    trial: TrialPaths = sweep.trial(0)
    changes: list[Callable[[], object]] = [
        lambda: sweep.attempt(trial),
        lambda: sweep.epochs(trial, 2),
        lambda: trial.attempt(1).sample(2).write_bytes(b"grid"),
        lambda: sweep.end_attempt(trial, EndClass.PREEMPTED),
        lambda: sweep.attempt(trial, copied=1),
        lambda: sweep.epochs(trial, 3),
        lambda: sweep.finish(trial, TrialState.FAILED),
        lambda: sweep.reopen(trial),
    ]
    looks = [look(trial)]
    for change in changes:
        change()
        assert look(trial) == look(trial)
        looks.append(look(trial))

    assert all(before != after for before, after in pairwise(looks))


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path / "mirror.json"):
            order.append("second")

    waiting = threading.Thread(target=second)
    with locked(tmp_path / "mirror.json"):
        waiting.start()
        waiting.join(0.05)
        order.append("first")
    waiting.join(10.0)

    assert order == ["first", "second"]

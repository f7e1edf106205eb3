"""Damaged experiment files, in short; `make fuzz` has more of them."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fuzz.door import MOST_SECONDS, knock, warm_up
from tests.fuzz.mutate import CORPUS, Case, case


@pytest.fixture
def path(tmp_path: Path) -> Path:
    warm_up(tmp_path)
    return tmp_path / "x.yaml"


def test_no_damaged_file_gives_a_trace_takes_a_second_or_does_anything(path: Path) -> None:
    seed = random.randrange(2**32)

    found = {number: knock(case(seed, number), path) for number in range(300)}

    complaints = {f"{number} of seed {seed}": each.complaints for number, each in found.items()}
    assert {name: each for name, each in complaints.items() if each} == {}
    assert {each.code for each in found.values()} == {0, 2}


def busy() -> None:
    """Use the processor for longer than a file may."""
    until = time.process_time() + MOST_SECONDS
    while time.process_time() < until:
        pass


def test_every_file_that_is_damaged_was_whole(path: Path) -> None:
    assert {knock(Case(text.encode()), path).code for text in CORPUS} == {0}


def test_a_file_can_be_had_again() -> None:
    assert [case(7, number) for number in range(20)] == [case(7, number) for number in range(20)]
    assert len({case(7, number).data for number in range(20)}) > 10


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: subprocess.run([sys.executable, "-c", ""], check=True), "subprocess.Popen"),
        (lambda: Path("owned").write_text("x"), "to write"),
        (lambda: Path("x.yaml").rename("owned"), "os.rename"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (busy, "of the processor"),
        (lambda: print("\x1b[31m", end=""), "sends the terminal"),
        (lambda: print("Traceback (most recent call last):"), "speaks to programmers"),
    ],
)
def test_what_must_not_be_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch, act: object, said: str
) -> None:
    import orchestrator.config

    honest = orchestrator.config.load_experiment
    monkeypatch.setattr(orchestrator.config, "load_experiment", lambda *given: (act(), honest(*given))[1])
    monkeypatch.chdir(path.parent)

    found = knock(Case(CORPUS[0].encode()), path)

    assert any(said in each for each in found.complaints), found

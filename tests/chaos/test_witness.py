"""The witness complains: each fault that it exists for is shown to it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.witness import Witness, fingerprints


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def line(epoch: int, value: float = 0.5, **more: Any) -> str:
    return json.dumps({"epoch": epoch, "seconds": 1.0, "val_accuracy": value} | more) + "\n"


def add_lines(attempt: Path, *lines: str) -> None:
    attempt.mkdir(parents=True, exist_ok=True)
    with (attempt / "metrics.jsonl").open("a") as file:
        file.write("".join(lines))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep of one trial that was interrupted once and then finished, and one that is under way."""
    root = tmp_path / "toy"
    for name, number in (("a", 0), ("b", 1)):
        write(
            root / "trials" / name / "trial.json", {"name": name, "number": number, "params": {"x": number}}
        )
    add_lines(root / "trials/a/attempts/1", line(1))
    add_lines(root / "trials/a/attempts/2", line(1), line(2, final=True))
    write(root / "trials/a/result.json", {"state": "complete", "objective": 0.5, "attempt": 2, "timing": 1})
    (root / "trials/a/attempts/2/student.safetensors").write_bytes(b"weights")
    add_lines(root / "trials/b/attempts/1", line(1), line(2))
    return root


def finish(root: Path) -> None:
    add_lines(root / "trials/b/attempts/1", line(3, final=True))
    write(root / "trials/b/result.json", {"state": "complete", "objective": 0.5, "attempt": 1})


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a lost result": (lambda root: (root / "trials/a/result.json").unlink(), "a/result.json has vanished"),
    "a changed result": (
        lambda root: write(root / "trials/a/result.json", {"state": "pruned", "attempt": 2}),
        "a/result.json has changed",
    ),
    "a changed record": (lambda root: write(root / "trials/b/trial.json", {}), "b/trial.json has changed"),
    "a trial run again": (
        lambda root: add_lines(root / "trials/a/attempts/3", line(1)),
        "a has a result and began attempt 3",
    ),
    "a line after the end": (
        lambda root: add_lines(root / "trials/a/attempts/2", line(3)),
        "attempts/2/metrics.jsonl has new lines although the trial has a result",
    ),
    "a shorter file": (
        lambda root: (root / "trials/b/attempts/1/metrics.jsonl").write_text(line(1)),
        "b/attempts/1/metrics.jsonl has lost or changed lines",
    ),
    "a number given twice": (
        lambda root: write(root / "trials/c/trial.json", {"name": "c", "number": 1}),
        "c/trial.json has number 1, as b has",
    ),
}
FINAL_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no result": (
        lambda root: write(root / "trials/c/trial.json", {"name": "c", "number": 2}),
        "c has no legible result",
    ),
    "a torn line": (
        lambda root: add_lines(root / "trials/b/attempts/1", '{"epo'),
        "b/attempts/1/metrics.jsonl has the torn line '{\"epo",
    ),
    "a line of no epoch": (
        lambda root: add_lines(root / "trials/b/attempts/1", "[1]\n"),
        "b/attempts/1/metrics.jsonl has the torn line '[1]",
    ),
    "an epoch twice": (
        lambda root: add_lines(root / "trials/b/attempts/1", line(2)),
        "b/attempts/1/metrics.jsonl has epochs [1, 2, 2, 3]",
    ),
    "an epoch that came out differently": (
        lambda root: add_lines(root / "trials/b/attempts/0", line(1, 0.25)),
        "b/attempts/1/metrics.jsonl has another epoch 1 than an earlier attempt",
    ),
    "the result of another attempt": (
        lambda root: add_lines(root / "trials/b/attempts/2", line(1), line(2), line(3, final=True)),
        "b has the result of attempt 1, but attempt 2 has the lines",
    ),
    "a draft": (lambda root: (root / ".x.draft").touch(), "toy/.x.draft was left behind"),
}


def test_it_has_nothing_against_a_sweep_that_goes_well(sweep: Path) -> None:
    witness = Witness(sweep)

    witness.look()
    finish(sweep)
    witness.close()

    assert witness.complaints == []


@pytest.mark.parametrize("damage", ['{"epo', "[1]\n{}\n", "\0\n"])
def test_it_has_nothing_against_damage_in_an_attempt_that_was_gone_on_from(sweep: Path, damage: str) -> None:
    add_lines(sweep / "trials/a/attempts/1", damage)
    witness = Witness(sweep)

    finish(sweep)
    witness.close()

    assert witness.complaints == []


@pytest.mark.parametrize("forgiven", [True, False])
def test_an_epoch_that_was_doubled_on_purpose_is_forgiven(sweep: Path, forgiven: bool) -> None:
    add_lines(sweep / "trials/a/attempts/1", line(1, 2.0))
    witness = Witness(sweep)
    if forgiven:
        witness.forgive(sweep / "trials/a/attempts/1/metrics.jsonl")

    finish(sweep)
    witness.close()

    assert bool(witness.complaints) is not forgiven


@pytest.mark.parametrize("fault", FAULTS)
def test_it_complains_while_a_sweep_runs_of(sweep: Path, fault: str) -> None:
    act, complaint = FAULTS[fault]
    witness = Witness(sweep)

    witness.look()
    act(sweep)
    witness.look()
    witness.look()

    assert any(complaint in each for each in witness.complaints), witness.complaints


@pytest.mark.parametrize("fault", FINAL_FAULTS)
def test_it_complains_in_the_end_of(sweep: Path, fault: str) -> None:
    act, complaint = FINAL_FAULTS[fault]
    witness = Witness(sweep)

    witness.look()
    act(sweep)
    finish(sweep)
    witness.close()

    assert any(complaint in each for each in witness.complaints), witness.complaints


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("result.json", b"0.5", b"0.6"),
        ("trial.json", b'"x": 0', b'"x": 1'),
        ("attempts/2/metrics.jsonl", b"0.5", b"0.6"),
        ("attempts/2/student.safetensors", b"weights", b"others"),
    ],
)
def test_a_fingerprint_covers_everything_but_clocks(sweep: Path, file: str, old: bytes, new: bytes) -> None:
    before = fingerprints(sweep)
    result = sweep / "trials/a/result.json"
    write(result, json.loads(result.read_text()) | {"timing": 2, "generation": 9})
    assert fingerprints(sweep) == before

    path = sweep / "trials/a" / file
    path.write_bytes(path.read_bytes().replace(old, new))

    assert before.keys() == fingerprints(sweep).keys() == {"a"}
    assert fingerprints(sweep) != before

"""A sweep's folder that somebody else has prepared runs nothing, and what lies around it stays as it is."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from cpsc_core.attempt import write_json
from orchestrator.cli import main
from orchestrator.config import parse_experiment
from orchestrator.store.links import refuse_links
from tests.support.command import EXPERIMENT
from tests.support.folders import MadeSweep

LOOKING = ["status", "best", "report", "compare"]
WRITING = ["resume", "gc", "stop"]


class Touch:
    """What a pickle that is opened as one would do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def around(tmp_path: Path) -> Path:
    """A folder with the storage and something precious in it."""
    (tmp_path / "precious" / "trials" / "x" / "attempts" / "1" / "checkpoints" / "epoch-0001").mkdir(
        parents=True
    )
    for name in ("result.json", "trial.json", "mirror.json", "attempts/1/checkpoints/epoch-0001/state.pt"):
        (tmp_path / "precious" / "trials" / "x" / name).write_text("{}")
    return tmp_path


@pytest.fixture
def sweep(around: Path) -> MadeSweep:
    made = MadeSweep(around / "storage", name="tiny")
    made.paths.experiment.write_text(parse_experiment(EXPERIMENT).text)
    made.trial(0, [0.1, 0.2, 0.3, 0.4])
    made.trial(1, [0.2, 0.3], state=None)
    return made


def poison(around: Path) -> bytes:
    import pickle

    return pickle.dumps(Touch(around / "canary"))


def tree(folder: Path, *, without: Path) -> dict[str, str]:
    """Everything in a folder, by path, but what lies below another one."""
    return {
        str(path): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if (path.is_symlink() or path.is_file()) and without not in path.parents
    }


def run(sweep: MadeSweep, command: str) -> tuple[int, str]:
    """Exit code and words of a command."""
    arguments = [command, str(sweep.paths.root)]
    arguments += {"compare": arguments[1:], "export": ["--to", "safetensors"]}.get(command, [])
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result.exit_code, result.stderr


def renamed(sweep: MadeSweep, name: str) -> None:
    record = sweep.paths.trial("0" * 12).record
    write_json(record, json.loads(record.read_text()) | {"name": name})


@pytest.mark.parametrize("name", ["../../../precious/trials/x", "/etc", "..", "", "x\ny", "000000000001"])
@pytest.mark.parametrize("command", [*LOOKING, "resume", "gc"])
def test_a_trial_that_calls_itself_by_another_name_leads_nowhere(
    around: Path, sweep: MadeSweep, name: str, command: str
) -> None:
    renamed(sweep, name)
    before = tree(around, without=sweep.paths.root)

    code, said = run(sweep, command)

    assert code in (2, 3)
    assert "is the record of another trial" in said
    assert tree(around, without=sweep.paths.root) == before


LINKS: dict[str, Callable[[MadeSweep], Path]] = {
    "a trial": lambda sweep: sweep.paths.trials / "x",
    "the attempts of a trial": lambda sweep: sweep.paths.trial("000000000001").root / "more",
    "checkpoints": lambda sweep: sweep.paths.trial("000000000001").attempt(1).checkpoints,
    "the exports": lambda sweep: sweep.paths.root / "export",
    "a view": lambda sweep: sweep.paths.report,
    "the lease": lambda sweep: sweep.paths.lease,
    "a hidden draft": lambda sweep: sweep.paths.root / ".manifest.json.1.draft",
}


@pytest.mark.parametrize("command", [*LOOKING, *WRITING, "sync", "export"])
@pytest.mark.parametrize("what", LINKS)
def test_a_link_in_the_folder_is_refused(around: Path, sweep: MadeSweep, what: str, command: str) -> None:
    link = LINKS[what](sweep)
    link.symlink_to(around / "precious" / "trials" / "x")
    before = tree(around, without=sweep.paths.root)

    code, said = run(sweep, command)

    assert code == 2
    assert f"{link} is a link" in said
    assert tree(around, without=sweep.paths.root) == before


def test_the_folder_itself_may_lie_behind_a_link(around: Path, sweep: MadeSweep) -> None:
    (around / "elsewhere").symlink_to(sweep.paths.root)

    assert CliRunner().invoke(main, ["status", str(around / "elsewhere")]).exit_code == 0


FILES: dict[str, Callable[[MadeSweep], Path]] = {
    "trial.json": lambda sweep: sweep.paths.trial("0" * 12).record,
    "result.json": lambda sweep: sweep.paths.trial("0" * 12).result,
    "manifest.json": lambda sweep: sweep.paths.manifest,
    "end.json": lambda sweep: sweep.paths.trial("0" * 12).attempt(1).end,
    "metrics.jsonl": lambda sweep: sweep.paths.trial("0" * 12).attempt(1).metrics,
    "lease": lambda sweep: sweep.paths.lease,
    "trials.parquet": lambda sweep: sweep.paths.trials_table,
    "sweep.yaml": lambda sweep: sweep.paths.experiment,
}
CONTENTS: dict[str, Callable[[Path], bytes]] = {
    "a pickle": poison,
    "nothing": lambda _: b"",
    "a list": lambda _: b"[1]",
    "a word": lambda _: b'"x"',
    "depth": lambda _: b"[" * 100_000,
    "other keys": lambda _: b'{"__class__": "os.system", "state": "owned", "stage": 7, "generation": "x"}',
    "a number": lambda _: b"9" * 5000,
    "no text": lambda _: bytes(range(256)),
}


@pytest.mark.parametrize("command", [*LOOKING, "gc"])
@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("file", FILES)
def test_a_file_of_another_kind_is_told_or_does_not_matter(
    around: Path, sweep: MadeSweep, file: str, content: str, command: str
) -> None:
    FILES[file](sweep).write_bytes(CONTENTS[content](around))
    before = tree(around, without=sweep.paths.root)

    code, _ = run(sweep, command)

    assert code in (0, 2, 3, 4)
    assert tree(around, without=sweep.paths.root) == before
    assert not (around / "canary").exists()


@pytest.mark.parametrize("scratch", ["/", "precious", "/tmp/cpsc-ray-x/../../precious", 7, None, ["/etc"]])
@pytest.mark.parametrize("command", ["gc", "status"])
def test_a_lease_that_names_another_folder_removes_nothing(
    around: Path, sweep: MadeSweep, scratch: object, command: str
) -> None:
    scratch = str(around / "precious") if scratch == "precious" else scratch
    write_json(sweep.paths.lease, {"scratch": scratch, "generation": 3, "pid": 1, "host": "x", "started": 0})
    before = tree(around, without=sweep.paths.root)

    run(sweep, command)

    assert tree(around, without=sweep.paths.root) == before


def test_a_checkpoint_that_is_a_program_is_skipped_and_not_run(around: Path, sweep: MadeSweep) -> None:
    import torch

    from cpsc_core.checkpoint import newest_valid, save_checkpoint

    trial = sweep.paths.trial("000000000001")
    for epoch, state in ((1, {"epoch": 1}), (2, {"epoch": Touch(around / "canary")})):
        save_checkpoint(
            trial.attempt(1).checkpoint(epoch), state, trial=trial.root.name, attempt=1, epoch=epoch
        )
    buffer = io.BytesIO()
    torch.save({"x": Touch(around / "canary")}, buffer)

    found = newest_valid(trial.root, trial.root.name)

    assert found is not None
    assert found.state == {"epoch": 1}
    assert run(sweep, "gc")[0] == 0
    assert not (around / "canary").exists()


@pytest.mark.parametrize("command", [*LOOKING, "gc"])
def test_a_file_that_lies_among_the_trials_is_passed_over(sweep: MadeSweep, command: str) -> None:
    (sweep.paths.trials / ".DS_Store").write_bytes(b"Bud1")

    code, said = run(sweep, command)

    assert (code, said) == (0, "")


def test_a_checkpoint_that_a_rank_removes_while_the_folder_is_looked_through_is_no_error(
    sweep: MadeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sweep.paths.trial("0" * 12).attempt(1).checkpoint(4)
    folder.mkdir(parents=True)
    scandir = os.scandir

    def remove_first(path: str) -> object:
        if path == str(folder):
            folder.rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", remove_first)

    refuse_links(sweep.paths.root)

    assert not folder.exists()

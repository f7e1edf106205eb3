from __future__ import annotations

import fcntl
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from rich.console import Console

from orchestrator.doctor import examination
from orchestrator.doctor.check import Check, Verdict
from orchestrator.doctor.examination import doctor_document, examine, exit_code, failures, render_doctor

TORCH = Check(name="torch works", verdict=Verdict.OK, finding="no CUDA device")


@pytest.fixture
def torch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch be asked nothing: it would take seconds."""
    monkeypatch.setattr(examination, "examine_compute", lambda: [TORCH])


def found(name: str, checks: list[Check]) -> Check:
    (check,) = (each for each in checks if each.name == name)
    return check


def test_a_machine_that_runs_these_tests_is_fit_for_sweeps(tmp_path: Path, torch_says: None) -> None:
    checks = examine(tmp_path)

    assert exit_code(checks) == 0, failures(checks)
    assert doctor_document(checks)["ok"] is True
    assert list(tmp_path.iterdir()) == []


def test_every_declared_package_is_looked_at(tmp_path: Path, torch_says: None) -> None:
    declared = [Requirement(text) for text in metadata.requires("cpsc-orchestrate") or []]

    names = {check.name for check in examine(tmp_path)}

    assert {each.name for each in declared if each.marker is None} <= names


@pytest.mark.parametrize(
    ("requirement", "verdict", "advice"),
    [
        ("click>=1", Verdict.OK, None),
        ("click>=99", Verdict.WARN, "pip install 'click>=99'"),
        ("no-such-thing[x]>=2,<3", Verdict.FAIL, "pip install 'no-such-thing[x]<3,>=2'"),
    ],
)
def test_a_package_is_missing_or_untested_or_fine(
    requirement: str, verdict: Verdict, advice: str | None
) -> None:
    check = examination._package(Requirement(requirement))

    assert (check.verdict, check.advice) == (verdict, advice)


@pytest.mark.parametrize(("wanted", "verdict"), [(">=3.9", Verdict.OK), (">=4", Verdict.FAIL)])
def test_python_must_be_one_the_package_declares(wanted: str, verdict: Verdict) -> None:
    assert examination._python(wanted).verdict is verdict


def test_a_storage_folder_that_is_not_there_yet_is_tried_where_it_would_be(tmp_path: Path) -> None:
    storage = tmp_path / "runs" / "mine"

    checks = examination._storage(storage)

    assert {check.verdict for check in checks} == {Verdict.OK}
    assert checks[0].finding == f"{storage} (will be made in {tmp_path})"
    assert list(tmp_path.iterdir()) == []


def test_storage_that_cannot_be_written_is_out_of_reach(tmp_path: Path) -> None:
    """A file in the place of a folder: it refuses everybody, root included."""
    storage = tmp_path / "runs"
    storage.write_text("not a folder")

    checks = examination._storage(storage)

    assert exit_code(checks) == 3
    assert str(storage) in failures(checks)


def test_locks_that_keep_nobody_out_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)

    checks = examination._storage(tmp_path)

    assert found("storage locks", checks).verdict is Verdict.FAIL
    assert exit_code(checks) == 3


@pytest.mark.parametrize(
    ("free", "verdict"), [(10 * 1024**3, Verdict.OK), (1024**3, Verdict.WARN), (1024**2, Verdict.FAIL)]
)
def test_little_space_is_a_warning_and_none_a_failure(free: int, verdict: Verdict) -> None:
    assert examination._space(free).verdict is verdict


def test_a_temporary_folder_too_deep_for_sockets_is_found() -> None:
    assert examination._socket_paths(Path("/tmp")).verdict is Verdict.OK
    assert examination._socket_paths(Path("/tmp") / ("x" * 40)).verdict is Verdict.FAIL


@pytest.mark.parametrize(("total", "verdict"), [(64 * 1024**2, Verdict.WARN), (1024**3, Verdict.OK)])
def test_small_shared_memory_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: int, verdict: Verdict
) -> None:
    monkeypatch.setattr(examination.shutil, "disk_usage", lambda _: SimpleNamespace(total=total))

    assert examination._shared_memory(tmp_path).verdict is verdict
    assert examination._shared_memory(tmp_path / "missing").verdict is Verdict.OK


def test_one_processor_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination.os, "sched_getaffinity", lambda _: {0})

    assert examination._processors().verdict is Verdict.WARN


CHECKS = [
    Check(name="a", verdict=Verdict.OK, finding="fine"),
    Check(name="b", verdict=Verdict.WARN, finding="[odd]", advice="look"),
    Check(name="c", verdict=Verdict.FAIL, finding="bad", advice="do this"),
    Check(name="d", verdict=Verdict.FAIL, finding="gone", advice="do that", code=3),
]


@pytest.mark.parametrize(("count", "code"), [(0, 0), (1, 0), (2, 0), (3, 2), (4, 3)])
def test_the_gravest_failure_decides_the_exit_code(count: int, code: int) -> None:
    assert exit_code(CHECKS[:count]) == code


def test_the_last_line_names_every_failure() -> None:
    assert failures(CHECKS) == "no sweep can run here: c: bad; d: gone"


def test_whoever_gets_a_warning_or_a_failure_is_told_what_to_do(tmp_path: Path, torch_says: None) -> None:
    checks = examine(tmp_path) + examination._storage(Path("/dev/null/x")) + [examination._space(0)]

    assert all(check.advice for check in checks if check.verdict is not Verdict.OK)


def test_the_table_shows_what_to_do_next() -> None:
    console = Console(width=60, force_terminal=False)
    with console.capture() as captured:
        console.print(render_doctor(CHECKS[1:3]))

    lines = [line.split() for line in captured.get().splitlines()]
    assert lines[1:] == [["b", "warn", "[odd]", "look"], ["c", "fail", "bad", "do", "this"]]


def test_a_program_that_is_not_installed_is_told_how_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(examination.metadata, "distribution", missing)

    (check,) = examination._installation()

    assert (check.verdict, check.advice) == (Verdict.FAIL, "run `pip install .` in that folder")

"""The program as a whole: help, exit codes, last lines, pipes."""

from __future__ import annotations

import errno
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.cli.frame import Command
from orchestrator.errors import (
    BudgetError,
    ConfigError,
    FencedError,
    OrchestratorError,
    OwnedError,
    SignalledError,
    UnreachableError,
    UsageError,
)
from orchestrator.store.records import TrialState
from tests.support.folders import MadeSweep

COMMANDS = [
    "validate",
    "plan",
    "doctor",
    "schema",
    "data",
    "teacher",
    "sweep",
    "resume",
    "stop",
    "status",
    "best",
    "sync",
    "ui",
    "report",
    "compare",
    "export",
    "gc",
]
HEAVY = ["torch", "ray", "mlflow", "optuna", "pydantic", "rich", "yaml", "numpy", "pyarrow"]
PYTHON = [sys.executable, "-c", "from orchestrator.cli import main; main()"]


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, arguments, **options)


def last_line(result: Result) -> str:
    return result.stderr.splitlines()[-1]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A command `fail FILE SWEEP [--storage DIR]` that raises whatever it is given."""

    def give(error: BaseException) -> None:
        @click.command("fail", cls=Command)
        @click.argument("file", type=click.Path(path_type=Path))
        @click.argument("sweep")
        @click.option("--storage", type=click.Path(path_type=Path))
        def fail(**_: Any) -> None:
            raise error

        monkeypatch.setitem(main.commands, "fail", fail)

    return give


def test_commands_stand_in_the_order_in_which_they_are_needed() -> None:
    assert list(main.commands) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_fits_a_line_and_has_an_example(command: str) -> None:
    overview = run("--help").stdout
    (line,) = (each for each in overview.splitlines() if each.startswith(f"  {command} "))

    result = run(command, "--help")

    assert result.exit_code == 0
    assert not line.endswith("...")
    assert f"    cpsc-orchestrate {command}" in result.stdout
    assert all(len(line) <= 80 for line in result.stdout.splitlines())


def test_the_program_alone_shows_its_help() -> None:
    result = run()

    assert (result.exit_code, result.stdout) == (0, run("--help").stdout)


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from orchestrator.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print([name for name in {HEAVY} if name in sys.modules])
"""

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout.splitlines()[-1] == "[]"


def test_help_is_there_before_a_person_notices() -> None:
    def once() -> float:
        start = time.perf_counter()
        subprocess.run([*PYTHON, "--help"], capture_output=True, check=True)
        return time.perf_counter() - start

    assert statistics.median(once() for _ in range(5)) < 0.4


def test_the_version_is_the_packages() -> None:
    from orchestrator import __version__

    assert run("--version").stdout == f"cpsc-orchestrate, version {__version__}\n"


@pytest.mark.parametrize(
    ("error", "code", "command"),
    [
        (ConfigError("x.yaml:3: no"), 2, "validate x.yaml"),
        (UsageError("this cannot be"), 2, "fail --help"),
        (UnreachableError("no Ray answers"), 3, "doctor --storage '/my runs'"),
        (OwnedError("somebody has it"), 5, "status digits --storage '/my runs'"),
        (FencedError("somebody took it"), 5, "status digits --storage '/my runs'"),
        (BudgetError("nothing was finished"), 4, "status digits --storage '/my runs'"),
    ],
)
def test_every_error_ends_with_its_code_its_cause_and_the_next_command(
    failing: Any, error: OrchestratorError, code: int, command: str
) -> None:
    failing(error)

    result = run("fail", "x.yaml", "digits", "--storage", "/my runs")

    assert result.exit_code == code
    assert result.stderr == f"error: {error}; next: cpsc-orchestrate {command}\n"
    assert result.stdout == ""


def test_a_message_that_names_the_command_itself_is_left_alone(failing: Any) -> None:
    failing(OwnedError("digits is taken; run `cpsc-orchestrate resume digits --takeover`."))

    result = run("fail", "x.yaml", "digits")

    assert result.stderr == "error: digits is taken; run `cpsc-orchestrate resume digits --takeover`\n"


def test_below_several_mistakes_in_a_file_a_line_sums_them_up(failing: Any) -> None:
    failing(ConfigError("x.yaml:3: one\nx.yaml:5: two", mistakes=2))

    result = run("fail", "x.yaml", "digits")

    assert result.stderr.splitlines() == [
        "error: x.yaml:3: one",
        "x.yaml:5: two",
        "x.yaml has 2 mistakes; next: cpsc-orchestrate validate x.yaml",
    ]


def test_below_the_first_of_very_many_mistakes_a_line_says_how_many_there_are(failing: Any) -> None:
    failing(ConfigError("x.yaml:3: one\nx.yaml:5: two", mistakes=9000))

    result = run("fail", "x.yaml", "digits")

    assert (
        last_line(result)
        == "x.yaml has 9000 mistakes; above are the first 2; next: cpsc-orchestrate validate x.yaml"
    )


def test_errors_of_the_core_are_told_like_our_own(failing: Any) -> None:
    from cpsc_core.errors import DataError

    failing(DataError("no such archive"))

    result = run("fail", "x.yaml", "digits")

    assert (result.exit_code, last_line(result)) == (
        2,
        "error: no such archive; next: cpsc-orchestrate fail --help",
    )


def test_a_bug_keeps_its_trace(failing: Any) -> None:
    failing(ZeroDivisionError())

    assert isinstance(run("fail", "x.yaml", "digits").exception, ZeroDivisionError)


def test_ctrl_c_names_the_same_command_again(failing: Any) -> None:
    failing(KeyboardInterrupt())

    result = run("fail", "my file.yaml", "digits")

    assert result.exit_code == 130
    assert last_line(result) == "interrupted; next: cpsc-orchestrate fail 'my file.yaml' digits"


@pytest.mark.parametrize(("code", "expected"), [(143, 143), (None, 130)])
def test_a_signal_that_was_caught_ends_with_its_code_and_the_same_command_again(
    failing: Any, code: int | None, expected: int
) -> None:
    failing(SignalledError("interrupted; the teacher was not kept", code))

    result = run("fail", "my file.yaml", "digits")

    assert result.exit_code == expected
    assert last_line(result) == (
        "interrupted; the teacher was not kept; next: cpsc-orchestrate fail 'my file.yaml' digits"
    )


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC])
def test_a_disk_that_fails_is_told_in_a_line(failing: Any, number: int) -> None:
    failing(OSError(number, os.strerror(number), "/my runs/digits/report.html"))

    result = run("fail", "x.yaml", "digits", "--storage", "/my runs")

    assert result.exit_code == 3
    assert result.stderr == (
        f"error: /my runs/digits/report.html: {os.strerror(number)}; "
        "next: cpsc-orchestrate doctor --storage '/my runs'\n"
    )


def test_a_disk_that_fails_without_a_name_is_the_disk(failing: Any) -> None:
    failing(OSError(errno.ENOSPC, "No space left on device"))

    assert last_line(run("fail", "x.yaml", "digits")).startswith("error: the disk: No space left on device; ")


@pytest.mark.parametrize("storage", ["~nobody-of-this-name/runs", "x" * 5000])
def test_a_storage_that_cannot_be_is_refused_in_a_line(storage: str) -> None:
    result = run("status", "digits", "--storage", storage)

    assert result.exit_code == 2
    assert "Invalid value for --storage" in last_line(result)


@pytest.mark.parametrize("sweep", ["~nobody-of-this-name/digits", "x" * 5000])
def test_a_sweep_that_cannot_be_is_refused_in_a_line(tmp_path: Path, sweep: str) -> None:
    result = run("status", sweep, "--storage", str(tmp_path))

    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "cause", "command"),
    [
        (["sweep"], "Missing argument 'FILE'", "sweep --help"),
        (["sweep", "x.yaml", "--nope"], "No such option", "sweep --help"),
        (["nope"], "No such command 'nope'", "--help"),
        (["resume", "x", "--cause", "bad luck"], "'bad luck' is not one of", "resume --help"),
    ],
)
def test_misspelt_commands_end_the_same_way(arguments: list[str], cause: str, command: str) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert cause in last_line(result)
    assert last_line(result).endswith(f"; next: cpsc-orchestrate {command}")


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    """As in `cpsc-orchestrate status --json digits | head -1`, with more output than a pipe holds."""
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, state=TrialState.FAILED, detail="x" * 1_000_000)
    command = [*PYTHON, "status", "digits", "--storage", str(tmp_path), "--json"]
    # Unbuffered, Python itself loses what a pipe does not take in one piece, and nobody hears of it.
    environment = os.environ | {"PYTHONUNBUFFERED": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()

    assert said == ""
    assert process.returncode == 128 + signal.SIGPIPE


def test_a_real_ctrl_c_ends_with_130_and_no_trace(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path, manifest={"finished": None})
    code = f"""
import fcntl
from orchestrator.cli import main
held = open({str(sweep.paths.lease)!r}, "w")
fcntl.flock(held, fcntl.LOCK_EX)
main(["status", "digits", "--storage", {str(tmp_path)!r}, "--watch"])
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        said = process.stderr.read()

    assert first == "digits is running: no trials yet\n"
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("interrupted; next: cpsc-orchestrate status digits")
    assert "Traceback" not in said


def test_the_shell_completes_commands_and_sweeps(tmp_path: Path) -> None:
    MadeSweep(tmp_path, name="digits")
    MadeSweep(tmp_path, name="cifar")

    def completed(*words: str) -> list[str]:
        environment = os.environ | {
            "_CPSC_ORCHESTRATE_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["cpsc-orchestrate", *words]),
            "COMP_CWORD": str(len(words)),
        }
        answer = subprocess.run(PYTHON, env=environment, capture_output=True, text=True, check=False)
        return [line.removeprefix("plain,") for line in answer.stdout.splitlines()]

    assert completed("st") == ["stop", "status"]
    assert completed("status", "--storage", str(tmp_path), "d") == ["digits"]


def test_an_override_that_is_wrong_is_in_the_next_command_too(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("name: x\n")

    told = last_line(run("validate", str(tmp_path / "x.yaml"), "--set", "budget.trials=0"))
    unprintable = last_line(run("validate", str(tmp_path / "x.yaml"), "--set", "budget.trials=\x85"))

    assert told.endswith(f"next: cpsc-orchestrate validate {tmp_path}/x.yaml --set budget.trials=0")
    assert unprintable.endswith(f"next: cpsc-orchestrate validate {tmp_path}/x.yaml")


def test_the_storage_of_a_sweep_that_was_named_by_its_path_is_the_one_to_examine(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path / "runs")
    sweep.paths.manifest.write_text("{")

    result = run("status", str(sweep.paths.root))

    assert result.exit_code == 3
    assert last_line(result).endswith(f"next: cpsc-orchestrate doctor --storage {tmp_path}/runs")

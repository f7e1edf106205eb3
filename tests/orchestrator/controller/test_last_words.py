"""What is read from the log of an attempt; hangs and crashes are written there by real processes."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cpsc_core.attempt import AttemptPaths
from orchestrator.controller.last_words import explain
from orchestrator.store.records import AttemptEnd, EndClass

LINE = "2026-01-02 03:04:05,678 INFO cpsc_core.trial: epoch {}"


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptPaths:
    paths = AttemptPaths.of(tmp_path, 1)
    paths.root.mkdir(parents=True)
    return paths


def explained(attempt: AttemptPaths, ended: EndClass, *trace: str) -> AttemptEnd:
    return explain(AttemptEnd(ended=ended, cause="a rank died"), attempt, trace)


def process(attempt: AttemptPaths, script: str) -> int:
    """A process whose stack alarm watches the attempt's log; its exit code."""
    code = f"""
    import ctypes, os, sys, time
    from pathlib import Path
    from orchestrator.trial.alarm import StackAlarm
    alarm = StackAlarm()
    log = Path(sys.argv[1])
    with log.open("a") as file:
        file.write("{LINE.format(1)}\\n")
    {script}
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(attempt.log)], check=False, timeout=30
    ).returncode


def test_a_hang_leaves_the_stack_of_every_thread(attempt: AttemptPaths) -> None:
    script = """
    def stuck():
        time.sleep(1.0)
    alarm.watch(log, 0.3)
    stuck()
    """
    process(attempt, textwrap.indent(textwrap.dedent(script), "    ").strip())

    end = explained(attempt, EndClass.HANG)

    assert any("in stuck" in line for line in end.stack)
    assert end.lines == [LINE.format(1)]
    assert end.fingerprint is None


def test_progress_keeps_the_alarm_quiet_and_a_trial_that_is_over_too(attempt: AttemptPaths) -> None:
    script = """
    alarm.watch(log, 0.4)
    for _ in range(12):
        time.sleep(0.05)
        alarm.rearm()
    alarm.rest()
    time.sleep(0.6)
    """
    process(attempt, textwrap.indent(textwrap.dedent(script), "    ").strip())

    assert explained(attempt, EndClass.HANG).stack == []


def test_a_crash_names_the_signal_and_the_place_and_can_be_recognised(attempt: AttemptPaths) -> None:
    script = """
    def crash():
        ctypes.string_at(0)
    alarm.watch(log, 60.0)
    crash()
    """
    script = textwrap.indent(textwrap.dedent(script), "    ").strip()

    codes = {process(attempt, script)}
    first = explained(attempt, EndClass.INFRASTRUCTURE)
    attempt.log.unlink()
    codes |= {process(attempt, script)}
    second = explained(attempt, EndClass.INFRASTRUCTURE)

    assert codes == {-signal.SIGSEGV}
    assert first.exit == 139
    assert first.cause == "Fatal Python error: Segmentation fault (a rank died)"
    assert any("in crash" in line for line in first.stack)
    assert first.fingerprint is not None
    assert first.fingerprint == second.fingerprint


def test_an_abort_may_be_the_networks_and_may_be_tried_again(attempt: AttemptPaths) -> None:
    process(attempt, "alarm.watch(log, 60.0); os.abort()")

    end = explained(attempt, EndClass.INFRASTRUCTURE)

    assert "Aborted" in end.stack[0]
    assert end.exit == 134
    assert end.fingerprint is None


def test_a_killed_process_leaves_no_stack(attempt: AttemptPaths) -> None:
    process(attempt, "alarm.watch(log, 60.0); os.kill(os.getpid(), 9)")

    end = explained(attempt, EndClass.INFRASTRUCTURE)

    assert (end.stack, end.cause, end.exit, end.fingerprint) == ([], "a rank died", None, None)
    assert end.lines == [LINE.format(1)]


TRACE = (
    "Traceback (most recent call last):",
    '  File "/here/cpsc_core/trial.py", line 99, in run_trial',
    "    x = f(1)",
    "ValueError: no 7f3a",
)


def test_an_error_is_the_same_wherever_it_is_installed_and_whatever_it_says(attempt: AttemptPaths) -> None:
    there = [line.replace("/here/", "/there/").replace("7f3a", "9c1b") for line in TRACE]
    elsewhere = [line.replace("99", "98") for line in TRACE]
    other = [line.replace("ValueError", "KeyError") for line in TRACE]
    prints = [explained(attempt, EndClass.ERROR, *trace).fingerprint for trace in (TRACE, there)]

    assert prints[0] == prints[1] is not None
    assert explained(attempt, EndClass.ERROR, *elsewhere).fingerprint not in (None, prints[0])
    assert explained(attempt, EndClass.ERROR, *other).fingerprint not in (None, prints[0])
    assert explained(attempt, EndClass.INFRASTRUCTURE, *TRACE).fingerprint is None


def test_the_last_fifty_lines_are_kept_and_no_file_is_no_error(attempt: AttemptPaths) -> None:
    assert explained(attempt, EndClass.ERROR, *TRACE).lines == []

    attempt.log.write_text("\n".join(LINE.format(epoch) for epoch in range(200)) + "\n")

    assert explained(attempt, EndClass.ERROR).lines == [LINE.format(epoch) for epoch in range(150, 200)]

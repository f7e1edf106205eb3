import os
import signal
import subprocess
import sys
import textwrap

import pytest

from orchestrator.sweep.interrupt import Interrupt

SCRIPT = textwrap.dedent(
    """
    import sys, time
    from orchestrator.sweep.interrupt import Interrupt
    with Interrupt(lambda: print("stopping", flush=True), lambda: "go on with resume") as interrupt:
        print("ready", flush=True)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and (interrupt.caught is None or "stay" in sys.argv):
            time.sleep(0.01)
    sys.exit(interrupt.exit_code)
    """
)


def start(*arguments: str, script: str = SCRIPT) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
def test_the_first_signal_asks_to_stop_and_decides_the_exit_code(number: signal.Signals, code: int) -> None:
    process = start()
    process.send_signal(number)
    out, _ = process.communicate(timeout=10)

    assert out == "stopping\n"
    assert process.returncode == code


def test_a_second_interrupt_ends_the_process_at_once_and_names_the_next_command() -> None:
    process = start("stay")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "stopping\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=2)

    assert process.returncode == 130
    assert error.strip() == "go on with resume"


DEAF = textwrap.dedent(
    """
    import ctypes, signal, time
    from orchestrator.sweep.interrupt import Interrupt
    with Interrupt(lambda: None, lambda: "go on with resume") as interrupt:
        print("ready", flush=True)
        while interrupt.caught is None:
            time.sleep(0.01)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        print("deaf", flush=True)
        ctypes.CDLL(None).sleep(30)
    """
)


def test_a_second_interrupt_does_not_wait_until_the_main_thread_is_back_from_foreign_code() -> None:
    process = start(script=DEAF)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "deaf\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=10)

    assert process.returncode == 130
    assert error.strip() == "go on with resume"


def test_handlers_are_put_back_and_an_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        with Interrupt(lambda: None, str) as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.caught is None
        assert [
            signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        ] == handlers
    finally:
        signal.signal(signal.SIGHUP, before)

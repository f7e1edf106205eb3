"""Run one trial on this machine: python -m cpsc_core config.json

On several ranks: torchrun --nproc-per-node 2 -m cpsc_core config.json
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, Self

from cpsc_core.attempt import AttemptPaths, attempts_of
from cpsc_core.errors import CoreError, SettingsError
from cpsc_core.settings import TrialSettings

USAGE_ERROR = 2
STORAGE_ERROR = 3


class _StopRequest:
    """The signal that asked the process to stop while a `with` block runs, if one did."""

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {each: signal.signal(each, self._note) for each in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def __call__(self) -> bool:
        return self.number != 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.number = number
        signal.signal(number, signal.SIG_DFL)  # whoever asks twice means now


def main(arguments: list[str] | None = None) -> int:
    """Run the trial to its end, printing a line per epoch; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = _read_settings(options.config)
        with _StopRequest() as stop:
            return _run(settings, options, stop)
    except CoreError as error:
        sys.stderr.write(f"error: {error}\n")
        return USAGE_ERROR
    except BrokenPipeError:
        raise  # whoever read our output has left
    except OSError as error:
        if error.errno is None:
            raise
        sys.stderr.write(f"error: {error.filename or 'the disk'}: {error.strerror}\n")
        return STORAGE_ERROR


def _run(settings: TrialSettings, options: argparse.Namespace, stop: _StopRequest) -> int:
    """Make the next attempt; the exit code."""
    from cpsc_core.rank import Rank  # imports torch: --help and a wrong file need not wait for it
    from cpsc_core.trial import run_trial

    folder: Path = options.folder or Path(settings.identity())
    rank = Rank.from_environment(os.environ, device=options.device, timeout_seconds=options.timeout)
    say = _print if rank.is_first else lambda _: None
    finished = False
    try:
        attempt = rank.ask(lambda: _next_attempt(folder))
        path = AttemptPaths.of(folder, attempt).root / "trace.json.gz"
        with _tracing(path, say) if options.profile and rank.is_first else nullcontext(_nothing) as trace:
            lines = run_trial(
                settings,
                folder,
                attempt,
                threads=options.threads,
                device=rank.device,
                rank=rank,
                should_stop=lambda: trace() or stop(),  # asked before every iteration
            )
            for line in lines:
                finished = bool(line.get("final"))
                say(_describe(line, settings.train.epochs))
    finally:
        rank.leave()
    say(f"{'finished' if finished else 'stopped'}: {folder}")
    # a rank that stopped because another one was asked to has no signal of its own
    return 0 if finished else 128 + (stop.number or signal.SIGTERM)


@contextmanager
def _tracing(path: Path, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """What to call before every iteration, so that the block leaves a trace of some."""
    from cpsc_core.profile import tracing

    with tracing(path) as before_iteration:
        yield before_iteration
    say(
        f"trace of two iterations: {path}; open it at https://ui.perfetto.dev"
        if path.exists()
        else "no trace: the attempt ended before its third iteration"
    )


def _nothing() -> None:
    pass


def _next_attempt(folder: Path) -> int:
    attempts = attempts_of(folder)
    return attempts[-1].number + 1 if attempts else 1


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, but is {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cpsc_core",
        description="Run one trial on this machine, or go on with it. "
        "On several ranks: torchrun --nproc-per-node N -m cpsc_core config.json",
    )
    parser.add_argument("config", type=Path, help="JSON file with the trial's settings, or a trial.json")
    parser.add_argument("--folder", type=Path, help="the trial's folder (default: its hash, here)")
    parser.add_argument("--threads", type=_count, default=1, help="threads to compute with (default: 1)")
    parser.add_argument(
        "--device", help="torch device (default: cpu; under torchrun a GPU for each rank, if there are any)"
    )
    parser.add_argument(
        "--profile", action="store_true", help="trace two iterations into trace.json.gz, for Perfetto"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=1800.0,
        metavar="SECONDS",
        help="under torchrun, silence after which a rank counts as dead; longer than the scoring of an epoch "
        "(default: 1800)",
    )
    return parser


def _read_settings(path: Path) -> TrialSettings:
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise SettingsError(f"{path} should hold a JSON object, but holds {type(raw).__name__}")
    return TrialSettings.from_dict(raw.get("settings", raw))


def _describe(line: dict[str, Any], epochs: int) -> str:
    figures = (f"{name} {line[name]:.4f}" for name in _SHOWN if name in line)
    return f"epoch {line['epoch']}/{epochs}  {'  '.join(figures)}  {line['seconds']:.1f} s"


_SHOWN = ("val_accuracy", "test_accuracy", "teacher_agreement", "label_fidelity", "student_loss")


if __name__ == "__main__":
    sys.exit(main())

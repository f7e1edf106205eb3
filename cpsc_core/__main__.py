"""Run one trial on this machine: python -m cpsc_core config.json"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Self

from cpsc_core.attempt import attempts_of
from cpsc_core.errors import CoreError, SettingsError
from cpsc_core.settings import TrialSettings

USAGE_ERROR = 2


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
        folder = options.folder or Path(settings.identity())
        with _StopRequest() as stop:
            finished = _run(settings, folder, options, stop)
    except CoreError as error:
        sys.stderr.write(f"error: {error}\n")
        return USAGE_ERROR
    sys.stdout.write(f"{'finished' if finished else 'stopped'}: {folder}\n")
    return 0 if finished else 128 + stop.number


def _run(settings: TrialSettings, folder: Path, options: argparse.Namespace, stop: _StopRequest) -> bool:
    """Make the next attempt; whether the trial has finished."""
    from cpsc_core.trial import run_trial  # imports torch: --help and a wrong file need not wait for it

    attempts = attempts_of(folder)
    lines = run_trial(
        settings,
        folder,
        attempts[-1].number + 1 if attempts else 1,
        threads=options.threads,
        device=options.device,
        should_stop=stop,
    )
    finished = False
    for line in lines:
        finished = bool(line.get("final"))
        sys.stdout.write(_describe(line, settings.train.epochs) + "\n")
        sys.stdout.flush()
    return finished


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cpsc_core", description="Run one trial on this machine, or go on with it."
    )
    parser.add_argument("config", type=Path, help="JSON file with the trial's settings, or a trial.json")
    parser.add_argument("--folder", type=Path, help="the trial's folder (default: its hash, here)")
    parser.add_argument("--threads", type=int, default=1, help="threads to compute with (default: 1)")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
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

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cpsc_core.__main__ import main
from cpsc_core.attempt import AttemptPaths, Point, attempts_of, read_lines
from cpsc_core.settings import TeacherSettings, TrialSettings
from cpsc_core.trial import finished_line
from tests.support.trials import digest, finish, tiny_trial


def write_config(settings: TrialSettings, folder: Path) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(settings.to_dict()))
    return path


@pytest.fixture
def config(teacher: TeacherSettings, tmp_path: Path) -> Path:
    return write_config(tiny_trial(teacher), tmp_path)


class Run:
    """`python -m cpsc_core` in a process of its own, or `main` in a copy of this one, which starts sooner."""

    def __init__(self, config: Path, trial: Path, *, fresh: bool) -> None:
        arguments = [str(config), "--folder", str(trial)]
        if fresh:
            command = [sys.executable, "-m", "cpsc_core", *arguments]
            self.pid = subprocess.Popen(command, stdout=subprocess.DEVNULL).pid
        else:
            self.pid = os.fork()
            if self.pid == 0:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os._exit(main(arguments))
        self.code: int | None = None

    def is_over(self) -> bool:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is not None

    def wait_for(self, event: Callable[[], bool] = lambda: False) -> None:
        """Return when something has happened or the process is over."""
        while not self.is_over() and not event():
            time.sleep(0.005)

    def send(self, number: int) -> None:
        if not self.is_over():
            os.kill(self.pid, number)
        self.wait_for()


def test_a_trial_is_run_with_a_line_per_epoch(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(config), "--folder", str(tmp_path / "trial")]) == 0

    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith("epoch 1/2  val_accuracy 0.")
    assert second.startswith("epoch 2/2  val_accuracy 0.")
    assert "test_accuracy" in second
    assert last == f"finished: {tmp_path / 'trial'}"


def test_by_default_the_folder_is_the_trials_name(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    main([str(config)])

    settings = TrialSettings.from_dict(json.loads(config.read_text()))
    assert finished_line(tmp_path / settings.identity()) is not None


def test_the_next_attempt_goes_on(config: Path, tmp_path: Path) -> None:
    AttemptPaths.of(tmp_path / "trial", 4).root.mkdir(parents=True)

    main([str(config), "--folder", str(tmp_path / "trial")])

    assert [each.number for each in attempts_of(tmp_path / "trial")] == [4, 5]


def test_a_trial_record_is_a_config_too(config: Path, tmp_path: Path) -> None:
    record = tmp_path / "trial.json"
    record.write_text(json.dumps({"name": "x", "settings": json.loads(config.read_text())}))

    assert main([str(record), "--folder", str(tmp_path / "trial")]) == 0


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "config.json cannot be read: No such file or directory"),
        ("{", "config.json is not JSON"),
        ("[]", "config.json should hold a JSON object, but holds list"),
        ('{"student": 1}', "unknown setting student"),
        ("{}", "missing 5 required"),
        ('{"student_arch": null}', "student_arch must be a text, but is None"),
        ('{"data": {"name": 3}}', "data.name must be a text, but is 3"),
        ('{"splits": null}', "splits must be a list, each of it a text, but is None"),
        ('{"train": {"compile": "false"}}', "train.compile must be true or false, but is 'false'"),
        ('{"train": {"loss": {"ikd": "1"}}}', "train.loss.ikd must be a number, but is '1'"),
        (f'{{"train": {{"seed": 1{"0" * 400}}}}}', "train.seed must be a whole number, but is 10000"),
        ('{"teacher": {"mean": 0.1}}', "teacher.mean must be a list, each of it a number or null, but is"),
    ],
)
def test_what_a_person_can_mend_is_one_line_and_exit_code_2(
    config: Path, content: str | None, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config.unlink() if content is None else config.write_text(content)

    assert main([str(config)]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert complaint in line


@pytest.mark.parametrize("device", ["abacus", "mps"])
def test_a_device_that_is_not_here_is_one_line_too(
    config: Path, device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(config), "--folder", str(tmp_path / "trial"), "--device", device]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert f"{device!r}" in line and "use cpu or cuda" in line


@pytest.mark.parametrize("threads", ["0", "-1", "many"])
def test_threads_are_counted_from_one(config: Path, threads: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(config), "--threads", threads])

    assert left.value.code == 2
    assert f"must be a whole number of at least 1, but is {threads!r}" in capsys.readouterr().err


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError("a bug")])
def test_what_is_not_of_the_disk_keeps_its_trace(
    config: Path, error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("cpsc_core.__main__._run", fail)

    with pytest.raises(OSError) as raised:
        main([str(config)])

    assert raised.value is error


def test_a_folder_that_is_a_file_is_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(config), "--folder", str(config)]) == 3

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {config}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_trial_after_a_checkpoint(
    teacher: TeacherSettings, tmp_path: Path, number: int
) -> None:
    config, trial = write_config(tiny_trial(teacher, epochs=5000), tmp_path), tmp_path / "trial"
    attempt = AttemptPaths.of(trial, 1)

    run = Run(config, trial, fresh=False)
    run.wait_for(attempt.metrics.exists)
    run.send(number)

    assert run.code == 128 + number
    assert attempt.checkpoint_points()[-1] >= Point(len(read_lines(attempt.metrics)))
    assert finished_line(trial) is None


@pytest.mark.parametrize(
    ("fresh", "epochs", "longest"),
    [
        pytest.param(True, 5, 4, id="one fresh process after the other"),
        pytest.param(False, 100, 10, id="copies of this process", marks=pytest.mark.slow),
        pytest.param(True, 100, 10, id="fresh processes for long", marks=pytest.mark.slow),
    ],
)
def test_a_trial_killed_at_random_moments_ends_like_one_that_was_left_alone(
    teacher: TeacherSettings, tmp_path: Path, fresh: bool, epochs: int, longest: int
) -> None:
    settings = tiny_trial(teacher, epochs=epochs)
    config, trial, chance = write_config(settings, tmp_path), tmp_path / "killed", random.Random(2)
    expected = digest(finish(settings, tmp_path / "alone"))

    starts = 0
    while finished_line(trial) is None:
        starts += 1
        goal, pause = epochs_of(trial) + chance.randint(0, longest), chance.uniform(0, 0.1)
        run = Run(config, trial, fresh=fresh)
        run.wait_for(lambda goal=goal: epochs_of(trial) >= goal)
        time.sleep(pause)
        run.send(signal.SIGKILL)

    assert starts > 1
    assert digest(attempts_of(trial)[-1]) == expected


def epochs_of(trial: Path) -> int:
    """The furthest epoch that any attempt has written."""
    return max((len(read_lines(attempt.metrics)) for attempt in attempts_of(trial)), default=0)


def test_a_trace_names_the_steps_of_both_players(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(config), "--folder", str(tmp_path / "trial"), "--profile"]) == 0

    path = AttemptPaths.of(tmp_path / "trial", 1).root / "trace.json.gz"
    assert f"trace of two iterations: {path}" in capsys.readouterr().out
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    names = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    assert (names.count("generator step"), names.count("student step")) == (2, 2)


def test_an_attempt_too_short_for_a_trace_says_so(
    teacher: TeacherSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tiny_trial(teacher, epochs=1, iterations_per_epoch=1), tmp_path)

    assert main([str(config), "--folder", str(tmp_path / "trial"), "--profile"]) == 0

    assert "no trace: the attempt ended before its third iteration" in capsys.readouterr().out

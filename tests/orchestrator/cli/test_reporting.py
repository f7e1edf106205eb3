"""report, compare, export and schema as people run them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orchestrator import export
from orchestrator.cli import main
from orchestrator.config import parse_experiment
from tests.support.command import EXPERIMENT, command, document
from tests.support.folders import MadeSweep
from tests.support.students import sweep_with_student


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def sweep(tmp_path: Path) -> MadeSweep:
    sweep = MadeSweep(tmp_path)
    sweep.paths.experiment.write_text(parse_experiment(EXPERIMENT).text)
    sweep.trial(0, [0.5])
    sweep.trial(1, [0.6, 0.7])
    return sweep


def test_report_writes_a_page_and_says_where(sweep: MadeSweep) -> None:
    result = run("report", "digits", "--storage", str(sweep.storage))

    assert result.stdout == f"digits is described in {sweep.paths.report}\n"
    assert sweep.paths.report.read_text().startswith("<!doctype html>")


def test_report_as_markdown_or_json_writes_nothing(sweep: MadeSweep) -> None:
    markdown = run("report", "digits", "--storage", str(sweep.storage), "--markdown")
    as_json = run("report", "digits", "--storage", str(sweep.storage), "--json")

    assert markdown.stdout.startswith("**digits**")
    assert json.loads(as_json.stdout).keys() >= {"leaderboard", "cost", "failures", "reproduce", "curves"}
    assert not sweep.paths.report.exists()


def test_one_output_at_a_time(sweep: MadeSweep) -> None:
    assert run("report", "digits", "--storage", str(sweep.storage), "--json", "--markdown").exit_code == 2
    assert run("export", "digits", "--storage", str(sweep.storage)).exit_code == 2
    assert (
        run("export", "digits", "--storage", str(sweep.storage), "--to", "onnx", "--images", "5").exit_code
        == 2
    )


def test_compare_needs_two_and_shows_both(sweep: MadeSweep) -> None:
    other = MadeSweep(sweep.storage, name="wide")
    other.trial(0, [0.8])

    alone = run("compare", "digits", "--storage", str(sweep.storage))
    both = run("compare", "digits", "wide", "--storage", str(sweep.storage))
    as_json = run("compare", "digits", "wide", "--storage", str(sweep.storage), "--json")

    assert (alone.exit_code, "has nothing to be compared with" in alone.stderr) == (2, True)
    assert "0.7000" in both.stdout
    assert "0.8000" in both.stdout
    assert [row["best"] for row in json.loads(as_json.stdout)["sweeps"]] == [0.7, 0.8]


def test_export_tells_what_was_written(sweep: MadeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, Any] = {
        "trial": "abc",
        "folder": "/x",
        "file": "student.onnx",
        "bytes": 2048,
        "parameters": 75002,
        "milliseconds_for_one": 0.5,
        "milliseconds_of_many": 0.25,
        "largest_difference": 3e-6,
    }
    monkeypatch.setattr(export, "export_student", lambda *_, **__: written)

    result = run("export", "digits", "--storage", str(sweep.storage), "--to", "onnx")

    assert "parameters  75,002" in result.stdout
    assert "size        2.0 KiB" in result.stdout
    assert "latency     0.50 ms for one image, 0.250 ms each in batches of 32" in result.stdout


def test_an_export_names_its_trial_by_number_or_hash(
    sweep: MadeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = sweep.folder.trials()[0]
    asked: list[str] = []
    monkeypatch.setattr(
        "orchestrator.export.student.student_weights", lambda found: asked.append(found.name) or 1 / 0
    )

    for name in (str(trial.record.number), trial.name):
        result = run("export", "digits", "--storage", str(sweep.storage), "--to", "onnx", "--trial", name)
        assert isinstance(result.exception, ZeroDivisionError), result.stderr

    assert asked == [trial.name] * 2


def test_images_are_not_written_beside_those_of_somebody_else(sweep: MadeSweep, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "train-00000-of-00001.parquet").write_bytes(b"theirs")

    told = run("export", "digits", "--storage", str(sweep.storage), "--images", "50", "--output", str(theirs))

    assert told.exit_code == 2
    assert f"{theirs} holds train-00000-of-00001.parquet already" in told.stderr
    assert (theirs / "train-00000-of-00001.parquet").read_bytes() == b"theirs"


def test_sigterm_ends_an_export_and_what_it_has_started(tmp_path: Path) -> None:
    child = tmp_path / "asked.py"
    child.write_text(
        "import os, pathlib, time\n"
        "from cpsc_core.process import end_on_sigterm\n"
        "end_on_sigterm()\n"
        "pathlib.Path('pid').write_text(str(os.getpid()))\n"
        "try:\n    time.sleep(60)\nfinally:\n    pathlib.Path('tidied').touch()\n"
    )
    code = "from orchestrator.export.child import ask; ask('asked', {}, to='wait')"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    ) as process:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        process.terminate()

    assert process.returncode == 1  # the error has no command here to end with its code
    assert (tmp_path / "tidied").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_schema_prints_the_schema() -> None:
    assert json.loads(run("schema").stdout)["title"] == "Experiment file of cpsc-orchestrate"


def test_every_command_has_an_example_in_its_help() -> None:
    for name, each in main.commands.items():
        assert f"cpsc-orchestrate {name} " in (each.help or "") or name in ("ui", "schema"), name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_is_given_its_completion(shell: str) -> None:
    given = _complete(f"{shell}_source")

    assert "_CPSC_ORCHESTRATE_COMPLETE" in given
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=given, text=True, check=True)


def test_commands_options_and_sweeps_are_completed(sweep: MadeSweep) -> None:
    assert "report" in _complete("bash_complete", "cpsc-orchestrate rep", 1)
    assert "--markdown" in _complete("bash_complete", "cpsc-orchestrate report --mark", 2)
    line = f"cpsc-orchestrate report --storage {sweep.storage} dig"
    assert "digits" in _complete("bash_complete", line, 4)
    line = f"cpsc-orchestrate compare --storage {sweep.storage} digits dig"
    assert "digits" in _complete("bash_complete", line, 5)


def _complete(instruction: str, words: str = "", place: int = 0) -> str:
    environment = {"_CPSC_ORCHESTRATE_COMPLETE": instruction, "COMP_WORDS": words, "COMP_CWORD": str(place)}
    program = "from orchestrator.cli import main; main(prog_name='cpsc-orchestrate')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


@pytest.mark.slow
def test_an_exported_student_and_its_images_are_what_their_cards_say(tmp_path: Path) -> None:
    paths = sweep_with_student(tmp_path)

    onnx = document("export", paths.root, "--to", "onnx")
    plain = document("export", paths.root, "--to", "safetensors", "--output", tmp_path / "plain")
    refused = command("export", paths.root, "--images", "5", code=2)

    assert onnx["largest_difference"] < 1e-3
    assert plain["largest_difference"] == 0.0
    card = (Path(onnx["folder"]) / "README.md").read_text()
    assert f"{onnx['parameters']:,}" in card
    code = card.partition("```python\n")[2].partition("```")[0]
    subprocess.run(
        [sys.executable, "-c", code + "assert logits.shape == (4, 10)"], cwd=onnx["folder"], check=True
    )
    code = (tmp_path / "plain" / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    subprocess.run(
        [sys.executable, "-c", code + "\nassert logits.shape == (4, 10)"], cwd=tmp_path / "plain", check=True
    )
    assert "5 images are too few for 10 classes" in refused


@pytest.mark.parametrize(("no_color", "coloured"), [("1", False), ("", True)])
def test_errors_are_coloured_unless_nobody_wants_that(no_color: str, coloured: bool) -> None:
    result = CliRunner(env={"NO_COLOR": no_color}).invoke(
        main, ["best", "nowhere", "--storage", "/"], color=True
    )

    assert ("\x1b[" in result.stderr) is coloured

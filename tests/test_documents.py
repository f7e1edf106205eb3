"""The documents that the README promises are those that the program prints."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.config import parse_experiment
from tests.support.command import EXPERIMENT
from tests.support.folders import MadeSweep

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("Documents that `--json` prints")[2].partition("Tables are plain")[0]
PROMISED = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", SECTION, flags=re.MULTILINE))


def promised(command: str) -> set[str]:
    """Keys on the top level, those in brackets left out."""
    return set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", PROMISED[command])))


@pytest.fixture
def sweep(tmp_path: Path) -> MadeSweep:
    sweep = MadeSweep(tmp_path)
    sweep.paths.experiment.write_text(parse_experiment(EXPERIMENT).text)
    sweep.trial(0, [0.5])
    sweep.trial(1, [0.6])
    return sweep


@pytest.mark.parametrize("command", ["status", "best", "report"])
def test_a_sweeps_document_has_the_keys_that_are_promised(sweep: MadeSweep, command: str) -> None:
    result = CliRunner().invoke(main, [command, str(sweep.paths.root), "--json"])

    assert json.loads(result.stdout).keys() == promised(command)


def test_a_comparison_has_the_keys_that_are_promised(sweep: MadeSweep) -> None:
    result = CliRunner().invoke(main, ["compare", *[str(sweep.paths.root)] * 2, "--json"])

    assert json.loads(result.stdout).keys() == promised("compare")


def test_what_was_written_has_the_keys_that_are_promised() -> None:
    from dataclasses import fields

    from cpsc_core.export import Exported
    from cpsc_core.synthesis import Synthesis
    from orchestrator.mirror import Synced

    written = {each.name for kind in (Exported, Synthesis) for each in fields(kind)}
    assert written | {"sweep", "trial", "folder", "format"} == promised("export")
    assert {each.name for each in fields(Synced)} | {"sweep", "tracking_uri", "registered"} == promised(
        "sync"
    )


def test_the_doctors_document_has_the_keys_that_are_promised() -> None:
    from orchestrator.doctor.check import Check, Verdict
    from orchestrator.doctor.examination import doctor_document

    document = doctor_document([Check(name="x", verdict=Verdict.OK, finding="y")])

    assert document.keys() == promised("doctor")
    assert document["checks"][0].keys() == {"name", "verdict", "finding", "advice"}

"""The report as a page: complete, self-contained, and safe whatever a sweep is called."""

from __future__ import annotations

import html.parser
import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cpsc_core.attempt import write_json
from orchestrator.config import parse_experiment
from orchestrator.errors import UsageError
from orchestrator.report.page.document import report_document
from orchestrator.report.page.gallery import Frame, frames
from orchestrator.report.page.page import render_page, write_report
from orchestrator.store.folder import SweepFolder
from orchestrator.store.paths import StoragePaths
from orchestrator.store.records import EndClass, TrialState
from orchestrator.study.view import figures_page, study_of
from tests.support.command import EXPERIMENT
from tests.support.folders import MadeSweep

VOID = {"meta", "img", "input", "br"}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Reader(html.parser.HTMLParser):
    """Collects elements and text, and refuses what is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, Any]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def sweep(tmp_path: Path) -> MadeSweep:
    sweep = MadeSweep(tmp_path)
    sweep.paths.experiment.write_text(parse_experiment(EXPERIMENT).text)
    name = sweep.trial(0, [0.5, 0.6, 0.7, 0.8])
    sweep.trial(1, [0.2], state=TrialState.PRUNED, detail="pruned after epoch 1")
    sweep.trial(
        2, [0.1], state=TrialState.FAILED, cause="hang", detail="no step in 120 s", ended=EndClass.HANG
    )
    attempt = sweep.paths.trial(name).attempt(1)
    attempt.samples.mkdir()
    for epoch in (1, 2, 4):
        Image.new("RGB", (60, 40), (epoch * 40, 0, 0)).save(attempt.sample(epoch))
    shares = {"images": [5, 5], "right": [4, 5], "accuracy": [0.8, 1.0]}
    taught = {"images": [5, 5], "right": [5, 5], "accuracy": [1.0, 1.0]}
    write_json(attempt.per_class, {"classes": ["cat", "dog"], "val": shares, "teacher": {"val": taught}})
    return sweep


def page(sweep: MadeSweep) -> str:
    write_report(sweep.folder)
    return sweep.paths.report.read_text(encoding="utf-8")


def test_it_says_everything_that_was_found(sweep: MadeSweep) -> None:
    reader = Reader(page(sweep))

    said = " ".join(reader.text)
    for heading in (
        "What was searched and found",
        "Leaderboard",
        "Learning curves",
        "Synthetic images of the best trial",
        "Accuracy by class",
        "Failures",
        "Cost",
        "How to reproduce it",
    ):
        assert heading in said
    assert "trial 0 with 0.8000" in said
    assert "val 97.0 %, test 96.5 %" in said
    assert "no step in 120 s" in said
    assert len([each for each in reader.all("img") if each["alt"]]) == 3


def test_it_loads_nothing_and_may_reach_nothing(sweep: MadeSweep) -> None:
    reader = Reader(page(sweep))

    assert not any({"link", "iframe", "object", "base"} & {name} for name, _ in reader.elements)
    addresses = [
        value
        for _, attributes in reader.elements
        for key, value in attributes.items()
        if key in ("src", "href")
    ]
    assert addresses != []
    assert all(address.startswith("data:image/webp;base64,") for address in addresses)
    (policy,) = (each["content"] for each in reader.all("meta") if "http-equiv" in each)
    assert policy.startswith("default-src 'none'; img-src data:")
    assert "script-src 'sha256-" in policy


def test_every_drawing_has_an_alternative_text(sweep: MadeSweep) -> None:
    drawings = Reader(page(sweep)).all("svg")

    assert len(drawings) == 2
    assert all(each["role"] == "img" and len(each["aria-label"]) > 20 for each in drawings)


def test_no_name_or_message_becomes_markup(sweep: MadeSweep) -> None:
    sweep.trial(3, [0.1], state=TrialState.FAILED, cause="error", detail=HOSTILE, params={HOSTILE: HOSTILE})
    sweep.note(teacher={"arch": HOSTILE, "accuracy": 0.5, "test_accuracy": 0.5}, versions={HOSTILE: HOSTILE})

    reader = Reader(page(sweep))

    assert len(reader.all("script")) == 1
    assert all("onerror" not in attributes for _, attributes in reader.elements)
    assert any("alert(2)" in text for text in reader.text)


STRUCTURE = {"stage", "state", "name", "direction", "of", "class", "distributions", "system_attrs", "metric"}
"""Keys whose text is no words but decides how the rest is read."""


def poisoned(value: Any) -> Any:
    """A document with markup in every text that is there for people."""
    match value:
        case dict():
            return {key: inner if key in STRUCTURE else poisoned(inner) for key, inner in value.items()}
        case list():
            return [poisoned(inner) for inner in value]
        case str():
            return HOSTILE
        case _:
            return value


@pytest.mark.parametrize("name", ["tiny", HOSTILE.replace("/", "|")])
def test_whatever_text_the_files_of_a_sweep_hold_it_becomes_no_markup(sweep: MadeSweep, name: str) -> None:
    for number in (5, 6):
        sweep.trial(number, [0.1 * number] * 4, params={"loss.ikd": 0.1 * number, HOSTILE: HOSTILE})
    sweep.note(git={"commit": "x", "branch": "y"}, versions={"torch": "z"}, data={"name": "digits"})
    for path in sweep.paths.root.rglob("*.json"):
        write_json(path, poisoned(json.loads(path.read_text())))
    text = EXPERIMENT.replace("name: tiny", f"name: {json.dumps(HOSTILE)}")
    sweep.paths.experiment.write_text(text)
    sweep.paths.root.rename(sweep.paths.root.with_name(name))
    moved = SweepFolder(StoragePaths(sweep.paths.root.parent).sweep(name))

    write_report(moved)
    figures = figures_page(study_of(moved))

    assert figures is not None
    for page in (moved.paths.report.read_text(encoding="utf-8"), figures):
        reader = Reader(page)
        assert all("onerror" not in attributes for _, attributes in reader.elements)
        assert not any("src" in attributes for attributes in reader.all("script"))
        assert not any(text.strip() == "alert(1)" for text in reader.text)
    assert len(Reader(moved.paths.report.read_text(encoding="utf-8")).all("script")) == 1


def test_pruning_is_credited_with_what_it_saved(sweep: MadeSweep) -> None:
    document = report_document(sweep.folder)

    # one epoch of one second was run of four
    assert document["cost"]["saved_by_pruning"] == pytest.approx(3.0 / 3600)
    assert document["cost"]["search"] == pytest.approx(3.0 / 3600)


def test_failures_are_told_by_cause_with_their_attempts(sweep: MadeSweep) -> None:
    (failure,) = report_document(sweep.folder)["failures"]

    assert failure == {
        "cause": "hang",
        "trials": [f"{2:012x}"],
        "attempts": 1,
        "detail": "no step in 120 s",
    }


def test_the_document_is_json_even_with_values_that_are_not_numbers(sweep: MadeSweep) -> None:
    sweep.trial(4, [0.5, math.nan], state=None)

    document = report_document(sweep.folder)

    assert json.loads(json.dumps(document))["counts"]["complete"] == 1
    Reader(render_page(document))


def test_nothing_is_said_about_what_is_not_there(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.paths.experiment.write_text(parse_experiment(EXPERIMENT).text)
    sweep.trial(0, [], state=None, started=False)

    said = " ".join(Reader(page(sweep)).text)

    assert "nothing yet: no trial is complete" in said
    assert "Leaderboard" not in said
    assert "The best configuration alone" not in said


def test_a_sweep_without_trials_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no trial yet"):
        write_report(MadeSweep(tmp_path).folder)


def test_grids_are_spread_over_the_epochs_and_fit_into_the_page(tmp_path: Path) -> None:
    samples = {}
    for epoch in range(1, 101):
        samples[epoch] = tmp_path / f"{epoch}.png"
        Image.effect_noise((40, 200), 80).save(samples[epoch])

    all_of_them = frames(samples, room_bytes=10**9)
    few = frames(samples, room_bytes=20_000)

    assert len(all_of_them) == 24
    assert (all_of_them[0].epoch, all_of_them[-1].epoch) == (5, 100)
    assert (all_of_them[0].width, all_of_them[0].height) == (40, 60)
    assert 0 < len(few) < 24
    assert few[-1].epoch == 100
    assert sum(len(frame.url) for frame in few) <= 20_000


def test_a_grid_that_is_no_picture_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"torn")
    Image.new("L", (8, 8)).save(tmp_path / "2.png")

    found = frames({1: tmp_path / "1.png", 2: tmp_path / "2.png"}, 10**6)

    assert [frame.epoch for frame in found] == [2]


def test_one_grid_needs_no_slider(sweep: MadeSweep) -> None:
    frame = Frame(epoch=1, url="data:image/webp;base64,", width=8, height=8)

    reader = Reader(render_page(report_document(sweep.folder), [frame]))

    assert reader.all("input") == []


def test_several_objectives_have_their_front(tmp_path: Path) -> None:
    goals = [
        {"metric": "val_accuracy", "direction": "maximize", "of": "last"},
        {"metric": "student_megaflops", "direction": "minimize", "of": "last"},
    ]
    sweep = MadeSweep(tmp_path, manifest={"objective": goals})
    sweep.paths.experiment.write_text(parse_experiment(EXPERIMENT).text)
    for number, (accuracy, cost) in enumerate([(0.9, 5.0), (0.8, 2.0), (0.7, 3.0)]):
        path = sweep.paths.trial(sweep.trial(number, [accuracy])).result
        reached = {"val_accuracy": accuracy, "student_megaflops": cost}
        write_json(path, json.loads(path.read_text()) | {"objectives": reached})

    reader = Reader(page(sweep))

    assert "Pareto front" in reader.text
    said = " ".join(reader.text)
    assert "val_accuracy against student_megaflops of 3 trials; 2 of them, joined, are beaten by none" in said
    assert len([each for each in reader.all("circle") if each["class"] == "front"]) == 4


def test_the_search_of_several_objectives_is_an_optuna_study_of_several(tmp_path: Path) -> None:
    from orchestrator.study.view import figures_page, study_of

    goals = [{"metric": "val_accuracy", "direction": "maximize"}, {"metric": "cost", "direction": "minimize"}]
    sweep = MadeSweep(tmp_path, manifest={"objective": goals})
    path = sweep.paths.trial(sweep.trial(0, [0.5])).result
    write_json(path, json.loads(path.read_text()) | {"objectives": {"val_accuracy": 0.5, "cost": 2.0}})
    sweep.trial(1, [0.6])

    study = study_of(sweep.folder)

    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL"]
    assert study.best_trials[0].values == [0.5, 2.0]
    assert "Pareto" in (figures_page(study) or "")

"""What the report draws: one function per section, each gives an element, or None if there is nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.page.charts import Series, bar_chart, line_chart, scatter_chart
from orchestrator.report.page.gallery import Frame
from orchestrator.report.page.html import Content, Html, table, tag
from orchestrator.report.page.parts import details, section
from orchestrator.report.wording import fixed, goals, label

__all__ = ["curves", "importance_bars", "pareto_front", "per_class_bars", "sample_grids"]

Document = Mapping[str, Any]

_FAINT_FROM = 12
_CLASSES = 40


def curves(document: Document) -> Html | None:
    """The objective's metric over the epochs of every search trial."""
    rows = document["leaderboard"]["rows"]
    places = {row["trial"]: row["rank"] for row in rows}
    drawn = [each for each in document["curves"] if each["points"]]
    if not drawn:
        return None
    drawn.sort(key=lambda each: places.get(each["trial"], len(places) + 1), reverse=True)
    metric = document["leaderboard"]["objective"]["metric"]
    series = [
        Series(
            name=f"trial {label(each['number'], each['trial'])}, {each['state']}",
            points=[(epoch, _number(value)) for epoch, value in each["points"]],
            style=_style(places.get(each["trial"])),
        )
        for each in drawn
    ]
    best = (
        f"; the best is trial {label(rows[0]['number'], rows[0]['trial'])}, drawn in colour" if rows else ""
    )
    summary = f"{metric} by epoch of {len(drawn)} trials{best}"
    return section(
        "Learning curves", line_chart(series, title="Learning curves", summary=summary, x="epoch", y=metric)
    )


def pareto_front(document: Document) -> Html | None:
    """Of several objectives, the trials that no other one beats; the first one against each of the others."""
    objectives, rows = document["leaderboard"]["objectives"], document["leaderboard"]["rows"]
    if len(objectives) < 2 or not rows:
        return None
    names = [each["metric"] for each in objectives]
    best = [row for row in rows if row["front"]]
    charts = [_against(names[0], other, rows) for other in names[1:]]
    cells: list[list[Content]] = [
        [label(row["number"], row["trial"]), *(fixed(row["objectives"][name]) for name in names)]
        for row in best
    ]
    return section(
        "Pareto front", *charts, table(["trial", *names], cells, f"Trials on the front: {goals(objectives)}")
    )


def importance_bars(document: Document) -> Html | None:
    """How much of the objective's variation each parameter explains."""
    found = document["importances"]
    if not found:
        return None
    first = next(iter(found))
    summary = f"share of the objective's variation that each parameter explains; the most: {first}"
    groups = [(path, [("best", value)]) for path, value in found.items()]
    return section(
        "Parameter importances",
        bar_chart(groups, title="Parameter importances", summary=summary, top=max(found.values())),
    )


def sample_grids(frames: Sequence[Frame]) -> Html | None:
    """The best trial's synthetic images over time, with a slider where the page may run its script."""
    if not frames:
        return None
    last = frames[-1]
    pictures = [
        tag(
            "figure",
            tag(
                "img",
                src=frame.url,
                width=frame.width,
                height=frame.height,
                alt=f"Grid of synthetic images after epoch {frame.epoch}, one row per class",
            ),
            tag("figcaption", f"epoch {frame.epoch}"),
            class_="frame shown" if frame is last else "frame",
        )
        for frame in frames
    ]
    slider = tag(
        "label",
        "Epoch ",
        tag("output", last.epoch, id="epoch"),
        tag("input", type="range", id="slider", min=0, max=len(frames) - 1, value=len(frames) - 1, step=1),
        class_="slider",
    )
    return section(
        "Synthetic images of the best trial",
        slider if len(frames) > 1 else None,
        tag("div", *pictures, id="frames"),
    )


def _or_whole(accuracy: float | None) -> float:
    return 1.0 if accuracy is None else accuracy


def per_class_bars(document: Document) -> Html | None:
    """Accuracy by class of the best student beside its teacher; of many classes those that differ most."""
    found = document["per_class"]
    if found is None:
        return None
    teacher = found["teacher"] or [None] * len(found["classes"])
    classes = list(zip(found["classes"], found["student"], teacher, strict=True))
    worst = min(classes, key=lambda each: _or_whole(each[1]))
    kept = "each class"
    if len(classes) > _CLASSES:
        classes = sorted(classes, key=lambda each: _or_whole(each[1]) - _or_whole(each[2]))[:_CLASSES]
        kept = f"the {_CLASSES} classes that the student loses most in"
    summary = (
        f"share of {found['split']} images of {kept} that the student (colour) and the teacher (grey) "
        f"get right; the student's weakest class is {worst[0]}"
    )
    groups = [(name, [("best", student), ("plain", taught)]) for name, student, taught in classes]
    rows: list[list[Content]] = [[name, fixed(own), fixed(taught)] for name, own, taught in classes]
    return section(
        "Accuracy by class",
        bar_chart(groups, title="Accuracy by class", summary=summary, top=1.0),
        details("As a table", table(["class", "student", "teacher"], rows, "Accuracy by class")),
    )


def _against(first: str, other: str, rows: Sequence[Mapping[str, Any]]) -> Html:
    def points(row: Mapping[str, Any], style: str) -> Series:
        place = (row["objectives"][other], row["objectives"][first])
        return Series(name=f"trial {label(row['number'], row['trial'])}", points=[place], style=style)

    best = [row for row in rows if row["front"]]
    series = [points(row, "faint") for row in rows if not row["front"]]
    line = [(row["objectives"][other], row["objectives"][first]) for row in best]
    series += [Series(name="front", points=line, style="front"), *(points(row, "front") for row in best)]
    summary = (
        f"{first} against {other} of {len(rows)} trials; {len(best)} of them, joined, are beaten by none"
    )
    return scatter_chart(series, title="Pareto front", summary=summary, x=other, y=first)


def _style(rank: int | None) -> str:
    if rank == 1:
        return "best"
    return "plain" if rank is not None and rank < _FAINT_FROM else "faint"


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)

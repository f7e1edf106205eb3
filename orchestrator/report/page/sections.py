"""How the report says what its document holds: one function per section, each gives an element or None."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.page.charts import Series, bar_chart, line_chart
from orchestrator.report.page.gallery import Frame
from orchestrator.report.page.html import Content, Html, join, table, tag
from orchestrator.report.wording import duration, fixed, label, setting, share, short_names

__all__ = [
    "costs",
    "curves",
    "failures",
    "importance_bars",
    "leaderboard",
    "overview",
    "per_class_bars",
    "reproduction",
    "sample_grids",
]

Document = Mapping[str, Any]

_ROWS = 50
_FAINT_FROM = 12
_CLASSES = 40


def overview(document: Document) -> Html:
    """What was searched, how far it got, and what was found."""
    searched, counts = document["searched"], document["counts"]
    teacher, rows = searched["teacher"], document["leaderboard"]["rows"]
    tried = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    facts: dict[str, Content] = {
        "state": f"{document['state']}: {tried}",
        "objective": _objective(document),
        "found": _found(rows[0]) if rows else "nothing yet: no trial is complete",
        "teacher": f"{teacher.get('arch', '-')}: val {share(teacher.get('accuracy'))}, "
        f"test {share(teacher.get('test_accuracy'))}",
        "student": searched["student"],
        "data": searched["data"].get("name"),
        "method": f"{searched['method']}, {searched['epochs']} epochs",
    }
    parameters = [[each["path"], _extent(each), str(each["tried"])] for each in searched["parameters"]]
    return _section(
        "What was searched and found",
        _facts(facts),
        table(["parameter", "tried", "values"], parameters, "Searched parameters"),
    )


def leaderboard(document: Document) -> Html | None:
    """The best configurations, the confirmed ones with mean and deviation over fresh seeds."""
    board = document["leaderboard"]
    rows = board["rows"][:_ROWS]
    if not rows:
        return None
    names = short_names(dict.fromkeys(path for row in rows for path in row["params"]))
    confirmed = any(row["confirm"] for row in rows)
    headings = ["rank", "trial", "objective", "best", "mean of 5", "fidelity"]
    headings += ["confirm val", "confirm test"] if confirmed else []
    cells: list[list[Content]] = [
        [
            str(row["rank"]),
            label(row["number"], row["trial"]),
            *(fixed(row[key]) for key in ("objective", "best", "mean5", "label_fidelity")),
            *((_spread(row["confirm"], "val"), _spread(row["confirm"], "test")) if confirmed else ()),
            *(setting(row["params"][path]) if path in row["params"] else "-" for path in names),
        ]
        for row in rows
    ]
    teacher = board["teacher"]
    more = len(board["rows"]) - len(rows)
    return _section(
        "Leaderboard",
        table([*headings, *names.values()], cells, f"{_objective(document)}; best first", emphasise=0),
        tag(
            "p",
            f"The teacher's own accuracy: val {share(teacher['accuracy'])}, ",
            f"test {share(teacher['test_accuracy'])}.",
        ),
        tag("p", f"and {more} more, see trials.parquet") if more else None,
    )


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
    return _section(
        "Learning curves", line_chart(series, title="Learning curves", summary=summary, x="epoch", y=metric)
    )


def importance_bars(document: Document) -> Html | None:
    """How much of the objective's variation each parameter explains."""
    found = document["importances"]
    if not found:
        return None
    first = next(iter(found))
    summary = f"share of the objective's variation that each parameter explains; the most: {first}"
    groups = [(path, [("best", value)]) for path, value in found.items()]
    return _section(
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
    return _section(
        "Synthetic images of the best trial",
        slider if len(frames) > 1 else None,
        tag("div", *pictures, id="frames"),
    )


def per_class_bars(document: Document) -> Html | None:
    """Accuracy by class of the best student beside its teacher; of many classes those that differ most."""
    found = document["per_class"]
    if found is None:
        return None
    teacher = found["teacher"] or [None] * len(found["classes"])
    classes = list(zip(found["classes"], found["student"], teacher, strict=True))
    if len(classes) > _CLASSES:
        classes = sorted(classes, key=lambda each: (each[1] or 0.0) - (each[2] or 1.0))[:_CLASSES]
    worst = min(classes, key=lambda each: each[1] if each[1] is not None else 1.0)
    kept = (
        f"the {_CLASSES} classes that the student loses most in" if len(classes) == _CLASSES else "each class"
    )
    summary = (
        f"share of {found['split']} images of {kept} that the student (colour) and the teacher (grey) "
        f"get right; the student's weakest class is {worst[0]}"
    )
    groups = [(name, [("best", student), ("plain", taught)]) for name, student, taught in classes]
    rows: list[list[Content]] = [[name, fixed(own), fixed(taught)] for name, own, taught in classes]
    return _section(
        "Accuracy by class",
        bar_chart(groups, title="Accuracy by class", summary=summary, top=1.0),
        _details("As a table", table(["class", "student", "teacher"], rows, "Accuracy by class")),
    )


def failures(document: Document) -> Html | None:
    """What went wrong, by cause."""
    rows: list[list[Content]] = [
        [each["cause"], str(len(each["trials"])), str(each["attempts"]), each["detail"] or "-"]
        for each in document["failures"]
    ]
    if not rows:
        return _section("Failures", tag("p", "No attempt failed."))
    headings = ["cause", "failed trials", "failed attempts", "for instance"]
    return _section("Failures", table(headings, rows, "Failures by cause"))


def costs(document: Document) -> Html:
    """Hours of work, and what pruning saved of them."""
    hours = document["cost"]
    work = hours["search"] + hours["confirm"]
    whole = work + hours["saved_by_pruning"]
    saved = f" ({share(hours['saved_by_pruning'] / whole)} of what it would have been)" if whole else ""
    facts: dict[str, Content] = {
        "work of all trials": _hours(work),
        "of which search": _hours(hours["search"]),
        "of which confirm": _hours(hours["confirm"]),
        "saved by pruning": _hours(hours["saved_by_pruning"]) + saved,
    }
    return _section("Cost", _facts(facts))


def reproduction(document: Document) -> Html:
    """Commit, versions, and the two experiment files: the whole search, and the best configuration alone."""
    noted = document["reproduce"]
    git = noted["git"]
    commit = git.get("commit") or "not in a git repository"
    versions = ", ".join(f"{name} {version}" for name, version in noted["versions"].items())
    facts: dict[str, Content] = {
        "commit": f"{commit} (with uncommitted changes)" if git.get("dirty") else commit,
        "versions": versions,
        "seed": noted["seed"],
        "experiment": f"sha256 {noted['config_sha256']}",
    }
    best = noted["best_experiment"]
    return _section(
        "How to reproduce it",
        _facts(facts),
        tag(
            "p",
            "Save one of these files as experiment.yaml and run ",
            tag("code", "cpsc-orchestrate sweep experiment.yaml"),
            ".",
        ),
        _details("The whole search", tag("pre", noted["experiment"])),
        _details("The best configuration alone", tag("pre", best)) if best else None,
    )


def _section(title: str, *content: Content) -> Html:
    return tag("section", tag("h2", title), *content)


def _facts(facts: Mapping[str, Content]) -> Html:
    pairs = (join(tag("dt", name), tag("dd", "-" if fact is None else fact)) for name, fact in facts.items())
    return tag("dl", *pairs)


def _details(summary: str, content: Html) -> Html:
    return tag("details", tag("summary", summary), content)


def _objective(document: Document) -> str:
    objective = document["leaderboard"]["objective"]
    return f"{objective['direction']} {objective['of']} {objective['metric']}"


def _found(row: Mapping[str, Any]) -> str:
    text = f"trial {label(row['number'], row['trial'])} with {fixed(row['objective'])}"
    if row["confirm"]:
        text += f"; with {row['confirm']['seeds']} fresh seeds val {_spread(row['confirm'], 'val')}"
        text += f", test {_spread(row['confirm'], 'test')}"
    return text


def _spread(confirm: Mapping[str, Any] | None, split: str) -> str:
    if confirm is None or confirm[f"{split}_mean"] is None:
        return "-"
    deviation = confirm[f"{split}_std"]
    return fixed(confirm[f"{split}_mean"]) + ("" if deviation is None else f" \u00b1 {deviation:.4f}")


def _extent(parameter: Mapping[str, Any]) -> str:
    if parameter["values"] is not None:
        return ", ".join(parameter["values"])
    return f"{setting(parameter['low'])} to {setting(parameter['high'])}"


def _style(rank: int | None) -> str:
    if rank == 1:
        return "best"
    return "plain" if rank is not None and rank < _FAINT_FROM else "faint"


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _hours(hours: float) -> str:
    return duration(hours * 3600)

"""What the report says in words and tables: one function per section, each gives an element or None."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.report.columns import FRONT, objective_columns, place
from orchestrator.report.page.html import Content, Html, table, tag
from orchestrator.report.page.parts import details, facts, section
from orchestrator.report.wording import duration, fixed, goals, label, setting, share, short_names

__all__ = [
    "costs",
    "failures",
    "leaderboard",
    "overview",
    "reproduction",
]

Document = Mapping[str, Any]

_ROWS = 50


def overview(document: Document) -> Html:
    """What was searched, how far it got, and what was found."""
    searched, counts = document["searched"], document["counts"]
    teacher, rows = searched["teacher"], document["leaderboard"]["rows"]
    tried = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    known: dict[str, Content] = {
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
    return section(
        "What was searched and found",
        facts(known),
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
    objectives = objective_columns([each["metric"] for each in board["objectives"]])
    headings = ["rank", "trial", *objectives, "best", "mean of 5", "fidelity"]
    headings += ["confirm val", "confirm test"] if confirmed else []
    cells: list[list[Content]] = [
        [
            place(row),
            label(row["number"], row["trial"]),
            *(cell(row) for cell in objectives.values()),
            *(fixed(row[key]) for key in ("best", "mean5", "label_fidelity")),
            *((_spread(row["confirm"], "val"), _spread(row["confirm"], "test")) if confirmed else ()),
            *(setting(row["params"][path]) if path in row["params"] else "-" for path in names),
        ]
        for row in rows
    ]
    teacher = board["teacher"]
    more = len(board["rows"]) - len(rows)
    return section(
        "Leaderboard",
        table([*headings, *names.values()], cells, f"{_objective(document)}; best first", emphasise=0),
        tag(
            "p",
            f"The teacher's own accuracy: val {share(teacher['accuracy'])}, ",
            f"test {share(teacher['test_accuracy'])}.",
        ),
        tag("p", FRONT) if len(objectives) > 1 else None,
        tag("p", f"and {more} more, see trials.parquet") if more else None,
    )


def failures(document: Document) -> Html | None:
    """What went wrong, by cause."""
    rows: list[list[Content]] = [
        [each["cause"], str(len(each["trials"])), str(each["attempts"]), each["detail"] or "-"]
        for each in document["failures"]
    ]
    if not rows:
        return section("Failures", tag("p", "No attempt failed."))
    headings = ["cause", "failed trials", "failed attempts", "for instance"]
    return section("Failures", table(headings, rows, "Failures by cause"))


def costs(document: Document) -> Html:
    """Hours of work, and what pruning saved of them."""
    hours = document["cost"]
    work = hours["search"] + hours["confirm"]
    whole = work + hours["saved_by_pruning"]
    saved = f" ({share(hours['saved_by_pruning'] / whole)} of what it would have been)" if whole else ""
    known: dict[str, Content] = {
        "work of all trials": _hours(work),
        "of which search": _hours(hours["search"]),
        "of which confirm": _hours(hours["confirm"]),
        "saved by pruning": _hours(hours["saved_by_pruning"]) + saved,
    }
    return section("Cost", facts(known))


def reproduction(document: Document) -> Html:
    """Commit, versions, and the two experiment files: the whole search, and the best configuration alone."""
    noted = document["reproduce"]
    git = noted["git"]
    commit = git.get("commit") or "not in a git repository"
    versions = ", ".join(f"{name} {version}" for name, version in noted["versions"].items())
    known: dict[str, Content] = {
        "commit": f"{commit} (with uncommitted changes)" if git.get("dirty") else commit,
        "versions": versions,
        "seed": noted["seed"],
        "experiment": f"sha256 {noted['config_sha256']}",
    }
    best = noted["best_experiment"]
    return section(
        "How to reproduce it",
        facts(known),
        tag(
            "p",
            "Save one of these files as experiment.yaml and run ",
            tag("code", "cpsc-orchestrate sweep experiment.yaml"),
            ".",
        ),
        details("The whole search", tag("pre", noted["experiment"])),
        details("The best configuration alone", tag("pre", best)) if best else None,
    )


def _objective(document: Document) -> str:
    return goals(document["leaderboard"]["objectives"])


def _found(row: Mapping[str, Any]) -> str:
    found = ", ".join(fixed(value) for value in row["objectives"].values())
    text = f"trial {label(row['number'], row['trial'])} with {found}"
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


def _hours(hours: float) -> str:
    return duration(hours * 3600)

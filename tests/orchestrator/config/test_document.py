from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config.document import Node, Place, Problem, dotted, merge, report, shown
from orchestrator.config.yaml_file import parse_yaml


def tree(text: str, source: str = "x.yaml", line: int | None = 1) -> Node:
    return parse_yaml(text, Place(source, line, Path("/")))[0]


def test_mappings_are_merged_key_by_key_and_anything_else_is_replaced() -> None:
    merged = merge(tree("a: {b: 1, c: [1, 2]}\nd: 3"), tree("a: {c: [5], e: 6}\nd: {f: 7}"))

    assert merged.plain() == {"a": {"b": 1, "c": [5], "e": 6}, "d": {"f": 7}}


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ("pruner: {name: median, min_epochs: 2}", "pruner: {name: none}", {"name": "none"}),
        (
            "pruner: {name: median, min_epochs: 2}",
            "pruner: {name: median}",
            {"name": "median", "min_epochs": 2},
        ),
        (
            "pruner: {name: median, min_epochs: 2}",
            "pruner: {min_epochs: 3}",
            {"name": "median", "min_epochs": 3},
        ),
        ("pruner: {min_epochs: 2}", "pruner: {name: none}", {"name": "none"}),
        ("sampler: {name: tpe, seed: 1}", "sampler: {name: qmc}", {"name": "qmc"}),
        ("sampler: {seed: 1}", "sampler: {options: {}}", {"seed": 1, "options": {}}),
        ("data: {name: a, root: b}", "data: {name: c}", {"name": "c", "root": "b"}),
    ],
)
def test_a_block_that_names_another_choice_replaces_the_old_one(
    base: str, over: str, merged: dict[str, object]
) -> None:
    [block] = merge(tree(base), tree(over)).plain().values()

    assert block == merged


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ("{low: 1, high: 2}", "{choices: [1]}", {"choices": [1]}),
        ("{choices: [1]}", "{low: 1, high: 2}", {"low": 1, "high": 2}),
        ("{low: 1, high: 2, log: true}", "{high: 3}", {"low": 1, "high": 3, "log": True}),
    ],
)
def test_choices_and_a_range_replace_each_other(base: str, over: str, merged: dict[str, object]) -> None:
    both = merge(tree(f"search: {{a.b: {base}}}"), tree(f"search: {{a.b: {over}}}"))

    assert both.plain() == {"search": {"a.b": merged}}


def test_a_merged_value_remembers_where_it_came_from() -> None:
    merged = merge(tree("a: {b: 1,\n c: 2}", "base.yaml"), tree("\n\na: {c: 3}", "top.yaml"))

    places = {dotted(keys): str(node.place) for keys, node in merged.scalars()}

    assert places == {"a.b": "base.yaml:1", "a.c": "top.yaml:3"}
    assert str(merged.nearest(("a", "missing")).place) == "top.yaml:3"


def test_an_override_does_not_stand_for_the_block_it_reaches_into() -> None:
    merged = merge(tree("a: {b: 1}"), tree("a: {c: 3}", "--set a.c", None))

    assert str(merged.nearest(("a", "missing")).place) == "x.yaml:1"
    assert str(merged.nearest(("a", "c")).place) == "--set a.c"


def test_a_value_can_be_put_below_others_without_touching_them() -> None:
    root = tree("a: {b: 1, c: 2}\nd: 3")

    changed = root.put(("a", "b"), tree("9"))

    assert changed.plain() == {"a": {"b": 9, "c": 2}, "d": 3}
    assert root.plain() == {"a": {"b": 1, "c": 2}, "d": 3}


def test_problems_are_sorted_by_file_and_line_with_overrides_last() -> None:
    root = merge(tree("a: 1\n\nb: 2"), tree("c: 3", "--set c", None))
    problems = [Problem(("c",), "C"), Problem(("b",), "B"), Problem((), "file"), Problem(("a",), "A")]

    lines, mistakes = report(problems, root)

    assert lines.splitlines() == ["x.yaml:1: file", "x.yaml:1: a: A", "x.yaml:3: b: B", "--set c: C"]
    assert mistakes == 4


def test_of_two_problems_with_one_value_the_first_is_reported() -> None:
    problems = [Problem(("a",), "first"), Problem(("a",), "second")]

    assert report(problems, tree("a: 1")) == ("x.yaml:1: a: first", 1)


def test_of_very_many_problems_the_first_are_told_and_all_are_counted() -> None:
    lines, mistakes = report((Problem((f"a{n}",), "no") for n in range(9000)), tree("b: 1"))

    assert len(lines.splitlines()) == 100
    assert mistakes == 9000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1}, "a mapping"),
        ([1], "a list"),
        (None, "null"),
        (True, "true"),
        (1.0, "1.0"),
        ("x", "'x'"),
        ("x" * 61, f"'{'x' * 60}...'"),
        ("a\u202eb", "'a\\u202eb'"),
        ("http://me:secret@host/x", "'http://***@host/x'"),
        ("${env:A}/b", "what ${env:A}/b stands for"),
    ],
)
def test_a_value_is_shown_on_one_short_line_without_secrets(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_way_is_written_with_dots_and_brackets() -> None:
    assert dotted(("search", "loss.ikd", "choices", 2)) == "search.loss.ikd.choices[2]"

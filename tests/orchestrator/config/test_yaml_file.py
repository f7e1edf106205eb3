from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config.document import Place
from orchestrator.config.yaml_file import parse_yaml, read_yaml, scalar, write_yaml
from orchestrator.errors import ConfigError

START = Place("x.yaml", 1, Path("/folder"))


def parsed(text: str) -> Any:
    root, problems = parse_yaml(text, START)
    assert problems == []
    return root.plain()


def problems(text: str) -> list[str]:
    _, found = parse_yaml(text, START)
    return [f"{each.place}: {each.text}" for each in found]


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, START)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E5", 1e5), ("+1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("-.5e1", -5.0), ("-7", -7),
        ("012", 12), ("0o17", 15), ("0x1F", 31), (".inf", math.inf), ("-.INF", -math.inf), ("", None),
        ("~", None), ("null", None), ("NULL", None), ("true", True), ("FALSE", False),
        ("9223372036854775807", 2**63 - 1),
    ],
)  # fmt: skip
def test_numbers_truth_and_null_are_those_of_the_core_schema(text: str, value: object) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    ["no", "on", "yes", "Off", "y", "12:30:45", "1_000", "2025-01-31", "0b11", "1e", "e5", ".", "+",
     "nUll", "<<", "="],
)  # fmt: skip
def test_what_only_older_yaml_reads_as_something_else_is_text(text: str) -> None:
    assert scalar(text) == text


def test_a_value_that_is_no_number_reads_as_nan() -> None:
    assert math.isnan(scalar(".nan"))


def test_quotes_make_text_of_anything() -> None:
    assert parsed("a: '1'\nb: \"null\"\nc: |-\n  true\n") == {"a": "1", "b": "null", "c": "true"}


def test_every_value_knows_its_line() -> None:
    root, _ = parse_yaml("a: 1\nb:\n  c:\n  - 2\n\n  - {d: 3,\n     e: 4}\n", START)

    lines = {keys: node.place.line for keys, node in root.scalars()}

    assert lines == {("a",): 1, ("b", "c", 0): 4, ("b", "c", 1, "d"): 6, ("b", "c", 1, "e"): 7}


def test_a_key_given_twice_is_reported_with_both_lines() -> None:
    assert problems("a: 1\nb: 2\na: 3\n") == ["x.yaml:3: is given twice; the first time at x.yaml:1"]


def test_anchors_aliases_and_tags_are_refused_where_they_stand() -> None:
    assert problems("a: &x 1\nb: *x\nc: !!float 3\nd: ! x\n") == [
        "x.yaml:1: anchors and aliases (&x) are not supported; write the value out",
        "x.yaml:2: anchors and aliases (*x) are not supported; write the value out",
        "x.yaml:3: tags (tag:yaml.org,2002:float) are not supported; write the value without it",
        "x.yaml:4: tags (!) are not supported; write the value without it",
    ]


def test_an_alias_bomb_is_refused_without_being_unfolded() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
    )

    started = time.process_time()

    assert len(problems(bomb)) == 41
    assert time.process_time() - started < 5.0


def test_a_tag_that_would_construct_an_object_only_makes_a_problem() -> None:
    [problem] = problems("a: !!python/object/apply:os.system ['touch /tmp/owned']\n")

    assert "tags (tag:yaml.org,2002:python/object/apply:os.system) are not supported" in problem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "x.yaml:1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n\tb: 2", "x.yaml:2: not valid YAML: found character '\\t' that cannot start any token"),
        ("a: b: c", "x.yaml:1: not valid YAML: mapping values are not allowed here"),
        ("a: 'x", "x.yaml:1: not valid YAML: found unexpected end of stream"),
        ("a: 1\n---\nb: 2", "x.yaml:2: a second document starts here; give one per file"),
        ("[a]: 1", "x.yaml:1: a key must be plain text"),
        ("a:\n  ? {b: c}\n  : 1", "x.yaml:2: a key of a must be plain text"),
        ("*x : 1", "x.yaml:1: a key must be plain text"),
        ('a: "\\U99999999"', "x.yaml:1: not valid YAML: holds an escape or a number beyond all bounds"),
        ("%YAML 9.9\n---\na: 1",
            "x.yaml:1: not valid YAML: found incompatible YAML document (version 1.* is required)"),
        (f"%YAML 1.{'9' * 5000}\n---\na: 1",
            "x.yaml:1: not valid YAML: holds an escape or a number beyond all bounds"),
        ("a: 1\nb: \x00", "x.yaml:2: holds the control character '\\x00'; remove it"),
        ("a: 1\nb: \x1b[31m", "x.yaml:2: holds the control character '\\x1b'; remove it"),
        ("[" * 5000, "x.yaml:1: more than 32 levels, which no experiment file has"),
        ("- " * 5000, "x.yaml:1: more than 32 levels, which no experiment file has"),
        ("? " * 5000, "x.yaml:1: a key must be plain text"),
        ("[" + "1," * 20_000 + "]", "x.yaml:1: more than 5000 values, which no experiment file has"),
    ],
)  # fmt: skip
def test_a_text_that_is_no_tree_is_refused_with_one_line_in_no_time(text: str, message: str) -> None:
    started = time.process_time()

    assert refusal(text) == message
    assert time.process_time() - started < 5.0


@pytest.mark.parametrize("text", ['a: "\\0"', 'a: "\\ud800"', 'a: "\\x7f"', 'a: "x\\ny"'])
def test_characters_that_no_value_needs_are_refused(text: str) -> None:
    [problem] = problems(text)

    assert "has no place in an experiment file" in problem


def test_a_number_of_more_than_64_bits_is_refused() -> None:
    assert problems("a: 9223372036854775808") == ["x.yaml:1: is a number of more than 64 bits"]


def test_byte_order_mark_and_carriage_returns_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: [x,\r\n y]\r\n")

    root, found = read_yaml(path, "x.yaml")

    assert (root.plain(), found) == ({"a": 1, "b": ["x", "y"]}, [])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: 1\nb: \xff", "x.yaml:2: is not valid UTF-8; save the file in that encoding"),
        ("a: 1".encode("utf-16"), "x.yaml:1: is not valid UTF-8; save the file in that encoding"),
        (b"# " + b"x" * 2**18, "x.yaml: is larger than 256 KiB, which no experiment file is"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(data)

    with pytest.raises(ConfigError) as caught:
        read_yaml(path, "x.yaml")

    assert str(caught.value) == message


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 2**30)

    with pytest.raises(ConfigError, match=r"^x\.yaml: is larger than 256 KiB"):
        read_yaml(path, "x.yaml")


def test_a_text_of_that_size_is_refused_too() -> None:
    assert refusal("#" + "x" * 2**18) == "x.yaml: is larger than 256 KiB, which no experiment file is"


def test_a_value_or_a_key_longer_than_any_path_is_refused() -> None:
    longest, longer = "x" * 4096, "x" * 4097

    assert parsed(f"a: {longest}") == {"a": longest}
    assert problems(f"a: {longer}") == ["x.yaml:1: has 4,097 characters, and no value needs more than 4,096"]
    assert refusal(f"? {longer}\n: 1") == "x.yaml:1: a key must be plain text"


def test_a_missing_file_a_folder_and_an_unreadable_name_are_refused(tmp_path: Path) -> None:
    for path, said in [
        (tmp_path / "no.yaml", "there is no such file"),
        (tmp_path, "is not a regular file"),
        (tmp_path / ("a" * 300), "cannot be read: File name too long"),
    ]:
        with pytest.raises(ConfigError, match=f"^it: {said}$"):
            read_yaml(path, "it")


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20)
    | st.sampled_from(
        ["no", "1e-3", "~", "null", "1_000", "012", "${env:A}", "a: b", "- x", "#", "'", '"', " x "]
    )
)
KEYS = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=8)
TREES = st.dictionaries(
    KEYS, st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20)
)


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_what_is_written_is_read_back(tree: dict[str, Any]) -> None:
    assert parsed(write_yaml({"root": tree})) == {"root": tree}


@settings(deadline=None)
@given(st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none())
def test_scalars_written_by_another_library_mean_the_same_here(value: object) -> None:
    text = yaml.safe_dump(value).splitlines()[0]

    assert scalar(text) == (float(value) if isinstance(value, int) and abs(value) >= 10**20 else value)

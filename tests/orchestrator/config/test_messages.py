"""Golden messages: refusals.txt says what is said about each broken experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cpsc_core import tables


def agreed() -> Iterator[tuple[int, str, str]]:
    """Number of the line that is replaced, what replaces it, and what is said about that."""
    text = Path(__file__).with_name("refusals.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for broken, said in zip(lines[::2], lines[1::2], strict=True):
        number, _, line = broken.partition("|")
        yield int(number), line, said


@pytest.mark.parametrize(("number", "line", "said"), list(agreed()))
def test_a_refusal_reads_as_agreed(
    refusal_of_line: Callable[[int, str], list[str]], tmp_path: Path, number: int, line: str, said: str
) -> None:
    names = {
        "<data sets>": ", ".join(sorted(tables.DATA_SETS)),
        "<folder>": str(tmp_path),
        "<networks>": ", ".join(sorted(tables.names(tables.NETWORKS))),
    }
    for mark, meaning in names.items():
        said = said.replace(mark, meaning)

    assert refusal_of_line(number, line) == [f"x.yaml:{said}"]


def test_a_missing_block_is_placed_at_the_start_of_the_file(
    refusal_of_line: Callable[[int, str], list[str]],
) -> None:
    assert refusal_of_line(4, "") == ["x.yaml:1: student: is missing, and it has no default"]


def test_a_look_alike_letter_is_no_letter_of_a_name(
    refusal_of_line: Callable[[int, str], list[str]],
) -> None:
    [line] = refusal_of_line(1, "name: t\u043ey")

    assert line.endswith("(it names a folder), but is 't\u043ey'")


def test_long_values_are_cut(refusal_of_line: Callable[[int, str], list[str]]) -> None:
    [line] = refusal_of_line(1, f"name: {'a' * 65}")

    assert line.endswith(f"but is '{'a' * 60}...'")


def test_a_message_never_shows_a_control_character_of_the_file(refusal: Callable[..., list[str]]) -> None:
    assert refusal('"\\e[31mred": 1\n') == ["x.yaml:1: a key must be plain text"]

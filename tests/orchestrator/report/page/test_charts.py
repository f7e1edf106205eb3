"""Inline drawings: every point inside, whatever the numbers."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.report.page.charts import Series, bar_chart, line_chart, scatter_chart

NUMBERS = st.floats(-1e12, 1e12) | st.just(math.nan) | st.just(math.inf)
POINTS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=30)


def coordinates(drawing: str) -> list[float]:
    root = ElementTree.fromstring(drawing)  # noqa: S314
    paths = [each.get("d", "") for each in root.iter("path")]
    numbers = [float(text) for path in paths for text in re.findall(r"-?[\d.]+", path)]
    return numbers + [float(each.get(key, "nan")) for each in root.iter("circle") for key in ("cx", "cy")]


@settings(max_examples=60, deadline=None)
@given(st.lists(POINTS, max_size=4))
def test_everything_is_drawn_inside(lists: list[list[tuple[float, float]]]) -> None:
    series = [Series(name="a < b & c", points=points) for points in lists]

    for draw in (line_chart, scatter_chart):
        drawing = draw(series, title="t", summary="s", x="epoch", y="value")
        assert all(0.0 <= number <= 640.0 for number in coordinates(drawing))


def test_a_long_line_is_thinned_but_keeps_its_end() -> None:
    series = Series(name="long", points=[(float(epoch), 1.0) for epoch in range(10_000)])

    assert len(series.drawn) <= 101
    assert series.drawn[-1] == (9999.0, 1.0)


def test_a_single_point_of_a_line_is_a_dot() -> None:
    drawing = line_chart([Series(name="one", points=[(1.0, 0.5)])], title="t", summary="s", x="x", y="y")

    assert drawing.count("<circle") == 1


def test_bars_are_as_long_as_their_values() -> None:
    drawing = bar_chart(
        [("a", [("best", 0.5)]), ("b", [("best", 1.0), ("plain", None)])], title="t", summary="s", top=1.0
    )

    widths = [float(each) for each in re.findall(r'width="([\d.]+)"', drawing)]
    assert len(widths) == 2
    assert widths[1] == 2 * widths[0]

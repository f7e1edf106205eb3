"""Line charts, scatter charts and bars as inline SVG: small, and readable by screen readers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.report.page.html import Html, join, tag

__all__ = ["Series", "bar_chart", "line_chart", "scatter_chart"]

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 44
_TICKS = 5
_BAR = 26
_LABEL = 190
_POINTS_OF_A_LINE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points that belong together."""

    name: str
    """What they are; shown when pointed at."""
    points: Sequence[tuple[float, float]]
    """x and y; what is not finite is left out."""
    style: str = "plain"
    """A class of the page's style sheet: best, plain, faint or front."""

    @property
    def drawn(self) -> list[tuple[float, float]]:
        """Finite points, thinned out where they would not be told apart."""
        finite = [each for each in self.points if all(map(math.isfinite, each))]
        step = max(1, math.ceil(len(finite) / _POINTS_OF_A_LINE))
        return finite[::-step][::-1] if finite else []


@dataclass(frozen=True, slots=True)
class _Axes:
    low: tuple[float, float]
    high: tuple[float, float]

    @classmethod
    def around(cls, series: Sequence[Series]) -> _Axes:
        points = [point for each in series for point in each.drawn] or [(0.0, 0.0)]
        xs, ys = zip(*points, strict=True)
        (left, right), (bottom, top) = _widen(min(xs), max(xs)), _widen(min(ys), max(ys))
        return cls((left, bottom), (right, top))

    def place(self, point: tuple[float, float]) -> tuple[float, float]:
        """Where a point lies in the drawing."""
        share = [
            (value - low) / (high - low) for value, low, high in zip(point, self.low, self.high, strict=True)
        ]
        return (
            _LEFT + share[0] * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - share[1] * (_HEIGHT - _TOP - _BOTTOM),
        )


def line_chart(series: Sequence[Series], *, title: str, summary: str, x: str, y: str) -> Html:
    """Lines over a common x; later series are drawn over earlier ones."""
    axes = _Axes.around(series)
    lines = (
        tag("path", tag("title", each.name), d=_path(axes, each.drawn), class_=f"line {each.style}")
        for each in series
        if each.drawn
    )
    dots = (_dot(axes, each.drawn[0], each) for each in series if len(each.drawn) == 1)
    return _drawing(join(_frame(axes, x, y), *lines, *dots), _HEIGHT, title, summary)


def scatter_chart(series: Sequence[Series], *, title: str, summary: str, x: str, y: str) -> Html:
    """Single points; those of style front are joined by a line too."""
    axes = _Axes.around(series)
    lines = (
        tag("path", d=_path(axes, sorted(each.drawn)), class_="line front")
        for each in series
        if each.style == "front"
    )
    dots = (_dot(axes, point, each) for each in series for point in each.drawn)
    return _drawing(join(_frame(axes, x, y), *lines, *dots), _HEIGHT, title, summary)


def bar_chart(
    groups: Sequence[tuple[str, Sequence[tuple[str, float | None]]]], *, title: str, summary: str, top: float
) -> Html:
    """A labelled group of bars per row, each with a style and a length from 0 to `top`."""
    rows, y = [], 4.0
    for label, bars in groups:
        height = (_BAR - 8) / max(len(bars), 1)
        rows.append(tag("text", label, x=_LABEL - 8, y=round(y + _BAR / 2, 1), text_anchor="end"))
        for index, (style, value) in enumerate(bars):
            if value is not None:
                rows.append(_bar(y + index * height, height, style, value, top))
        y += _BAR
    return _drawing(join(*rows), round(y + 4), title, summary)


def _bar(y: float, height: float, style: str, value: float, top: float) -> Html:
    length = max(value / top if top else 0.0, 0.0) * (_WIDTH - _LABEL - 60)
    end = round(_LABEL + length + 5, 1)
    return join(
        tag(
            "rect", x=_LABEL, y=round(y, 1), width=round(length, 1), height=round(height - 1, 1), class_=style
        ),
        tag("text", f"{value:.3g}", x=end, y=round(y + height - 2, 1), class_="small"),
    )


def _dot(axes: _Axes, point: tuple[float, float], series: Series) -> Html:
    x, y = axes.place(point)
    label = f"{series.name}: {point[0]:.4g}, {point[1]:.4g}"
    return tag("circle", tag("title", label), cx=round(x, 1), cy=round(y, 1), r=4, class_=series.style)


def _path(axes: _Axes, points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join("{:.1f} {:.1f}".format(*axes.place(point)) for point in points)


def _frame(axes: _Axes, x: str, y: str) -> Html:
    marks = []
    for value in _ticks(axes.low[0], axes.high[0]):
        at, _ = axes.place((value, axes.low[1]))
        marks.append(
            tag("text", f"{value:.4g}", x=round(at, 1), y=_HEIGHT - _BOTTOM + 18, text_anchor="middle")
        )
    for value in _ticks(axes.low[1], axes.high[1]):
        _, at = axes.place((axes.low[0], value))
        marks.append(
            tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=round(at, 1), y2=round(at, 1), class_="grid")
        )
        marks.append(tag("text", f"{value:.4g}", x=_LEFT - 6, y=round(at + 4, 1), text_anchor="end"))
    middle = (_HEIGHT - _BOTTOM + _TOP) / 2
    marks.append(tag("text", x, x=(_WIDTH + _LEFT) / 2, y=_HEIGHT - 6, text_anchor="middle"))
    marks.append(
        tag("text", y, x=12, y=middle, text_anchor="middle", transform=f"rotate(-90 12 {middle:.0f})")
    )
    return join(*marks)


def _drawing(inner: Html, height: float, title: str, summary: str) -> Html:
    svg = tag(
        "svg",
        tag("title", title),
        tag("desc", summary),
        inner,
        viewBox=f"0 0 {_WIDTH} {height}",
        role="img",
        aria_label=f"{title}: {summary}",
    )
    return tag("figure", svg, tag("figcaption", summary))


def _widen(low: float, high: float) -> tuple[float, float]:
    """Limits with some room, also around a single value."""
    room = (high - low) * 0.04 or abs(high) * 0.04 or 1.0
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between two limits."""
    raw = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step)
    return [round(index * step, 12) for index in range(first, math.floor(high / step) + 1)]

"""What sections are put together from."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.report.page.html import Content, Html, join, tag

__all__ = ["details", "facts", "section"]


def section(title: str, *content: Content) -> Html:
    """A part of the page with a heading."""
    return tag("section", tag("h2", title), *content)


def facts(facts: Mapping[str, Content]) -> Html:
    """Named values, one below the other."""
    pairs = (join(tag("dt", name), tag("dd", "-" if fact is None else fact)) for name, fact in facts.items())
    return tag("dl", *pairs)


def details(summary: str, content: Html) -> Html:
    """What is shown when somebody asks for it, and in print."""
    return tag("details", tag("summary", summary), content)

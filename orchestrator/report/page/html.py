"""HTML elements as text; whatever is put into one is escaped unless it is an element itself."""

from __future__ import annotations

from html import escape

__all__ = ["Html", "join", "table", "tag"]

_EMPTY = frozenset({"img", "input", "meta"})
_DRAWN = frozenset({"circle", "line", "path", "rect"})
"""Elements of a drawing, which end in themselves if nothing is in them."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = Html | str | int | float | None


def tag(name: str, /, *content: Content, **attributes: str | float | bool | None) -> Html:
    """An element. An attribute that ends in `_` stands for the name without it, `_` within for `-`.

    None leaves an attribute out, and True gives one without a value.
    """
    head = name + "".join(_attribute(key, value) for key, value in attributes.items())
    inner = join(*content)
    if not inner and name in _DRAWN:
        return Html(f"<{head}/>")
    return Html(f"<{head}>" if name in _EMPTY else f"<{head}>{inner}</{name}>")


def join(*content: Content) -> Html:
    """Elements and escaped text, one after the other."""
    return Html("".join(_text(each) for each in content if each is not None))


def table(
    headings: list[str], rows: list[list[Content]], caption: str, *, emphasise: int | None = None
) -> Html:
    """A table that scrolls sideways where it is too wide; numbers are what is aligned to the right.

    `emphasise` is the index of a row that is set in bold.
    """
    head = tag("tr", *(tag("th", heading, scope="col") for heading in headings))
    body = [
        tag("tr", *(_cell(each) for each in row), class_="best" if index == emphasise else None)
        for index, row in enumerate(rows)
    ]
    inner = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _cell(content: Content) -> Html:
    is_number = not isinstance(content, Html) and str(content)[:1] in "+-0123456789" and str(content) != ""
    return tag("td", content, class_="number" if is_number else None)


def _attribute(key: str, value: str | float | bool | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value), quote=True)}"'


def _text(content: Content) -> str:
    return content if isinstance(content, Html) else escape(str(content), quote=True)

"""Building blocks of a page: every text is escaped on its way in, nothing is loaded from anywhere."""

import base64
import html
import re
from collections.abc import Iterable, Sequence

from spd_lightning.report.stylesheet import STYLESHEET

MARKER = "<!-- written by spd_lightning.report -->"
"""Every page carries it, close to its start."""

# A browser that is handed a page with something smuggled in still loads and runs nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_WIDE = 1000
_VOID = frozenset({"img", "meta", "br"})
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Html(str):
    """Markup; any other string is text and gets escaped."""

    __slots__ = ()


def text(value: str) -> Html:
    """Text as markup: escaped, and without what no page can show (controls, halves of characters, turned direction)."""
    return value if isinstance(value, Html) else Html(html.escape(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value)))


def joined(parts: Iterable[str]) -> Html:
    """Parts one after the other; those that are not markup are escaped."""
    return Html("".join(text(part) for part in parts))


def element(tag: str, *children: str, **attributes: str) -> Html:
    """An element with escaped children and attributes.

    Args:
        tag: its name, a constant of ours.
        children: markup or text.
        attributes: by name; a trailing underscore is dropped (``class_``), others become dashes.
    """
    named = "".join(f' {name.rstrip("_").replace("_", "-")}="{text(value)}"' for name, value in attributes.items())
    return Html(f"<{tag}{named}>" if tag in _VOID else f"<{tag}{named}>{joined(children)}</{tag}>")


def table(
    label: str,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    needed: Sequence[str] = (),
    foot: Iterable[Sequence[str]] = (),
) -> Html:
    """A table that scrolls sideways where it is too wide; the first cell of each row is its heading.

    Args:
        label: what the table holds, read out instead of shown.
        header: names of the columns.
        rows: cells, as many per row as there are columns.
        needed: a second header line, the threshold of each column.
        foot: summary rows.
    """
    head = [element("tr", *(element("th", name, scope="col") for name in header))]
    if needed:
        head.append(element("tr", *(element("td", cell) for cell in needed), class_="needed"))
    sections = [element("thead", *head), element("tbody", *map(_row, rows))]
    closing = [_row(row) for row in foot]
    if closing:
        sections.append(element("tfoot", *closing))
    return element("div", element("table", *sections), class_="scroll", role="region", aria_label=label, tabindex="0")


def said(words: str, kind: str = "plain") -> Html:
    """A cell of words, which may wrap; ``kind`` is ``"good"``, ``"bad"`` or ``"plain"``."""
    return element("span", words, class_=f"said {kind}")


def _row(cells: Sequence[str]) -> Html:
    name = element("span", cells[0], class_="name")
    return element("tr", element("th", name, scope="row"), *(element("td", cell) for cell in cells[1:]))


def facts(pairs: Iterable[tuple[str, str]], kind: str = "short") -> Html:
    """Names and what is to be said of them: ``"short"`` values, or ``"words"``."""
    blocks = (element("div", element("dt", name), element("dd", value)) for name, value in pairs)
    return element("dl", *blocks, class_=kind)


def bullets(items: Iterable[str]) -> Html:
    """A list."""
    return element("ul", *(element("li", item) for item in items))


def folded(summary: str, *content: str) -> Html:
    """Content that opens on a click."""
    return element("details", element("summary", summary), *content)


def picture(
    content: bytes, size: tuple[int, int], title: str, caption: str = "", said: str = "", media: str = "image/png"
) -> Html:
    """A picture inside the page. As an image, an SVG runs nothing and loads nothing.

    Args:
        content: the file's content.
        size: width and height in pixels.
        title: its name.
        caption: what it shows, where that is not said elsewhere; a large picture of its own takes the whole width.
        said: what is seen in it, for those who do not see it.
        media: its type.
    """
    width, height = size
    source = f"data:{media};base64,{base64.b64encode(content).decode()}"
    image = element("img", src=source, alt=f"{title}: {said}" if said else title, width=str(width), height=str(height))
    said = element("figcaption", element("strong", title), *([". ", caption] if caption else []))
    return element("figure", image, said, class_="wide" if caption and width > _WIDE else "normal")


def section(heading: str, *content: str) -> Html:
    """A part of the page; nothing at all without content."""
    return element("section", element("h2", heading), *content) if any(content) else Html()


def document(title: str, *body: str) -> str:
    """The whole page.

    Args:
        title: of the window.
        body: markup or text.

    Returns:
        HTML that needs no other file.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(STYLESHEET)),
    )
    return f"<!doctype html>\n{MARKER}\n{element('html', head, element('body', element('main', *body)), lang='en')}\n"

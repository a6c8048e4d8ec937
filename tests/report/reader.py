"""A page as a browser would take it apart, held to what every page must be."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br"}
LOADING = {"src", "href", "srcset", "action", "data", "poster", "style", "background"}
CARDS = ("a", "href", "analysis/cards.html")
"""The one link out of a page."""


class Page(HTMLParser):
    """Tags, attributes and text of a page; refuses what is not balanced or could run or load anything."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open, self.texts, self.attributes, self.tables, self.images = [], [], [], [], []
        assert source.isprintable() or not set(source) & set(map(chr, [*range(9), *range(11, 32)]))
        self.feed(source)
        self.close()
        assert self.open == [], f"never closed: {self.open}"
        self.text = " ".join("".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "iframe", "object", "embed", "link", "base", "form", "svg"), tag
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in LOADING:
                within = value.startswith(("data:image/png;base64,", "#")) or (tag, name, value) == CARDS
                assert within or (tag == "img" and value.startswith("data:image/svg+xml;base64,")), value[:80]
        self.attributes += attrs
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            assert "url(" not in data
            assert "@import" not in data
            return
        self.texts.append(data + " ")
        if "table" in self.open and {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def table(self, *beginning: str) -> list[list[str]]:
        """The one table whose header begins so, without the header."""
        found = [table for table in self.tables if table[0][: len(beginning)] == list(beginning)]
        assert len(found) == 1, [table[0] for table in self.tables]
        return found[0][1:]

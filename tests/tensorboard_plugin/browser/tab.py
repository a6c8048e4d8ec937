"""The Components tab as a person meets it: what can be seen, clicked and typed."""

import re
import time
from contextlib import suppress
from urllib.parse import quote

PREFIX = "p.spd_components."
MOST_MS = 30_000
MINUS = "\N{MINUS SIGN}"
ROW = 28
"""Pixels of a row of a list."""
POINTED = """([across, down]) => {
  const canvas = document.querySelector('.stage canvas');
  const tip = document.querySelector('.stage .tip');
  const box = canvas.getBoundingClientRect();
  const found = new Map();
  for (let y = 36; y < box.height; y += down) for (let x = 60; x < box.width; x += across) {
    const at = { clientX: box.left + x, clientY: box.top + y, bubbles: true, pointerId: 1 };
    canvas.dispatchEvent(new PointerEvent('pointermove', at));
    if (!tip.hidden && !found.has(tip.textContent)) found.set(tip.textContent, [x, y]);
  }
  return Array.from(found);
}"""
SCROLLED = """async ([top, row]) => {
  const rows = document.querySelector('.rows');
  rows.scrollTop = top;
  for (let turn = 0; turn < 400; turn += 1) {
    await new Promise(done => setTimeout(done, 25));
    if (!document.querySelector('.row.waiting') && document.querySelector('.row')) break;
  }
  const box = rows.getBoundingClientRect();
  const isInSight = one => one.bottom > box.top + 1 && one.top < box.top + rows.clientHeight - 1;
  const shown = Array.from(document.querySelectorAll('.row'), one => [one.getBoundingClientRect(), one]);
  const inSight = shown.filter(([at]) => isInSight(at)).sort(([a], [b]) => a.top - b.top);
  const range = [Math.floor(rows.scrollTop / row), Math.floor((rows.scrollTop + rows.clientHeight - 2) / row)];
  return [...range, inSight.map(([, one]) => one.firstChild?.textContent)];
}"""


class Tab:
    """The tab inside TensorBoard's page.

    Args:
        page: where TensorBoard is open at the tab.
    """

    def __init__(self, page) -> None:
        self.page = page
        page.set_default_timeout(MOST_MS)
        page.frame_locator("iframe").locator("main[data-view]").wait_for()

    @property
    def frame(self):
        """The tab's part of the page, which TensorBoard may make anew."""
        found = [one for one in self.page.frames if "spd_components" in one.url and one != self.page.main_frame]
        return found[-1]

    @property
    def view(self) -> str:
        """The view that is shown."""
        return self.frame.locator("main").get_attribute("data-view")

    def open(self, run, view="overview", **state) -> None:
        """Go to an address, as a link does."""
        entries = {"run": run, "view": view, **state}
        pairs = (f"{quote(PREFIX + name)}={quote(str(value), safe='')}" for name, value in entries.items())
        address = "&".join(["spd_components", *pairs])
        self.page.evaluate("address => { location.hash = address }", address)
        self.shows(view)

    def shows(self, view) -> None:
        """Wait for a view."""
        self.frame.locator(f"main[data-view={view}]").wait_for()

    def press(self, *keys) -> None:
        """Keys, one after another."""
        for key in keys:
            self.page.keyboard.press(key)

    def find(self, selector, text=None):
        """What can be seen by a selector, and holds a text."""
        return self.frame.locator(selector).filter(visible=True, **({} if text is None else {"has_text": text}))

    def see(self, text, within="body", exact=False):
        """Wait until a text can be seen; the element that holds it."""
        found = self.frame.locator(within).get_by_text(text, exact=exact).filter(visible=True).first
        found.wait_for()
        return found

    def component(self, name) -> None:
        """Wait for the card of a component."""
        self.see(name, "h2", exact=True)

    def card(self, title):
        """A box by its heading."""
        heading = self.frame.get_by_role("heading", name=re.compile(f"^{title}"))
        found = self.frame.locator("section.card").filter(has=heading).first
        found.wait_for()
        return found

    def rows(self, count=None) -> list[list[str]]:
        """The texts of the cells of the rows in sight, once there are so many."""
        wanted = "some.length > 0" if count is None else f"some.length === {count}"
        self.eventually(f"() => (some => {wanted})(document.querySelectorAll('.row:not(.waiting)'))")
        return texts_of(self.frame.locator(".row"))

    def column(self, title, count=None) -> list[str]:
        """The texts of a column of the rows in sight, by its heading, once there are so many rows."""
        rows = self.rows(count)
        heads = self.frame.locator(".list-head > *").all_text_contents()
        (place,) = (at for at, head in enumerate(heads) if head.split(" ")[0] == title)
        return [row[place] for row in rows]

    def pointed(self, across, down) -> list[tuple[str, tuple[int, int]]]:
        """What a picture says wherever it is pointed at, so many pixels apart, with a place of each."""
        self.find(".stage canvas").wait_for()
        return [(text, tuple(at)) for text, at in self.frame.evaluate(POINTED, [across, down])]

    def scrolled(self, top) -> tuple[int, int, list[str]]:
        """Scroll a list: the first and last row that should be in sight, and the names of those that are."""
        return tuple(self.frame.evaluate(SCROLLED, [top, ROW]))

    def slide(self, label, value) -> None:
        """Move a slider and let it go."""
        slider = self.find(f"input[aria-label={label}]").first
        slider.fill(str(value))
        slider.dispatch_event("change")

    def until(self, condition) -> None:
        """Wait until a condition holds; what it raises while the page is being filled does not count."""
        end = time.monotonic() + MOST_MS / 1000
        while time.monotonic() < end:
            with suppress(AssertionError, ValueError, IndexError):
                if condition():
                    return
            self.page.wait_for_timeout(50)
        assert condition()

    def eventually(self, condition, *arguments) -> None:
        """Wait until a condition in JavaScript holds in the tab."""
        self.frame.wait_for_function(condition, arg=list(arguments), timeout=MOST_MS)


def texts_of(rows) -> list[list[str]]:
    """The texts of the cells of rows."""
    return rows.evaluate_all("rows => rows.map(row => Array.from(row.children, cell => cell.textContent))")


def numeric(text: str) -> float:
    """The number that a text begins with, as the tab writes numbers; a share for per cent."""
    plain = text.replace(MINUS, "-").replace("\u2009", "").strip()
    found = re.match(r"-?[\d.]+(e-?\d+)?", plain)
    assert found, text
    return float(found[0]) / (100 if plain[found.end() :].lstrip().startswith("%") else 1)

"""Cards of components and of mechanisms, on one page."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from spd_lightning.report import page
from spd_lightning.report.cards_data import CardsData, Key, Mechanism

SHOWN, WINDOWS, EXAMPLES = 300, 8, 4
"""Cards of either kind on a page, windows of a component, examples of a mechanism."""
MOST_CHARACTERS = 200
"""Of a token, a name or a label; the rest of a longer one is not shown."""
MEMBERS = 12
"""Of a mechanism, that are shown unfolded."""
SHADES = 8
_BARS = "▁▂▃▄▅▆▇█"


def cards_page(name: str, data: CardsData, shown: int = SHOWN) -> str:
    """A page of cards.

    Args:
        name: of the run.
        data: what is on them.
        shown: cards of either kind at most; of components those that are important most often.

    Returns:
        HTML, complete in itself.
    """
    rows = sorted(data.rows, key=lambda row: -row["density"])[:shown]
    anchors = {(row["call"], row["component"]): f"component-{number}" for number, row in enumerate(rows)}
    kept = {id(row) for row in rows}
    cards = [_component(row, data, anchors) for row in data.rows if id(row) in kept]
    groups = [_mechanism(group, data, anchors) for group in data.mechanisms[:shown]]
    return page.document(
        f"{name}: cards",
        page.element("h1", f"{name}: components"),
        _summary(data, len(rows), len(groups)),
        page.section("Mechanisms", *groups),
        page.section("Components", *cards),
        page.element("footer", "Made from the files of the run's analyses alone."),
    )


def _summary(data: CardsData, components: int, groups: int) -> page.Html:
    lines = [f"{components} of {len(data.rows)} components that are important anywhere"]
    if components < len(data.rows):
        lines[0] += ", those that are important most often"
    if data.mechanisms:
        lines.append(f"{groups} of {len(data.mechanisms)} mechanisms of several components")
    if data.labeller:
        lines.append(f"labels from {cut(data.labeller)}")
    found = data.intruders.get("score")
    if found:
        lines.append(
            f"intruder test: {found['share']:.0%} right of {found['count']} (95 % interval {found['low']:.0%} to "
            f"{found['high']:.0%}, chance {data.intruders['chance']:.0%}), judge: {cut(data.intruders['judge'])}"
        )
    if not any(place.get("tokens") for row in data.rows for place in row["places"]):
        return page.bullets(lines)
    note = "A component is more important on a token of a stronger shade; at an outlined one it is strongest."
    return page.joined([page.bullets(lines), page.element("p", note, class_="faint")])


def _component(row: Mapping[str, Any], data: CardsData, anchors: Mapping[Key, str]) -> page.Html:
    key = row["call"], row["component"]
    label = data.labels.get(key)
    parts = [page.element("h3", _name(key))]
    if label:
        parts.append(page.element("p", page.element("bdi", cut(label)), class_="label"))
    parts.append(page.facts(_facts(row)))
    for side, title in (("on", "Important on"), ("before", "Comes before")):
        if row.get(side):
            parts.append(_tokens(title, row[side]))
    for side, title in (("reads", "Reads of the input"), ("writes", "Writes to the output")):
        if row.get(side):
            parts.append(page.element("p", page.element("strong", f"{title}: "), *_ends(row[side])))
    if row.get("together"):
        parts.append(_together(row["together"], anchors))
    parts += _windows(row["places"][:WINDOWS])
    return page.element("article", *parts, class_="card", id=anchors[key])


def _facts(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = [("important at", f"{row['density']:.3%}")]
    if "mean_importance" in row:
        pairs.append(("mean importance", f"{row['mean_importance']:.3g}"))
    if "positive" in row:
        pairs.append(("inner activation above 0", f"{row['positive']:.0%}"))
    if "rms_inner" in row:
        pairs.append(("its size", f"{row['rms_inner']:.3g}"))
    if row.get("histogram"):
        pairs.append(("histogram of importance, 0 to 1", page.element("span", bars(row["histogram"]), class_="bars")))
    return pairs


def bars(counts: Sequence[int]) -> str:
    """Counts as a row of bars, on a scale of square roots, so that what is seldom is seen; nothing where none is."""
    most = max([*counts, 1])
    heights = (round((max(count, 0) / most) ** 0.5 * (len(_BARS) - 1)) for count in counts)
    return "".join(
        _BARS[height] if count > 0 else "\N{FIGURE SPACE}" for count, height in zip(counts, heights, strict=True)
    )


def _tokens(title: str, tokens: Iterable[Mapping[str, Any]]) -> page.Html:
    lines = [
        [
            shown_token(token["text"]) if "text" in token else f"token {token.get('token')}",
            *(f"{token[name]:.0%}" if name in token else "-" for name in ("precision", "recall")),
            f"{token['pmi']:.2f}" if "pmi" in token else "-",
        ]
        for token in tokens
    ]
    return page.table(title, [title, "of its firings", "of the token's", "PMI (nats)"], lines)


def _ends(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    shown: list[str] = []
    for entry in entries:
        name = shown_token(str(entry.get("name", entry.get("index", "?"))))
        shown += [", " if shown else "", page.element("bdi", name), f" {entry.get('weight', 0):.2f}"]
    return shown


def _together(partners: Iterable[Mapping[str, Any]], anchors: Mapping[Key, str]) -> page.Html:
    shown: list[str] = []
    for partner in partners:
        key = str(partner.get("site", "?")), int(partner.get("component", 0))
        shown += [", " if shown else "", _linked(key, anchors), f" ({partner.get('share', 0):.0%})"]
    words = page.element("strong", "Share of its firings with others: ")
    return page.element("p", words, *shown)


def _linked(key: Key, anchors: Mapping[Key, str]) -> page.Html:
    name = page.text(_name(key))
    return page.element("a", name, href=f"#{anchors[key]}") if key in anchors else name


def _windows(places: Iterable[Mapping[str, Any]]) -> list[page.Html]:
    """Windows of text with shaded tokens; examples by number where there is no text."""
    texts, examples = [], []
    for place in places:
        if place.get("tokens"):
            texts.append(page.element("p", *_shaded(place), class_="window"))
        else:
            examples.append(f"{place.get('example', place['document'])} ({place.get('inner', 0):.2f})")
    if examples:
        note = page.element("strong", "Strongest examples, with the inner activation: ")
        texts.append(page.element("p", note, ", ".join(examples)))
    return texts


def _shaded(place: Mapping[str, Any]) -> list[page.Html]:
    """Tokens, each in an element of its own that no direction of writing leaves; a shade says how important."""
    words = place.get("texts") or [f"{token} " for token in place["tokens"]]
    shown = []
    for index, (word, importance) in enumerate(zip(words, place["importances"], strict=True)):
        shade = round(min(max(importance, 0.0), 1.0) * SHADES)
        kind = f"shade-{shade}" + (" place" if index == place["at"] else "")
        shown.append(page.element("bdi", shown_token(word), class_=kind, title=f"{importance:.2f}"))
    return shown


def _mechanism(group: Mechanism, data: CardsData, anchors: Mapping[Key, str]) -> page.Html:
    members = [(site, number) for site, numbers in group.members.items() for number in numbers]
    pairs = [
        ("members", str(len(members))),
        ("important at", f"{group.share:.3%}"),
        ("members together", f"{group.coherence:.0%}"),
    ]
    chosen = set(members)
    rows = [row for row in data.rows if (row["call"].partition("@")[0], row["component"]) in chosen]
    places = [place for row in rows for place in row["places"]]
    best = sorted(places, key=lambda place: -abs(place.get("inner", 0) * place.get("importance", 0)))
    return page.element(
        "article",
        page.element("h3", f"Mechanism {group.number}"),
        page.facts(pairs),
        *_members(members, data, anchors),
        *_windows(_of_distinct_documents(best)[:EXAMPLES]),
        class_="card",
        id=f"mechanism-{group.number}",
    )


def _members(members: Sequence[Key], data: CardsData, anchors: Mapping[Key, str]) -> Iterator[page.Html]:
    """The first members with their labels; the others unfold."""
    yield page.element("p", *_named(members[:MEMBERS], data, anchors))
    if len(members) > MEMBERS:
        others = page.element("p", *_named(members[MEMBERS:], data, anchors))
        yield page.folded(f"{len(members) - MEMBERS} more", others)


def _named(members: Iterable[Key], data: CardsData, anchors: Mapping[Key, str]) -> Iterator[str]:
    for number, key in enumerate(members):
        label = data.labels.get(key)
        yield ", " if number else ""
        yield _linked(key, anchors)
        if label:
            yield from (" ", page.element("bdi", cut(label), class_="faint"))


def _of_distinct_documents(places: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    first: dict[int, Mapping[str, Any]] = {}
    for place in places:
        first.setdefault(place["document"], place)
    return list(first.values())


def _name(key: Key) -> str:
    return f"{cut(key[0])}:{key[1]}"


def shown_token(token: str) -> str:
    """A token with line breaks that can be seen, cut if it is long."""
    return cut(token.replace("\n", "↵").replace("\t", "⇥"))


def cut(text: str) -> str:
    """Text of at most 200 characters."""
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"

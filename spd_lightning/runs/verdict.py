"""Whether the known mechanisms were found: one rule for reports, tables and sweeps."""

from collections.abc import Iterator, Mapping

MIN_MMCS = 0.999
ML2R_RANGE = (0.97, 1.03)
MIN_PEARSON = 0.99
MAX_UNMASKED = 1e-5
RULE = (
    "no importance on a probe contradicts the expected pattern at the loosest tolerance, exactly as many components "
    f"are alive as there are mechanisms, MMCS is at least {MIN_MMCS}, ML2R within {ML2R_RANGE[0]}-{ML2R_RANGE[1]}, "
    "every known term has a component of cosine 0.99 at least, "
    f"the Pearson correlation of neuron contributions at least {MIN_PEARSON} (each where it applies), and the "
    f"unmasked distance from the target's output at most {MAX_UNMASKED:.0e}"
)
"""The rule in words."""

Scores = Mapping[str, float]


def known_sites(scores: Scores) -> list[str]:
    """Sites whose mechanisms are known, in the order of the scores."""
    parts = (name.split("/") for name in scores)
    return ["/".join(part[1:-1]) for part in parts if part[0] == "recovery" and part[-1] == "mechanisms"]


def pattern_contradictions(scores: Scores, site: str) -> tuple[str, list[tuple[str, int]]]:
    """The expected pattern of a site and how many importances contradict it.

    Args:
        scores: scores by name, without the stage.
        site: the site.

    Returns:
        ``"identity"``, ``"dense"`` or ``"term"`` and pairs of tolerance and count; ``"-"`` and nothing if it was not
        scored.
    """
    for kind in ("identity", "dense", "term"):
        counts = _counts(scores, f"recovery/{site}/{kind}_contradictions_")
        counts = counts or _counts(scores, f"recovery/{site}/{kind}_error_")  # their name until version 0.1
        if counts:
            return kind, sorted(counts, key=lambda count: float(count[0]))
    return "-", []


def _counts(scores: Scores, start: str) -> list[tuple[str, int]]:
    return [(name.removeprefix(start), int(score)) for name, score in scores.items() if name.startswith(start)]


def site_shortfalls(scores: Scores, site: str) -> list[str]:
    """What keeps a site from counting as recovered.

    Args:
        scores: scores by name, without the stage.
        site: a site with known mechanisms.

    Returns:
        One short phrase per broken rule, with the number that was reached; empty if the site is recovered.
    """
    _, counts = pattern_contradictions(scores, site)
    missing = [] if counts else ["importance pattern not scored"]
    missing += [f"{count} contradictions at {tolerance}" for tolerance, count in counts[-1:] if count]
    mechanisms = scores[f"recovery/{site}/mechanisms"]
    alive = scores.get(f"alive/{site}", mechanisms)
    if alive != mechanisms:
        missing.append(f"{alive:.0f} alive for {mechanisms:.0f} mechanisms")
    found = scores.get(f"recovery/{site}/terms_found", mechanisms)
    if found != mechanisms:
        missing.append(f"{found:.0f} of {mechanisms:.0f} terms found")
    return missing + list(_out_of_bounds(scores, site))


def _out_of_bounds(scores: Scores, site: str) -> Iterator[str]:
    bounds = {"mmcs": (MIN_MMCS, float("inf")), "ml2r": ML2R_RANGE, "pearson": (MIN_PEARSON, float("inf"))}
    names = {"mmcs": "MMCS", "ml2r": "ML2R", "pearson": "Pearson r"}
    for score, (low, high) in bounds.items():
        value = scores.get(f"recovery/{site}/{score}")
        if value is not None and not low <= value <= high:
            yield f"{names[score]} {value:.4f}"


def shortfalls(scores: Scores) -> list[str]:
    """What keeps a run from counting as recovered, site by site.

    Args:
        scores: scores by name, without the stage, as ``metrics.json`` holds them.

    Returns:
        One sentence per site that falls short, and one on the unmasked error; empty if all is found. A run that
        scored no mechanisms at all falls short, too.
    """
    sites = known_sites(scores)
    by_site = {site: site_shortfalls(scores, site) for site in sites}
    missing = [] if sites else ["no mechanisms were scored"]
    missing += [f"{site}: {', '.join(phrases)}" for site, phrases in by_site.items() if phrases]
    unmasked = scores.get("ablation/unmasked", 0.0)
    if not unmasked <= MAX_UNMASKED:
        missing.append(f"unmasked error {unmasked:.1e}")
    return missing

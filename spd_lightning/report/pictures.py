"""Pictures of a run directory, checked before they are shown, and what they show in plain words."""

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path

from spd_lightning.report import page
from spd_lightning.report.reading import inside
from spd_lightning.runs.analysis_files import FOLDER
from spd_lightning.runs.record import RunRecord

MAX_PICTURE = 8 * 2**20
"""Bytes of one picture."""
MAX_PIXELS = 10**8
MAX_PICTURES = 14 * 2**20
"""Bytes of all pictures of a page; in a page they take a third more."""

_VIEW_BOX = re.compile(rb'<svg [^>]*viewBox="0 0 (\d{1,6}(?:\.\d+)?) (\d{1,6}(?:\.\d+)?)"')
_DESCRIPTION = re.compile(rb"<dc:description>([^<]*)</dc:description>")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CAPTIONS = {
    "importance_heatmap": "Importance of each component in use (column, in the order of the features that they match) "
    "while one feature at a time is on (row). Where every feature has a component of its own, this is a bright "
    "diagonal and dark elsewhere.",
    "network_diagram": "The target as a network of nodes and weighted edges (dashed where negative), the sum of all "
    "components, and each component that is used. A component that is one mechanism carries one feature through and "
    "nothing else.",
    "component_vectors": "The target's own vectors, the sum of all components, and each component that is ever used. "
    "A component that is one mechanism carries one feature and nothing else.",
    "neuron_contributions": "How much each neuron contributes to the first features, in the target (above) and in the "
    "strongest component of each feature (below). The two halves look alike if the component is the mechanism.",
    "contribution_agreement": "The same contributions for every feature and neuron, component against target. On the "
    "dashed line the two agree.",
    "ablation_distances": "How far the output moves from the target's under each kind of mask; further left is better. "
    "The dashed line is what ablating everything costs: what there is to lose.",
    "sparsity_curve": "What the output loses as fewer components are kept: a mark per threshold of importance. Low and "
    "far to the left is better. A threshold is good where the curve has not yet risen.",
    "component_images": "The components that matter most, a row each: the read vector as an image, examples that it is "
    "important on with its importance, and what taking it away does to each output.",
    "single_ablations": "How much the output changes (colour) when one used component (column) is removed while one "
    "feature (row) is on.",
    "importance_histogram": "How often each importance occurs. A gate that is sure of itself says 0 or 1, seldom "
    "anything between; the older method says nothing else.",
    "scrubbing": "Error of the output when a random half of the components is ablated: with those spared that are "
    "important on the input (kept), and without exception (ablated). Kept should lie far to the left of ablated.",
    "importance_spectrum": "Mean importance of every component, sorted. A cliff parts the components in use from the "
    "rest.",
    "graphs": "What acts on an output, from the inputs through components. Edges are wider the more of it passes along "
    "them, and dashed where they lower what they lead to.",
    "circuits": "The components and positions that one output needs, with an adversary in the search and without.",
    "query_key": "What pairs of a query and a key component add to a head's score, by how far the key lies back.",
}


@dataclass(frozen=True)
class Picture:
    """A picture that was read whole.

    Attributes:
        name: of its file, without ending.
        content: of the file.
        size: width and height in pixels.
        said: what is seen in it, from the file itself; empty where that says nothing.
        media: its type.
    """

    name: str
    content: bytes
    size: tuple[int, int]
    said: str = ""
    media: str = "image/png"

    @property
    def title(self) -> str:
        """The name in words, without the stage."""
        stage, _, rest = self.name.partition("_")
        words = rest if stage in ("test", "val") and rest else self.name
        kind = next((kind for kind in _CAPTIONS if words.startswith(f"{kind}_")), None)
        if kind is not None:  # what follows is a site, written as it is
            return f"{kind.replace('_', ' ').capitalize()}, {words.removeprefix(f'{kind}_')}"
        return words.replace("_", " ").capitalize()

    @property
    def caption(self) -> str:
        """What it shows; empty for a picture of a kind that is not ours."""
        return next((caption for kind, caption in _CAPTIONS.items() if kind in self.name), "")

    def html(self) -> page.Html:
        """The picture with title and caption."""
        return page.picture(self.content, self.size, self.title, self.caption, self.said, self.media)


def pictures(
    record: RunRecord, budget: int = MAX_PICTURES, kinds: tuple[str, ...] = ("",), paths: Sequence[Path] | None = None
) -> tuple[list[Picture], list[str]]:
    """Read pictures of a run, in the order in which they are best looked at.

    Args:
        record: the run.
        budget: bytes of all pictures together.
        kinds: parts of names; a picture whose name contains none of them is not wanted.
        paths: of the pictures; the run's final ones by default.

    Returns:
        The pictures, and one sentence per picture that was left out.
    """
    found: list[Picture] = []
    left_out: list[str] = []
    wanted = [path for path in (record.figures if paths is None else paths) if any(kind in path.stem for kind in kinds)]
    for path in sorted(wanted, key=lambda path: (_rank(path.stem), path.name)):
        try:
            picture = _read(path, record.folder)
            if len(picture.content) > budget:
                raise ValueError("would make the page too large")
        except (OSError, ValueError, RuntimeError) as error:
            reason = error.strerror or "cannot be read" if isinstance(error, OSError) else str(error)
            left_out.append(f"{path.name} is left out: it {reason}.")
            continue
        budget -= len(picture.content)
        found.append(picture)
    return found, left_out


def _rank(name: str) -> int:
    kinds = list(_CAPTIONS)
    return next((place for place, kind in enumerate(kinds) if kind in name), len(kinds))


def _read(path: Path, folder: Path) -> Picture:
    if not inside(path, folder):
        raise ValueError("is a link that leads out of the run directory")
    if not path.is_file():
        raise ValueError("is not a file")
    if path.stat().st_size > MAX_PICTURE:
        raise ValueError(f"is larger than {MAX_PICTURE // 2**20} MB")
    content, name = path.read_bytes(), path.stem
    if path.parent.parent.name == FOLDER:
        name = f"{path.parent.name}_{name}"
    if path.suffix == ".svg":
        return Picture(name, content, svg_size(content), svg_description(content), "image/svg+xml")
    return Picture(name, content, png_size(content), png_description(content))


def svg_size(svg: bytes) -> tuple[int, int]:
    """Check that bytes begin and end as an SVG that declares nothing of its own.

    Args:
        svg: content of a file.

    Returns:
        Width and height of its view box.

    Raises:
        ValueError: if they are anything else, or a picture of more than :data:`MAX_PIXELS`.
    """
    found = _VIEW_BOX.search(svg[:4096])
    if found is None or not svg.rstrip().endswith(b"</svg>") or b"<!ENTITY" in svg:
        raise ValueError("is not a whole SVG")
    width, height = (round(float(number)) for number in found.groups())
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"has {width} x {height} pixels")
    return width, height


def svg_description(svg: bytes) -> str:
    """What an SVG says of itself; empty if nothing.

    Args:
        svg: content of a file.
    """
    found = _DESCRIPTION.search(svg)
    return "" if found is None else unescape(found[1].decode("utf-8", "replace"))


def png_description(png: bytes) -> str:
    """What a PNG says of itself under "Description"; empty if nothing.

    Args:
        png: content of a file.
    """
    for kind, content in _chunks(png):
        name, _, text = content.partition(b"\0")
        if name == b"Description" and kind == b"tEXt":
            return text.decode("latin-1")
        if name == b"Description" and kind == b"iTXt" and text.startswith(b"\0\0"):  # not compressed
            return text[2:].split(b"\0", 2)[-1].decode("utf-8", "replace")
    return ""


def png_size(png: bytes) -> tuple[int, int]:
    """Check that bytes are one whole PNG.

    Args:
        png: content of a file.

    Returns:
        Width and height in pixels.

    Raises:
        ValueError: if they are anything else, or a picture of more than :data:`MAX_PIXELS`.
    """
    chunks = list(_chunks(png))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13 or chunks[-1][0] != b"IEND":
        raise ValueError("is not a whole PNG")
    width, height = struct.unpack(">II", chunks[0][1][:8])
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"has {width} x {height} pixels")
    return width, height


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each part; ends early at the first one that is cut off or does not match its check sum."""
    if not png.startswith(_SIGNATURE):
        return
    place = len(_SIGNATURE)
    while place + 12 <= len(png):
        length = int.from_bytes(png[place : place + 4])
        part, check = png[place + 4 : place + 8 + length], png[place + 8 + length : place + 12 + length]
        if len(check) < 4 or zlib.crc32(part) != int.from_bytes(check):
            return
        yield part[:4], part[4:]
        place += 12 + length

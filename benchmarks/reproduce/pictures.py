"""Small copies of the pictures of runs, for the document."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image  # matplotlib needs it, too

from benchmarks.reproduce.results import Result, finished
from spd_lightning.files.whole import written_whole

PICTURES = "images/results"
WANTED = ("importance_heatmap", "contribution_agreement")
COLOURS, MAX_BYTES, SHRINK, MIN_WIDTH = 128, 100_000, 0.85, 200


def copy_pictures(results: Sequence[Result], output: Path) -> list[str]:
    """Copy the main pictures of a system's first finished run.

    Args:
        results: of the system.
        output: folder of the document.

    Returns:
        Paths from there.
    """
    names = []
    for result in finished(results)[:1]:
        found = {path.stem.removeprefix("test_").removeprefix("val_"): path for path in result.record.figures}
        for wanted in (name for name in WANTED if name in found):
            names.append(f"{PICTURES}/{result.run.system.name}_{wanted}.png")
            keep_small(found[wanted], output / names[-1])
    return names


def keep_small(source: Path, destination: Path) -> None:
    """Copy a picture with few colours, made smaller until it takes less than 100 kB."""
    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    content = _encoded(picture)
    while len(content) > MAX_BYTES and picture.width * SHRINK > MIN_WIDTH:
        size = int(picture.width * SHRINK), int(picture.height * SHRINK)
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        content = _encoded(picture)
    with written_whole(destination) as aside:
        aside.write_bytes(content)


def _encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()

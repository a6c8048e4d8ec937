"""The configs that come with the package."""

import re
from pathlib import Path
from textwrap import shorten

SWEEPS = "sweeps"
LONGEST = 120
"""Characters of a sentence that are listed."""
_PACKAGE = Path(__file__).resolve().parent.parent
_SENTENCE = re.compile(r".*?[.](?=\s|$)")


def shipped_configs() -> Path:
    """Their folder, installed or in a checkout."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def listing() -> str:
    """A line for each config that ``--config`` takes by name: the name, and the first sentence of its comment."""
    folder = shipped_configs()
    paths = sorted(path for path in folder.rglob("*.yaml") if folder / SWEEPS not in path.parents)
    ordered = sorted(paths, key=lambda path: (len(path.relative_to(folder).parts), path))
    names = [path.relative_to(folder).as_posix() for path in ordered]
    width = max(map(len, names), default=0)
    says = [shorten(first_sentence(path.read_text(encoding="utf-8")), LONGEST, placeholder=" ...") for path in ordered]
    return "".join(f"{name:{width}}  {said}\n" for name, said in zip(names, says, strict=True))


def first_sentence(text: str) -> str:
    """The first sentence of the comment that a config begins with; nothing if it begins with none."""
    words: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        words.append(line.lstrip("# ").rstrip())
    comment = " ".join(words)
    found = _SENTENCE.match(comment)
    return found[0] if found else comment

"""Trained targets, kept under a hash of what they are and how they were trained."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from spd_lightning.errors import UsageError
from spd_lightning.files.fingerprint import state_fingerprint
from spd_lightning.files.tensors import read_notes, read_safetensors
from spd_lightning.files.whole import cache_folder, made_by_one, written_whole

FORMAT = 1
DESCRIPTION, FINGERPRINT = "description", "fingerprint"


class TargetCache:
    """Tensors by description, safe when several processes ask at once: one makes them, the others wait.

    Args:
        folder: where files live; :func:`cache_folder` by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder or cache_folder()) / "targets"

    def path(self, description: dict[str, Any]) -> Path:
        """Where the tensors of a description are kept."""
        text = json.dumps({"format": FORMAT, **description}, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.safetensors"

    def get(self, description: dict[str, Any], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Read the tensors of a description, or make and keep them. A damaged file is made anew.

        Args:
            description: plain data that determines the tensors.
            make: makes them.

        Returns:
            Tensors by name.

        Raises:
            UsageError: if the folder cannot be written.
        """
        path = self.path(description)
        stated = json.dumps(description, sort_keys=True)
        with made_by_one(path):
            return self._read(path, stated) or self._make(path, stated, make)

    def _read(self, path: Path, stated: str) -> dict[str, Tensor] | None:
        """What is kept, unless a bit of it has changed since or it was kept under another name."""
        try:
            tensors, notes = read_safetensors(path, "cached target"), read_notes(path)
        except UsageError:
            return None
        recorded = notes.get(FINGERPRINT, "")  # earlier versions recorded none
        intact = not recorded or recorded == state_fingerprint(tensors)
        return tensors if intact and notes.get(DESCRIPTION, stated) == stated else None

    def _make(self, path: Path, stated: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        tensors = {name: tensor.clone().contiguous() for name, tensor in make().items()}
        with written_whole(path) as aside:
            save_file(tensors, aside, metadata={DESCRIPTION: stated, FINGERPRINT: state_fingerprint(tensors)})
        return tensors

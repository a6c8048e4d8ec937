"""Read and write vectors of components."""

import math
from typing import Any

import numpy as np

from spd_lightning.errors import UsageError
from spd_lightning.files.arrays import Array, ArrayFile
from spd_lightning.report.reading import mapping
from spd_lightning.tensorboard_plugin.answers import Arrays, Gone, Parameters
from spd_lightning.tensorboard_plugin.run_files import RunFiles
from spd_lightning.tensorboard_plugin.table import site_of, vector_name

MOST_READ = 64 * 2**20
"""Bytes of the vectors of one site that are read at once."""
_TINY = np.finfo(np.float32).tiny


def vectors(run: RunFiles, parameters: Parameters) -> Arrays:
    """The read vector of a component, of length 1, and its write vector times the length that it had.

    Parameters are ``call`` and ``component``. Arrays ``read``, ``[d_in]``, and ``write``, ``[d_out]``, float32. Of a
    component of higher rank, the pair that carries most.
    """
    site, number = site_of(parameters.text("call")), parameters.number("component")
    found = run.artefact()
    reads, writes = vector_name(site, "V"), vector_name(site, "U")
    if reads not in found or number >= found.shape(writes)[0]:
        raise Gone(f"components.safetensors has no component {number} of {site!r}")
    rank = 1 if len(found.shape(reads)) == 2 else int(found.shape(reads)[-1])
    read, write = _one(found, reads, writes, number) if len(found.shape(reads)) == 2 else _leading(
        found, reads, writes, number
    )
    length = float(np.linalg.norm(read.astype(np.float64)))
    read, write = read / max(length, _TINY), write * length
    shape = image_shape(run, site, len(read))
    about = {"rank": rank, "strength": float(np.linalg.norm(write.astype(np.float64))), "image": shape}
    return Arrays(about, {"read": read.astype(np.float32), "write": write.astype(np.float32)})


def _one(found: ArrayFile, reads: str, writes: str, number: int) -> tuple[Array, Array]:
    return found.column(reads, number), found.read(writes, number, 1)[0]


def _leading(found: ArrayFile, reads: str, writes: str, number: int) -> tuple[Array, Array]:
    """The leading singular pair of ``V[:, number] @ U[number]``."""
    if len(found.shape(reads)) != 3 or found.nbytes(reads) > MOST_READ:
        raise UsageError("the vectors of this site are too large to be read at once")
    V, U = found.read(reads)[:, number], found.read(writes, number, 1)[0]
    frame, rest = np.linalg.qr(V.astype(np.float64))
    left, values, right = np.linalg.svd(rest @ U, full_matrices=False)
    return frame @ left[:, 0] * values[0], right[0]


def whole(run: RunFiles, site: str) -> tuple[Array, Array]:
    """All read and write vectors of a site, ``[C, d_in]`` and ``[C, d_out]``, float32, for components of rank one.

    Raises:
        UsageError: if there are none, or too many.
    """
    found, names = run.artefact(), [vector_name(site, side) for side in "VU"]
    if any(name not in found or len(found.shape(name)) != 2 for name in names):
        raise UsageError(f"{run.id!r} has no rank-one components of {site!r}")
    if sum(map(found.nbytes, names)) > MOST_READ:
        raise UsageError(f"the vectors of {site!r} are more than {MOST_READ >> 20} MiB")
    V, U = (found.read(name).astype(np.float32) for name in names)
    if V.shape[1] != len(U):
        raise UsageError(f"the vectors of {site!r} do not belong together")
    return V.T, U


def image_shape(run: RunFiles, site: str, size: int) -> list[int] | None:
    """Height and width, where a site reads the pixels: the first one of a run with ``ComponentImages``."""
    callbacks: Any = mapping(run.record().config, "trainer").get("callbacks")
    for callback in callbacks if isinstance(callbacks, list) else []:
        shape = mapping(callback, "init_args").get("image_shape")
        named = isinstance(callback, dict) and str(callback.get("class_path", "")).endswith("ComponentImages")
        if named and isinstance(shape, list) and len(shape) == 2 and all(type(one) is int for one in shape):
            return shape if math.prod(shape) == size and site == next(iter(run.sites()), None) else None
    return None

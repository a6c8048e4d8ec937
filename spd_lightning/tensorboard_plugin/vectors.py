"""Read and write vectors of components."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from spd_lightning.errors import UsageError
from spd_lightning.files.arrays import Array, ArrayFile
from spd_lightning.report.reading import mapping
from spd_lightning.runs.analysis_files import fits
from spd_lightning.tensorboard_plugin.answers import Arrays, GoneError, MissingError, Parameters
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
    sides = _sides(run, site)
    if number >= sides.count:
        raise GoneError(f"components.safetensors has no component {number} of {site!r}")
    read, write = sides.one(number)
    length = float(np.linalg.norm(read.astype(np.float64)))
    read, write = read / max(length, _TINY), write * length
    strength = float(np.linalg.norm(write.astype(np.float64)))
    about = {"rank": sides.rank, "strength": strength, "image": image_shape(run, site, len(read))}
    return Arrays(about, {"read": read.astype(np.float32), "write": write.astype(np.float32)})


def whole(run: RunFiles, site: str) -> tuple[Array, Array]:
    """All read and write vectors of a site, ``[C, d_in]`` and ``[C, d_out]``, float32, for components of rank one.

    Raises:
        UsageError: if there are none, or too many.
    """
    sides = _sides(run, site)
    if sides.rank > 1:
        raise UsageError(f"{site!r} has components of higher rank; those of rank one are compared")
    V, U = (sides.read_whole(name).astype(np.float32) for name in sides.names)
    return (U, V.T) if sides.is_mirrored else (V.T, U)


@dataclass(frozen=True)
class _Sides:
    """Where the vectors of a site lie: ``V``, ``[d_in, C(, rank)]``, and ``U``, ``[C(, rank), d_out]``.

    Of a site that is tied to another as its transpose, they are the other's with the sides exchanged.
    """

    file: ArrayFile
    names: tuple[str, str]
    is_mirrored: bool

    @property
    def count(self) -> int:
        return self.file.shape(self.names[1])[0]

    @property
    def rank(self) -> int:
        shape = self.file.shape(self.names[0])
        return 1 if len(shape) == 2 else shape[2]

    def one(self, number: int) -> tuple[Array, Array]:
        """Read and write vector of a component, of its leading singular pair where it has several."""
        reads, writes = self.names
        U = self.file.read(writes, number, 1)[0]
        if len(self.file.shape(reads)) == 2:
            V = self.file.column(reads, number)
        else:
            frame, rest = np.linalg.qr(self.read_whole(reads)[:, number].astype(np.float64))
            left, values, right = np.linalg.svd(rest @ U, full_matrices=False)
            V, U = frame @ left[:, 0] * values[0], right[0]
        return (U, V) if self.is_mirrored else (V, U)

    def read_whole(self, name: str) -> Array:
        if self.file.nbytes(name) > MOST_READ:
            raise UsageError(f"{name!r} is more than the {MOST_READ >> 20} MiB that are read at once")
        return self.file.read(name)


def _sides(run: RunFiles, site: str) -> _Sides:
    """Where the vectors of a site lie.

    Raises:
        UsageError: if there are none of that form.
    """
    found = run.artefact()
    source = site if vector_name(site, "V") in found else run.ties().get(site, site)
    names = (vector_name(source, "V"), vector_name(source, "U"))
    if any(name not in found for name in names):
        raise GoneError(f"components.safetensors has no vectors of {site!r}")
    V, U = (found.shape(name) for name in names)
    if len(V) not in (2, 3) or V[1:] != U[:-1] or 0 in V or 0 in U:
        raise UsageError(f"the vectors of {site!r} do not belong together")
    if source != site and V[0] == U[-1]:
        raise MissingError(f"the vectors are those of {source!r}, read one way or the other: the matrix is square")
    return _Sides(found, names, source != site and run.sites()[site][1:] == (U[-1], V[0]))


def image_shape(run: RunFiles, site: str, size: int) -> list[int] | None:
    """Height and width, where a site reads the pixels: the first one of a run with ``ComponentImages``."""
    callbacks: Any = mapping(run.record().config, "trainer").get("callbacks")
    for callback in callbacks if isinstance(callbacks, list) else []:
        shape = mapping(callback, "init_args").get("image_shape")
        named = isinstance(callback, dict) and str(callback.get("class_path", "")).endswith("ComponentImages")
        if named and isinstance(shape, list) and len(shape) == 2 and fits(shape, [int]):
            return shape if math.prod(shape) == size and site == next(iter(run.sites()), None) else None
    return None

"""Random numbers keyed by what they are for, not by what was drawn before."""

import hashlib

import torch
from torch import Generator


def keyed_seed(*key: int | str) -> int:
    """Hash a key such as ``(seed, step, rank, "masks")`` to a 63-bit seed.

    Args:
        *key: integers and strings; every distinct tuple gives an unrelated seed (a number equals its digits).

    Returns:
        A seed that depends on nothing but the key, on every machine.
    """
    # escaped, so that ("a/b",) and ("a", "b") differ
    parts = [str(part).replace("\\", "\\\\").replace("/", "\\/") for part in key]
    digest = hashlib.blake2b("/".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def keyed_generator(*key: int | str, device: torch.device | str = "cpu") -> Generator:
    """A fresh generator seeded by :func:`keyed_seed`.

    A draw made with it can be repeated without replaying the draws before it. This is what makes a
    resumed run equal to an uninterrupted one, and evaluation unable to disturb training.

    Args:
        *key: see :func:`keyed_seed`.
        device: where the generator draws. Streams differ between device types.

    Returns:
        The generator.
    """
    return Generator(device=device).manual_seed(keyed_seed(*key))

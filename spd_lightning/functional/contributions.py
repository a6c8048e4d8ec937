"""Which neuron serves which feature, in the target and in single components (SPD paper, Figures 6, 7, 10 and 11)."""

import torch
from torch import Tensor

CHUNK = 2**22
"""Numbers of the largest intermediate tensor, 16 MB in single precision."""


def neuron_contributions(readout: Tensor, embedding: Tensor, reading: Tensor, writing: Tensor) -> Tensor:
    """How strongly every neuron of a layer carries a feature from the input to its own output.

    Neuron ``j`` reads feature ``i`` with ``W_in E[i]`` and adds to its output with ``readout[i] W_out``; the
    contribution is the product.

    Args:
        readout: how the stream is read off, ``[n_features, d_stream]``.
        embedding: how features are written on the stream, ``[n_features, d_stream]``.
        reading: weight of the layer that reads the stream, ``[d_mlp, d_stream]``.
        writing: weight of the layer that writes to it, ``[d_stream, d_mlp]``.

    Returns:
        ``[n_features, d_mlp]``.
    """
    return (readout @ writing) * (embedding @ reading.T)


def component_contributions(
    readout: Tensor, embedding: Tensor, read: Tensor, write: Tensor, writing: Tensor
) -> tuple[Tensor, Tensor]:
    """The same with a single component in place of the reading layer, for every feature the strongest one.

    The strongest is the component whose largest contribution over the neurons is largest, signs kept.

    Args:
        readout: ``[n_features, d_stream]``.
        embedding: ``[n_features, d_stream]``.
        read: ``V`` of the reading layer, ``[d_stream, C]``, or ``[d_stream, C, m]`` for components of any rank.
        write: its ``U``, ``[C, d_mlp]`` or ``[C, m, d_mlp]``.
        writing: the writing layer as the sum of its components, without delta, ``[d_stream, d_mlp]``.

    Returns:
        The strongest component's contributions ``[n_features, d_mlp]`` and its index ``[n_features]``.
    """
    read, write = with_rank(read, write)
    outgoing, inner = readout @ writing, torch.einsum("fd,dcm->fcm", embedding, read)
    rows = max(1, CHUNK // (write.shape[0] * write.shape[2]))  # only so many features of [n_features, C, d_mlp] at once
    pairs = zip(torch.split(outgoing, rows), torch.split(inner, rows), strict=True)
    strongest = torch.cat([_strongest(some, values, write) for some, values in pairs])
    chosen = inner[torch.arange(len(inner), device=inner.device), strongest]
    return outgoing * torch.einsum("fm,fmh->fh", chosen, write[strongest]), strongest


def with_rank(read: Tensor, write: Tensor) -> tuple[Tensor, Tensor]:
    """Components of rank one as such of any rank: ``[d_in, C, m]`` and ``[C, m, d_out]``, with ``m`` 1 for them."""
    return (read, write) if read.dim() == 3 else (read[..., None], write[:, None])


def _strongest(outgoing: Tensor, inner: Tensor, write: Tensor) -> Tensor:
    """Index of the component with the largest single contribution, ``[n_features]``."""
    return (outgoing[:, None] * torch.einsum("fcm,cmh->fch", inner, write)).amax(-1).argmax(-1)


def pearson(a: Tensor, b: Tensor) -> float:
    """Correlation of two tensors over all their entries, in double precision.

    Args:
        a: any shape.
        b: the same shape.

    Returns:
        Between -1 and 1; nan where it is not defined: one of them is constant, empty, or not finite somewhere.

    Raises:
        ValueError: if the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"a and b must have the same shape, got {list(a.shape)} and {list(b.shape)}")
    both = torch.stack([a.detach().flatten(), b.detach().flatten()]).double()
    # asked before centring: the mean of equal numbers is not always that number
    if not both.numel() or (both == both[:, :1]).all(dim=1).any():
        return float("nan")
    one, other = torch.nn.functional.normalize(both - both.mean(dim=1, keepdim=True), dim=1, eps=0)
    return float((one @ other).clamp(-1, 1))

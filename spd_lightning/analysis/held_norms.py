"""Norms that divide by a constant: what passes through them adds up."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, rms_norm
from torch.overrides import TorchFunctionMode


class HeldNorms(TorchFunctionMode):
    """Within this mode, no gradient passes through the scale of a layer norm or RMS norm; values stay the same (ours).

    A norm puts out the same if all that it reads grows. So to first order everything that acts through it cancels, and
    attributions would add up to nothing. With the scale held a norm is linear. Norms are known by
    ``torch.nn.functional``'s ``layer_norm`` and ``rms_norm``, and by ``rsqrt``, which norms written out use.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch; norms in another way."""
        kwargs = kwargs or {}
        if func in (torch.rsqrt, Tensor.rsqrt):
            return func(*args, **kwargs).detach()
        linear = _LINEAR.get(func)
        if linear is None:
            return func(*args, **kwargs)
        passed: Tensor = linear(*args, **kwargs)
        value: Tensor = func(*args, **kwargs)
        return value.detach() + (passed - passed.detach())  # to the last digit what the network computes


def _layer_norm(
    read: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    centred = read - read.mean(dims, keepdim=True)
    return _scaled(centred, dims, weight, eps)


def _rms_norm(
    read: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    return _scaled(read, dims, weight, torch.finfo(read.dtype).eps if eps is None else eps)


def _scaled(read: Tensor, dims: tuple[int, ...], weight: Tensor | None, eps: float) -> Tensor:
    scale = (read.detach().square().mean(dims, keepdim=True) + eps).rsqrt()
    return read * scale if weight is None else read * scale * weight


_LINEAR: Mapping[Any, Callable[..., Tensor]] = {layer_norm: _layer_norm, rms_norm: _rms_norm}

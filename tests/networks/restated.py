"""Masked networks once more, slowly and obviously: one position, one effective weight matrix at a time.

Nothing here imports the code under test. Modules of sites are found by path, what multiplies their matrix is written
out (one-hot vectors, patches), and the output is put in its place by a forward hook.
"""

import itertools

import torch
from torch import nn

from tests.reference import effective_weight


def rows_of(part, whole):
    """The rows that a part of a fused matrix names."""
    if part is None:
        return list(range(whole))
    if part in "qkv":
        third = whole // 3
        return list(range("qkv".index(part) * third, ("qkv".index(part) + 1) * third))
    return [row for piece in part.split(",") for row in range(*map(int, piece.split(":")))]


def matrix(module):
    """What the module multiplies by, ``[rows, d_in]``."""
    if isinstance(module, nn.Linear):
        return module.weight
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return module.weight.reshape(len(module.weight), -1)
    return module.weight.T  # an embedding, or GPT-2's Conv1D


def columns(module, x):
    """The vectors that are multiplied, ``[positions, d_in]``, and the leading dimensions of what comes out."""
    if isinstance(module, nn.Embedding):
        vectors = []
        for token in x.flatten().tolist():
            one = torch.zeros(len(module.weight), dtype=module.weight.dtype)
            one[token] = 1
            vectors.append(one)
        return torch.stack(vectors), x.shape
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return _patches(module, x)
    return x.reshape(-1, x.shape[-1]), x.shape[:-1]


def _patches(module, x):
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    sides = module._reversed_padding_repeated_twice if module.padding == "same" else None
    if sides is None:
        sides = [side for size in reversed(module.padding) for side in (size, size)]
    x = nn.functional.pad(x, list(sides), mode=mode)
    sizes = [
        (x.shape[2 + axis] - module.kernel_size[axis]) // module.stride[axis] + 1
        for axis in range(len(module.kernel_size))
    ]
    vectors = []
    for example in x:
        for place in itertools.product(*map(range, sizes)):
            window = [slice(p * s, p * s + k) for p, s, k in zip(place, module.stride, module.kernel_size, strict=True)]
            vectors.append(example[(slice(None), *window)].flatten())
    return torch.stack(vectors), (len(x), *sizes)


def masked_output(target, run, sites, masks):
    """The network's output with masked components in place of some matrices.

    ``sites`` maps names such as ``"h.0.c_attn[q]"`` to ``(V, U)``; ``masks`` maps calls, ``"f"`` or ``"f@1"``, to a
    mask ``[..., C]``, the delta component's mask ``[...]`` or None, and where the components run, or None.
    """
    counts, hooks = {}, []

    def replaced(path, names):
        def hook(module, args, output):
            index = counts.get(path, 0)
            counts[path] = index + 1
            return _output(module, args[0], output, _given(names, index))

        return hook

    def _given(names, index):
        found = {}
        for name, part in names:
            mask = masks.get(f"{name}@{index}", masks.get(name))
            if mask is not None:
                found[part] = (*sites[name], *mask)
        return found

    by_path = {}
    for name in sites:
        path, _, part = name.partition("[")
        by_path.setdefault(path, []).append((name, part.rstrip("]") or None))
    try:
        for path, names in by_path.items():
            hooks.append(target.get_submodule(path).register_forward_hook(replaced(path, names)))
        return run()
    finally:
        for hook in hooks:
            hook.remove()


def _output(module, x, own, given):
    if not given:
        return own
    W, bias = matrix(module), getattr(module, "bias", None)
    vectors, leading = columns(module, x)
    kind = next(iter(given.values()))[0].dtype
    W, vectors = W.to(kind), vectors.to(kind).clone()  # the network may write into what it has read
    channels_last = own.movedim(1, -1) if isinstance(module, nn.Conv1d | nn.Conv2d) else own
    result = channels_last.reshape(-1, len(W)).to(kind).clone()
    for part, (V, U, m, delta, routed) in given.items():
        rows = rows_of(part, len(W))
        m = m.expand(*leading, m.shape[-1]).reshape(-1, m.shape[-1])
        new = []
        for n, vector in enumerate(vectors):
            weight = effective_weight((W[rows], V, U), m[n], None if delta is None else delta.flatten()[n])
            put_out = weight @ vector + (0 if bias is None else bias[rows].to(kind))
            if routed is not None and not bool(routed.flatten()[n]):
                put_out = W[rows] @ vector + (0 if bias is None else bias[rows].to(kind))
            new.append(put_out)
        result = result.index_copy(1, torch.tensor(rows), torch.stack(new))
    result = result.reshape(*leading, len(W)).to(own.dtype)
    return result.movedim(-1, 1) if isinstance(module, nn.Conv1d | nn.Conv2d) else result

"""Networks of every shape that people bring: what each does is said in its class, how it is taken apart in ``ZOO``."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from spd_lightning import Unfused

VOCABULARY, WIDTH, POSITIONS, ROWS = 11, 8, 5, 4


class InPlaceResidual(nn.Module):
    """Adds to its stream in place; layers have no biases."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))

    def forward(self, x):
        h = self.a(x)
        h += self.b(h.relu())
        return self.c(h)


class InPlaceReLU(nn.Module):
    """Overwrites what a layer put out."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(WIDTH, WIDTH, bias=False), nn.ReLU(inplace=True), nn.Linear(WIDTH, WIDTH), nn.ReLU(inplace=True)
        )

    def forward(self, x):
        return self.body(x)


class OverwrittenInput(nn.Module):
    """Writes into what a layer has read, after it has read it."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x):
        h = self.a(x)
        update = self.b(h)
        h.mul_(0.5).add_(update)
        return self.c(h)


class PooledHead(nn.Module):
    """Token layers, then a head on the mean over positions."""

    def __init__(self):
        super().__init__()
        self.up, self.down, self.head = nn.Linear(WIDTH, 12), nn.Linear(12, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x):
        return self.head((x + self.down(F.gelu(self.up(x)))).mean(1))


class Attention(nn.Module):
    """Causal attention with a layer each for q, k, v and o."""

    def __init__(self, heads=2):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x):
        q, k, v = (p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(mixed.transpose(1, 2).flatten(2))


class TokenTransformer(nn.Module):
    """Begins with an embedding, ends with a head on the last token."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.attention = Attention()
        self.up, self.down = nn.Linear(WIDTH, 12), nn.Linear(12, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, ids):
        h = self.embed(ids)
        h = h + self.attention(self.norm(h))
        h = h + self.down(F.gelu(self.up(h)))
        return self.head(h[:, -1])


@dataclass
class Output(dict):
    """Like a ``ModelOutput``: a mapping with attributes."""

    logits: Tensor | None = None

    def __post_init__(self):
        self["logits"] = self.logits


class PaddedTagger(nn.Module):
    """Takes keyword arguments, ignores padding, and returns a ``ModelOutput``; a padded vocabulary has logits -inf."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 6)

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        mask = attention_mask[..., None].to(self.mix.weight)
        h = self.embed(input_ids)
        context = (self.mix(h) * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        logits = self.head((h + context).tanh())
        return Output(logits=logits.masked_fill(torch.arange(6, device=logits.device) == 5, -torch.inf))


class SharedLayer(nn.Module):
    """One layer that is called three times."""

    def __init__(self):
        super().__init__()
        self.f, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x):
        for _ in range(3):
            x = x + self.f(x).tanh()
        return self.head(x)


class TiedEmbedding(nn.Module):
    """The unembedding is the embedding's parameter."""

    def __init__(self):
        super().__init__()
        self.embed, self.mid = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.unembed = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.unembed.weight = self.embed.weight

    def forward(self, ids):
        h = self.embed(ids)
        return self.unembed(h + self.mid(h).relu())


class ConvolutionalNetwork(nn.Module):
    """Two convolutions with a stride and padding, then a linear head."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 5, 2, bias=False)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        h = F.relu(self.second(F.relu(self.first(x), inplace=True)), inplace=True)
        return self.head(h.flatten(2).mean(-1))


class Convolution1d(nn.Module):
    """A convolution along positions, padded as the framework sees fit."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv1d(3, 6, 3, padding="same", padding_mode="circular"), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.conv(x).relu().transpose(1, 2))


class WeightNorm(nn.Module):
    """A weight that is computed from others whenever it is asked for."""

    def __init__(self):
        super().__init__()
        self.body = nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH))
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        return self.head(self.body(x).relu())


class HalfPrecision(nn.Module):
    """An MLP whose weights are bfloat16."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 16), nn.Linear(16, WIDTH)
        self.bfloat16()

    def forward(self, x):
        return self.down(self.up(x.to(self.up.weight)).relu())


class TwoInputs(nn.Module):
    """Takes two tensors."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(3, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x, y):
        return self.head(self.left(x).relu() * self.right(y))


class FusedAttention(nn.Module):
    """One matrix for q, k and v; only some of its rows are decomposed."""

    def __init__(self):
        super().__init__()
        self.in_proj, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        q, k, v = self.in_proj(x).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v))


def _floats(*shape) -> Callable[[torch.Generator], Tensor]:
    return lambda generator: torch.randn(shape, generator=generator)


def _ids(*shape) -> Callable[[torch.Generator], Tensor]:
    return lambda generator: torch.randint(VOCABULARY, shape, generator=generator)


def _padded(generator) -> dict[str, Tensor]:
    mask = torch.arange(POSITIONS) < torch.tensor([5, 3, 1, 4])[:, None]
    ids = torch.randint(1, VOCABULARY, (ROWS, POSITIONS), generator=generator)
    return {"input_ids": ids * mask, "attention_mask": mask.long(), "labels": ids % 6}


class GPT2(nn.Module):
    """GPT-2 of random weights: ``Conv1D``, fused q k v, tied embeddings."""

    def __init__(self):
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        sizes = {"vocab_size": VOCABULARY, "n_positions": 16, "n_embd": WIDTH, "n_layer": 2, "n_head": 2}
        self.network = GPT2LMHeadModel(GPT2Config(**sizes, use_cache=False, bos_token_id=0, eos_token_id=0))

    def forward(self, input_ids, attention_mask=None):
        return self.network(input_ids=input_ids, attention_mask=attention_mask)


class Llama(nn.Module):
    """Llama of random weights; two heads share keys and values."""

    def __init__(self):
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM

        sizes = {"hidden_size": WIDTH, "intermediate_size": 12, "num_hidden_layers": 2, "max_position_embeddings": 16}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0}
        self.network = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **sizes, **heads, use_cache=False))

    def forward(self, input_ids, attention_mask=None):
        return self.network(input_ids=input_ids, attention_mask=attention_mask)


class Bert(nn.Module):
    """BERT of random weights."""

    def __init__(self):
        super().__init__()
        from transformers import BertConfig, BertForMaskedLM

        sizes = {"hidden_size": WIDTH, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
        self.network = BertForMaskedLM(BertConfig(vocab_size=VOCABULARY, **sizes, max_position_embeddings=16))

    def forward(self, input_ids, attention_mask=None):
        return self.network(input_ids=input_ids, attention_mask=attention_mask)


class Encoder(Unfused):
    """A ``TransformerEncoder`` in its unfused form."""

    def __init__(self):
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 12, batch_first=True)
        super().__init__(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


@dataclass
class Entry:
    """A network and how it is taken apart."""

    build: Callable[[], nn.Module]
    sites: dict[str, int]
    batch: Callable[[torch.Generator], Any]
    call: dict[str, Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)


HF_CALL = {
    "class_path": "KeywordCall",
    "init_args": {"inputs": ["input_ids", "attention_mask"], "weights": "attention_mask", "output": "logits"},
}
ZOO: dict[str, Entry] = {
    "in-place residual": Entry(InPlaceResidual, {"*": 5}, _floats(ROWS, WIDTH)),
    "in-place relu": Entry(InPlaceReLU, {"body.0": 5, "body.2": 6}, _floats(12, WIDTH)),
    "overwritten input": Entry(OverwrittenInput, {"*": 5}, _floats(ROWS, WIDTH)),
    "pooled head": Entry(PooledHead, {"*": 5}, _floats(ROWS, POSITIONS, WIDTH)),
    "token transformer": Entry(
        TokenTransformer,
        {"embed": 7, "attention.*": 5, "up": 6, "down": 6, "head": 5},
        _ids(ROWS, POSITIONS),
    ),
    "padded dictionary": Entry(PaddedTagger, {"*": 5}, _padded, options={"kl": True}),
    "gpt2": Entry(
        GPT2,
        {"*.c_attn[q]": 4, "*.c_attn[k]": 4, "*.c_attn[v]": 4, "*.attn.c_proj": 4, "*.mlp.*c_*": 5},
        _padded,
        HF_CALL,
    ),
    "llama": Entry(Llama, {"*_proj": 4}, _padded, HF_CALL),
    "bert": Entry(Bert, {"*.query": 4, "*.dense": 4, "*.value": 4}, _padded, HF_CALL),
    "shared layer": Entry(SharedLayer, {"*": 5}, _floats(ROWS, WIDTH)),
    "tied embedding": Entry(TiedEmbedding, {"*": 6}, _ids(ROWS, POSITIONS)),
    "transformer encoder": Entry(
        Encoder, {"*.layers.*.linear*": 5, "*.self_attn.*": 4}, _floats(ROWS, POSITIONS, WIDTH)
    ),
    "cnn": Entry(ConvolutionalNetwork, {"*": 6}, _floats(ROWS, 2, 7, 6)),
    "convolution in one dimension": Entry(Convolution1d, {"*": 5}, _floats(ROWS, 3, 6)),
    "weight norm": Entry(WeightNorm, {"body": 5, "head": 4}, _floats(ROWS, WIDTH)),
    "bfloat16": Entry(HalfPrecision, {"*": 6}, _floats(ROWS, WIDTH)),
    "two inputs": Entry(
        TwoInputs,
        {"*": 5},
        lambda g: (torch.randn(ROWS, WIDTH, generator=g), torch.randn(ROWS, 3, generator=g)),
        {"class_path": "PositionalCall", "init_args": {"inputs": [0, 1]}},
    ),
    "fused rows": Entry(FusedAttention, {"in_proj[q]": 5, "in_proj[10:14,18:21]": 4}, _floats(ROWS, POSITIONS, WIDTH)),
}


def network(name: str) -> nn.Module:
    """The network with fixed random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return ZOO[name].build().eval()


def example(name: str, seed: int = 0, double: bool = False) -> Any:
    """A batch for it."""
    batch = ZOO[name].batch(torch.Generator().manual_seed(seed))
    return _doubled(batch) if double else batch


def _doubled(batch: Any) -> Any:
    if isinstance(batch, Tensor):
        return batch.double() if batch.is_floating_point() else batch
    if isinstance(batch, dict):
        return {name: _doubled(part) for name, part in batch.items()}
    return tuple(map(_doubled, batch))

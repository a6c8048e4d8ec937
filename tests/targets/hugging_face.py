"""Tiny models of random weights in folders, as ``save_pretrained`` writes them."""

from pathlib import Path

import torch

VOCABULARY, WIDTH, POSITIONS = 320, 8, 16
_TOKENS = {"bos_token_id": 0, "eos_token_id": 0}
_SIZES = {
    "hidden_size": WIDTH,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": POSITIONS,
}
FAMILIES = {
    "gpt2": ("GPT2LMHeadModel", {"n_positions": POSITIONS, "n_embd": WIDTH, "n_layer": 2, "n_head": 2, **_TOKENS}),
    "gpt_neox": ("GPTNeoXForCausalLM", {**_SIZES, **_TOKENS}),
    "llama": ("LlamaForCausalLM", {**_SIZES, **_TOKENS, "num_key_value_heads": 1}),
    "qwen2": ("Qwen2ForCausalLM", {**_SIZES, **_TOKENS, "num_key_value_heads": 1, "tie_word_embeddings": True}),
    "bert": ("BertForMaskedLM", _SIZES),
}
SITES = {
    "gpt2": {"transformer.h.*.attn.c_attn[q]": 3, "transformer.h.*.mlp.c_*": 4},
    "gpt_neox": {"gpt_neox.layers.*.attention.dense": 3, "gpt_neox.layers.*.mlp.dense_*": 4},
    "llama": {"model.layers.*.self_attn.[qkvo]_proj": 3, "model.layers.*.mlp.*_proj": 4},
    "qwen2": {"model.layers.*.self_attn.q_proj": 3, "model.layers.*.mlp.down_proj": 4, "lm_head": 5},
    "bert": {"bert.encoder.layer.*.attention.self.query": 3, "bert.encoder.layer.*.intermediate.dense": 4},
}
"""Sites of attention and MLP in each family; of one also the unembedding, which is the embedding too."""


def built(family: str, cls: str | None = None) -> torch.nn.Module:
    """A model of a family, of another class of that family if one is named."""
    import transformers

    name, sizes = FAMILIES[family]
    model = getattr(transformers, cls or name)
    torch.manual_seed(3)
    return model(model.config_class(vocab_size=VOCABULARY, **sizes)).eval()


def saved(family: str, folder: Path, **options) -> str:
    """The folder of a saved model."""
    built(family, **options).save_pretrained(folder)
    return str(folder)

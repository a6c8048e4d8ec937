"""Language models of Hugging Face's ``transformers`` as targets."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from spd_lightning.errors import UsageError, check_choice, check_flag, check_text, missing_extra

DType = Literal["float32", "bfloat16", "float16"]
Attention = Literal["eager", "sdpa"]
Head = Literal["auto", "causal", "masked"]
HEADS = {"causal": "AutoModelForCausalLM", "masked": "AutoModelForMaskedLM"}
ENDINGS = {"causal": ("ForCausalLM", "LMHeadModel"), "masked": ("ForMaskedLM",)}
"""How the classes of models end that have each kind of head."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
)
"""Files that ``transformers`` keeps tokenizers in."""


class AdoptedModel(nn.Module):
    """A model of ``transformers`` whose modules keep their names.

    Args:
        network: the model. Its parts become this module's, so that both are the same weights.

    Raises:
        UsageError: if it holds weights outside of its parts.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if [*network.parameters(recurse=False), *network.buffers(recurse=False)]:
            kind = type(network).__name__
            raise UsageError(f"target: a {kind} holds weights outside of its modules; wrap it in a class of your own")
        for name, part in network.named_children():
            self.add_module(name, part)
        self._own_cache = getattr(network.config, "use_cache", True)
        network.config.use_cache = False  # type: ignore[union-attr] # a cache would be state between calls
        self._whole = (network,)  # a tuple hides it from nn.Module's registration
        self.eval()

    @property
    def config(self) -> Any:
        """The model's own config."""
        return self._whole[0].config

    def write(self, folder: Path) -> None:
        """Write the model as ``save_pretrained`` does, with the setting of its cache that it came with.

        Args:
            folder: an existing one.
        """
        network: Any = self._whole[0]
        before = network.config.use_cache
        network.config.use_cache = self._own_cache
        try:
            with _quietly():
                network.save_pretrained(folder)
        finally:
            network.config.use_cache = before

    def train(self, mode: bool = True) -> "AdoptedModel":
        """Set the mode of the model itself too."""
        self._whole[0].train(mode)
        return super().train(mode)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **options: Any) -> Any:
        """What the model returns for ``[rows, positions]`` tokens: a ``ModelOutput`` with ``logits``."""
        return self._whole[0](input_ids=input_ids, attention_mask=attention_mask, **options)


class HuggingFaceModel(AdoptedModel):
    """A trained language model from a folder, as ``save_pretrained`` writes it.

    Its sites have the model's own names, such as ``transformer.h.0.mlp.c_fc``. Weights are read from safetensors alone,
    and no code of the folder's is run.

    Args:
        path: the folder; or a name on the Hugging Face hub, if it was downloaded before or ``allow_download`` is set.
        revision: branch, tag or commit, of a name on the hub.
        dtype: of the weights.
        attention: how attention is computed.
        head: what the model predicts, the next token (``causal``) or hidden ones (``masked``); ``auto`` for what the
            folder's config says.
        allow_download: whether a name on the hub may be downloaded. Checkpoints and artefacts do not keep it.

    Raises:
        UsageError: if there is no such model, it cannot be read, or it has no weights for such a head.
    """

    def __init__(
        self,
        path: str,
        revision: str | None = None,
        dtype: DType = "float32",
        attention: Attention = "eager",
        head: Head = "auto",
        allow_download: bool = False,
    ) -> None:
        check_text("target: path", path)
        if revision is not None:
            check_text("target: revision", revision)
        check_choice("target: dtype", dtype, get_args(DType))
        check_choice("target: attention", attention, get_args(Attention))
        check_choice("target: head", head, get_args(Head))
        check_flag("target: allow_download", allow_download)
        transformers_library()  # its lack is told before anything else
        where = {"revision": revision, "local_files_only": not allow_download, "trust_remote_code": False}
        config = _config(path, where)
        kind = _head_of(config, path) if head == "auto" else head
        options = {"dtype": getattr(torch, dtype), "attn_implementation": attention, "use_safetensors": True}
        super().__init__(_model(path, HEADS[kind], {**where, **options, "config": config}))
        self.path, self.revision, self.dtype, self.attention, self.head = path, revision, dtype, attention, head

    def write(self, folder: Path) -> None:
        """See :meth:`AdoptedModel.write`; with the files of the model's tokenizer, where it has one."""
        super().write(folder)
        where = {"revision": self.revision, "local_files_only": True}
        for name in TOKENIZER_FILES:
            found = _cached(self.path, name, where)
            if found is not None:
                shutil.copyfile(found, folder / name)


def _cached(path: str, name: str, where: dict[str, Any]) -> str | None:
    """A file of a model's folder, or of a model that was downloaded; ``None`` if it is not there."""
    try:
        found: str | None = transformers_library().utils.cached_file(path, name, **where)
    except OSError:
        return None
    return found


def transformers_library() -> Any:
    """The package ``transformers``, or a :class:`UsageError` that says how to get it."""
    try:
        import transformers
    except ImportError:
        raise missing_extra("target: a language model", "transformers", "lm") from None
    return transformers


@contextmanager
def _quietly() -> Iterator[Any]:
    """Load without reports, and without bars where nobody looks: what is wrong is told here, in one line."""
    library = transformers_library()
    logging = library.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield library
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _config(path: str, where: dict[str, Any]) -> Any:
    if os.path.isdir(path) and not os.path.isfile(os.path.join(path, "config.json")):
        raise UsageError(f"target: path: {path!r} holds no config.json; name a folder that save_pretrained wrote")
    try:
        with _quietly() as library:
            return library.AutoConfig.from_pretrained(path, **where)
    except UsageError:
        raise
    except Exception as error:  # a folder, a name and a network may fail in any way
        raise _unreadable(path, error, where) from None


def _head_of(config: Any, path: str) -> str:
    """What the model's class predicts, by its name."""
    (name,) = (list(config.architectures or []) or ["no class"])[:1]
    found = next((kind for kind, endings in ENDINGS.items() if str(name).endswith(endings)), None)
    if found is None:
        raise UsageError(
            f"target: head: {path!r} holds {name}, which has no logits of tokens; set head to causal or masked if it "
            "has the weights of one, or name another folder"
        )
    return found


def _model(path: str, auto: str, options: dict[str, Any]) -> nn.Module:
    try:
        with _quietly() as library:
            network, told = getattr(library, auto).from_pretrained(path, output_loading_info=True, **options)
    except Exception as error:
        raise _unreadable(path, error, options) from None
    if told["missing_keys"]:
        missing = sorted(told["missing_keys"])[0]
        raise UsageError(f"target: head: {path!r} holds no weights for {missing!r}; choose another head or folder")
    model: nn.Module = network
    return model


def _unreadable(path: str, error: Exception, where: dict[str, Any]) -> UsageError:
    reason = " ".join(str(error).split())[:200]
    if os.path.isdir(path):
        return UsageError(f"target: path: {path!r} holds no model that can be read as data ({reason})")
    if where["local_files_only"]:
        return UsageError(
            f"target: path: {path[:200]!r} is no folder, and no model of that name was downloaded before; name a "
            "folder, or set allow_download: true for a name on the Hugging Face hub"
        )
    return UsageError(f"target: path: {path[:200]!r} cannot be had ({reason}); check the name, or name a folder")

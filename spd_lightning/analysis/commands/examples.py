"""What is looked at: prompts as tokens, or examples of a run's data by number."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from spd_lightning.analysis.examples import example_of, has_rows
from spd_lightning.analysis.harvest import TOKENS
from spd_lightning.errors import UsageError
from spd_lightning.model.call import rows_of
from spd_lightning.runs.reopened import Reopened


def whole_numbers(flag: str, text: str) -> list[int]:
    """``N[,N...]`` as numbers.

    Raises:
        UsageError: for anything else.
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"{flag} must be N[,N...], whole numbers from 0, got {text!r}")
    return [int(part) for part in parts]


def prompts(texts: Sequence[str], found: Reopened) -> tuple[dict[str, Tensor], list[str]]:
    """Prompts as a batch.

    Args:
        texts: the prompts.
        found: the run, whose data has a tokenizer.

    Returns:
        Tokens ``[rows, positions]`` and their attention mask, and of every position what the first prompt has there.

    Raises:
        UsageError: for a run without a tokenizer, and prompts without tokens, of several lengths, or such that the
            network cannot take them.
    """
    tokenizer = _tokenizer("--text", found.tokenizer)
    encoded = [_encoded("--text", text, tokenizer) for text in texts]
    lengths = sorted({len(tokens) for tokens in encoded})
    if lengths[0] == 0:
        raise UsageError("--text must have at least one token, got none; write something")
    if len(lengths) > 1:
        raise UsageError(f"--text: prompts must have the same number of tokens, got {lengths}; make them equal")
    most = _positions(found.model.target)
    if most is not None and lengths[0] > most:
        raise UsageError(f"--text has {lengths[0]} tokens, but the target takes {most}; shorten it")
    ids = torch.tensor(encoded)
    batch = {TOKENS: ids, "attention_mask": torch.ones_like(ids)}
    try:
        found.model.clean(batch)
    except (IndexError, RuntimeError) as error:  # what networks raise for positions or tokens that they do not have
        reason = " ".join(str(error).split())[:120]
        raise UsageError(f"--text: the target cannot take these {ids.shape[1]} tokens ({reason})") from None
    return batch, [tokenizer.decode([token]) for token in encoded[0]]


def _encoded(flag: str, text: str, tokenizer: Any) -> list[int]:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{flag}: {text!r} is no text in Unicode") from None
    return list(map(int, tokenizer.encode([text])[0]))


def _positions(target: Any) -> int | None:
    """The most tokens that a target takes, if it says so."""
    named = getattr(getattr(target, "config", None), "max_position_embeddings", None), getattr(target, "length", None)
    return next((number for number in named if isinstance(number, int)), None)


def one_token(text: str, tokenizer: Any) -> int:
    """The number of a token.

    Raises:
        UsageError: for text that is no token, or several.
    """
    tokenizer = _tokenizer("--next", tokenizer)
    tokens = _encoded("--next", text, tokenizer)
    parts = [tokenizer.decode([token]) for token in tokens]
    if len(parts) != 1 or parts[0].strip() != text.strip():
        made = " ".join(map(repr, parts)) or "nothing"
        raise UsageError(f"--next must be one token of the vocabulary, got {text!r}, which is {made} there")
    return tokens[0]


def _tokenizer(flag: str, tokenizer: Any) -> Any:
    if tokenizer is None:
        raise UsageError(
            f"{flag} needs a run whose data has a tokenizer; give --example, and numbers in place of tokens"
        )
    return tokenizer


def picked(batches: Iterable[Any], numbers: Sequence[int]) -> Any:
    """Some examples of the data as one batch, in the order asked for.

    Args:
        batches: in their order.
        numbers: of the examples, from 0.

    Returns:
        A batch as the data gives them; what is no tensor with a row for each example is as in the batch of the
        first one asked for.

    Raises:
        UsageError: for a number that the data does not have.
    """
    found: dict[int, tuple[Any, Any]] = {}
    first = 0
    for batch in batches:
        rows = rows_of(batch) or 0
        for number in {*numbers} - {*found}:
            if first <= number < first + rows:
                found[number] = example_of(batch, number - first), has_rows(batch)
        first += rows
        if len(found) == len({*numbers}):
            break
    missing = [number for number in numbers if number not in found]
    if missing:
        raise UsageError(f"--example {missing[0]} does not exist; the run's test data has {first}, from 0")
    examples, rowed = zip(*(found[number] for number in numbers), strict=True)
    every = tree_map(lambda *each: all(each), *rowed)  # in a short last batch a part may seem to have rows
    return tree_map(lambda split, *parts: torch.cat(parts) if split else parts[0], every, *examples)

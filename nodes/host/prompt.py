"""Learned vectors in the conditioning of ComfyUI's text encoders."""

from __future__ import annotations

from typing import Any

from comfy.sd1_clip import escape_important, token_weights, unescape_important
from torch import Tensor


def encode_with_vectors(clip: Any, vectors: dict[str, Tensor], before: str, after: str) -> list:
    """The conditioning of a text with learned vectors [n, d], by encoder (clip_l, ...), between two parts of it.
    Weights are written as in core, (word:1.2)."""
    if "embedding:" in before + after:
        raise ValueError("embedding: does not work here: load the file with this node, or use a CLIP Text Encode node.")
    tokens = {}
    for name in clip.tokenize(""):
        tokenizer = getattr(clip.tokenizer, f"clip_{name}", None)
        if tokenizer is None:
            raise ValueError(f"This text encoder has a part {name}; removal prompts are for SD 1.5, SD 2 and SDXL.")
        learned = vectors.get(tokenizer.embedding_key)
        if vectors and learned is None:
            raise ValueError(
                f"The prompt has vectors for {', '.join(vectors)} and this text encoder asks for "
                f"{tokenizer.embedding_key}: the prompt was made for another model family, load one made for this one."
            )
        if learned is not None and learned.shape[1] != tokenizer.embedding_size:
            raise ValueError(
                f"The prompt's vectors for {tokenizer.embedding_key} are {learned.shape[1]} wide and this text encoder's "
                f"{tokenizer.embedding_size}: the prompt was made for another model, load one made for this one."
            )
        vector = [] if learned is None else [(row, 1.0) for row in learned.float()]
        inner = [*weighted_tokens(tokenizer, before), *vector, *weighted_tokens(tokenizer, after)]
        room = tokenizer.max_length - 2
        if len(inner) > room:
            raise ValueError(f"The prompt takes {len(inner)} tokens, expected at most {room}: leave words out.")
        row = [(tokenizer.start_token, 1.0), *inner, (tokenizer.end_token, 1.0)]
        row += [(tokenizer.pad_token, 1.0)] * (tokenizer.max_length - len(row))
        tokens[name] = [row]
    return clip.encode_from_tokens_scheduled(tokens)


def weighted_tokens(tokenizer: Any, text: str) -> list[tuple[int, float]]:
    return [
        (token, weight)
        for part, weight in token_weights(escape_important(text), 1.0)
        for token in tokenizer.tokenizer(unescape_important(part))["input_ids"][1:-1]
    ]

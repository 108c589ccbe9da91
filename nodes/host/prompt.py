"""Learned vectors in the conditioning of ComfyUI's text encoders."""

from __future__ import annotations

from typing import Any

import folder_paths
from torch import Tensor


def embedding_files() -> list[str]:
    """The .safetensors files in models/embeddings, those that come with the pack among them."""
    return [name for name in folder_paths.get_filename_list("embeddings") if name.endswith(".safetensors")]


def embedding_path(name: str) -> str:
    return folder_paths.get_full_path_or_raise("embeddings", name)


def encode_with_vectors(clip: Any, vectors: dict[str, Tensor], before: str, after: str) -> list:
    """The conditioning of a text with learned vectors [n, d], by encoder (clip_l, ...), between two parts of it."""
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
        words = [tokenizer.tokenizer(text)["input_ids"][1:-1] for text in (before, after)]
        inner = [*words[0], *([] if learned is None else learned.float()), *words[1]]
        room = tokenizer.max_length - 2
        if len(inner) > room:
            raise ValueError(f"The prompt takes {len(inner)} tokens, expected at most {room}: leave words out.")
        row = [tokenizer.start_token, *inner, tokenizer.end_token]
        row += [tokenizer.pad_token] * (tokenizer.max_length - len(row))
        tokens[name] = [[(token, 1.0) for token in row]]
    return clip.encode_from_tokens_scheduled(tokens)

"""Removal prompts on disk: vectors that stand in for a word of a text encoder (LRNR's P_rmv, PowerPaint's task tokens).

Written as the embedding files that ComfyUI loads by `embedding:name`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from .files import read_safetensors, write_safetensors
from .header import Header, WithHeader

ENCODERS = ("clip_l", "clip_g", "clip_h")
POWERPAINT = "token_embedding.trainable_embeddings."
"""In PowerPaint's text encoder: the ten vectors each of P_ctxt, P_shape and P_obj."""


@dataclass(frozen=True)
class RemovalPrompt(WithHeader):
    """A learned prompt.

    Attributes:
        vectors: [n, d] by text encoder: clip_l and, for SDXL, clip_g.
        enhancers: the words that it was trained beside (LRNR's P_enh).
        prompt_first: whether it stands before these words.
        metadata: the file's header.
        negative: vectors to keep away from, where the file has them (PowerPaint's P_obj).
    """

    vectors: dict[str, Tensor]
    enhancers: tuple[str, ...] = ()
    prompt_first: bool = True
    metadata: dict[str, str] = field(default_factory=dict)
    negative: dict[str, Tensor] = field(default_factory=dict)


def load(path: Path) -> RemovalPrompt:
    """Read a removal prompt: ours, any embedding file of SD 1.5 and SDXL, or PowerPaint's text encoder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no safetensors file, or holds no prompt; the message says what it holds.
    """
    tensors, metadata = read_safetensors(path)
    tasks = {key.rpartition(POWERPAINT)[2]: value for key, value in tensors.items() if POWERPAINT in key}
    if {"P_ctxt", "P_obj"} <= tasks.keys():
        # PowerPaint's removal prompt: the context token for, the object token against.
        vectors, negative = {"clip_l": tasks["P_ctxt"]}, {"clip_l": tasks["P_obj"]}
        return RemovalPrompt(vectors, ("empty scene blur",), False, metadata, negative)
    vectors = {name: tensors[name] for name in ENCODERS if name in tensors}
    if not vectors and len(tensors) == 1:
        vectors = {"clip_l": next(iter(tensors.values()))}
    if not vectors or any(value.ndim != 2 for value in vectors.values()):
        held = ", ".join(f"{key} {list(value.shape)}" for key, value in list(tensors.items())[:3])
        raise ValueError(
            f"{path.name} holds {len(tensors)} tensors ({held}{', ...' if len(tensors) > 3 else ''}), expected the vectors "
            "[n, width] of a prompt under clip_l and clip_g: give an embedding file."
        )
    header = Header(metadata)
    return RemovalPrompt(vectors, header.enhancers, header.prompt_first, metadata)


def save(path: Path, prompt: RemovalPrompt) -> None:
    """Write a removal prompt, all of it or nothing."""
    header = {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.0",
        "unclutter.kind": "prompt",
        **prompt.metadata,
        "unclutter.enhancers": json.dumps(prompt.enhancers),
        "unclutter.prompt_first": str(prompt.prompt_first).lower(),
    }
    write_safetensors(path, prompt.vectors, header)

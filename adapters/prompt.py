"""Removal prompts on disk: vectors that stand in for a word of a text encoder (LRNR's P_rmv, PowerPaint's task tokens).

Written as the embedding files that ComfyUI loads by `embedding:name`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from .files import (
    check_choice,
    check_numbers,
    json_value,
    read_safetensors,
    tensors_of,
    unpickle,
    write_safetensors,
)
from .header import Header, WithHeader

ENCODERS = ("clip_l", "clip_g", "clip_h")
POWERPAINT = "token_embedding.trainable_embeddings."
"""In PowerPaint's text encoder: the ten vectors each of P_ctxt, P_shape and P_obj."""
VOCABULARY = "text_model.embeddings.token_embedding.weight"
"""In a text encoder whose vocabulary these have been merged into: one row for each token, theirs last."""
CLIP_WORDS = 49408
"""Of CLIP's own vocabulary."""
ADDED = "added_tokens.json"
"""Says which rows a tokenizer's added words are."""
CONDITION_IMAGES = ("full", "masked grey", "masked black")
POWERPAINTS = {"unclutter.method": "powerpaint", "unclutter.condition_image": "masked grey", "unclutter.guidance": "10"}
"""The condition image of its inference code, and the guidance that its authors advise for removal."""


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
    tensors, metadata = read(path)
    for key, choices in (("condition_image", CONDITION_IMAGES), ("mask_pooling", ("max", "nearest", "none"))):
        check_choice(path, metadata, f"unclutter.{key}", choices)
    if tasks := powerpaint(path, tensors):
        check_numbers(path.name, tasks)
        # PowerPaint's removal prompt: the context token for, the object token against.
        vectors, negative = {"clip_l": tasks["P_ctxt"]}, {"clip_l": tasks["P_obj"]}
        return RemovalPrompt(vectors, ("empty scene blur",), False, {**metadata, **POWERPAINTS}, negative)
    vectors = {name: tensors[name] for name in ENCODERS if name in tensors}
    if not vectors and len(tensors) == 1:
        vectors = {"clip_l": next(iter(tensors.values()))}
    if not vectors or not all(map(is_prompt, vectors.values())):
        held = ", ".join(f"{key} {list(value.shape)}" for key, value in list(tensors.items())[:3])
        raise ValueError(
            f"{path.name} holds {len(tensors)} tensors ({held}{', ...' if len(tensors) > 3 else ''}), expected the vectors "
            "[n, width] of a prompt under clip_l and clip_g: give an embedding file."
        )
    check_numbers(path.name, vectors)
    stated = f"unclutter.enhancers of {path.name}"
    enhancers = tuple(json_value(metadata.get("unclutter.enhancers", "[]"), list, stated))
    if not all(isinstance(word, str) for word in enhancers):
        raise ValueError(f"{stated} are {str(enhancers)[:40]}, expected words: get the file again.")
    return RemovalPrompt(vectors, enhancers, Header(metadata).prompt_first, metadata)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the header of a .safetensors file, or of a pickle: PowerPaint's v2, or an embedding of AUTOMATIC1111's
    webui (`string_to_param`)."""
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    held: Any = unpickle(path)
    inner = held.get("string_to_param") if isinstance(held, dict) else None
    return tensors_of(held if inner is None else inner, path.name), {}


def is_prompt(value: Tensor) -> bool:
    return value.ndim == 2 and len(value) > 0 and value.is_floating_point()


def powerpaint(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """P_ctxt and P_obj, [10, 768] each, of PowerPaint's text encoder, apart or in its vocabulary; nothing of another file.

    Raises:
        ValueError: they are in the vocabulary, and nothing says which of its rows they are.
    """
    tasks = {key.rpartition(POWERPAINT)[2]: value for key, value in tensors.items() if POWERPAINT in key}
    if {"P_ctxt", "P_obj"} <= tasks.keys() and is_prompt(tasks["P_ctxt"]) and is_prompt(tasks["P_obj"]):
        return tasks
    table = tensors.get(VOCABULARY)
    if table is None or not is_prompt(table) or len(table) <= CLIP_WORDS:
        return {}
    names = next(
        (file for file in (path.with_name(ADDED), path.parent.parent / "tokenizer" / ADDED) if file.is_file()), None
    )
    if names is None:
        raise ValueError(
            f"{path.name} is a text encoder with {len(table) - CLIP_WORDS} words more than CLIP's, and only {ADDED} of its "
            "tokenizer says which of them are PowerPaint's: put it beside the file."
        )
    rows = json_value(names.read_text("utf-8", errors="replace"), dict, str(names))
    found: dict[str, dict[int, int]] = {}
    for word, row in rows.items():
        if (
            (match := re.fullmatch(r"(P_ctxt|P_obj)_(\d{1,3})", word))
            and isinstance(row, int)
            and 0 <= row < len(table)
        ):
            found.setdefault(match[1], {})[int(match[2])] = row
    if found.keys() != {"P_ctxt", "P_obj"}:
        raise ValueError(
            f"{names} names no rows of P_ctxt and P_obj in the {len(table)} of {path.name}, expected P_ctxt_0 and so on: put "
            "the one of PowerPaint's tokenizer beside the file."
        )
    return {word: table[[row for _, row in sorted(places.items())]] for word, places in found.items()}


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

"""Checkpoints in one file, in the layout of Stable Diffusion's own code, read offline.

Such a file holds all weights and nothing of how they are put together. Its shapes tell which model it is, and what
diffusers wants to know of each model stands here; so do CLIP's words, which are the same for all of them.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import (
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from safetensors import safe_open
from tokenizers.pre_tokenizers import ByteLevel

from ...adapters import mini
from ...adapters.names import LDM_UNET
from .random_sdxl import SDXL_INPAINTING, SDXL_VAE

MERGES = Path(__file__).with_name("clip_merges.txt.gz")
"""The byte pairs of OpenAI's CLIP (MIT, Copyright (c) 2021 OpenAI), of which its vocabulary is made."""
START, END = "<|startoftext|>", "<|endoftext|>"

FIRST, MIDDLE = f"{LDM_UNET}input_blocks.0.0.weight", f"{LDM_UNET}middle_block.1.transformer_blocks.0.attn2.to_k.weight"
LAST_NORM = f"{LDM_UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias"
VAE = "first_stage_model."


@dataclass(frozen=True)
class Kind:
    """A family of models.

    Attributes:
        title: for people.
        pipelines: diffusers' class, and its inpainting twin.
        unet, vae: their configs, where they differ from diffusers' defaults.
        texts: config of each text encoder, by the start of its keys in the file.
        index: what else `model_index.json` says.
    """

    title: str
    pipelines: tuple[Any, Any]
    unet: dict[str, Any]
    vae: dict[str, Any]
    texts: dict[str, dict[str, Any]]
    index: dict[str, Any]


def clip(width: int, layers: int, projection: int, activation: str = "gelu", padding: str = "!") -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "projection_dim": projection,
        "hidden_act": activation,
        "pad_token": padding,
    }


CLIP_L = clip(768, 12, 768, "quick_gelu", END)
SD_VAE = {**SDXL_VAE, "sample_size": 512, "scaling_factor": 0.18215}
SD_PIPELINES = (StableDiffusionPipeline, StableDiffusionInpaintPipeline)
UNCHECKED = {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
KINDS = {
    768: Kind(
        "SD 1.5",
        SD_PIPELINES,
        {"sample_size": 64, "cross_attention_dim": 768},
        SD_VAE,
        {"cond_stage_model.transformer.text_model.": CLIP_L},
        UNCHECKED,
    ),
    1024: Kind(
        "SD 2",
        SD_PIPELINES,
        {
            "sample_size": 64,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        },
        SD_VAE,
        {"cond_stage_model.model.": clip(1024, 23, 512)},
        UNCHECKED,
    ),
    2048: Kind(
        "SDXL",
        (StableDiffusionXLPipeline, StableDiffusionXLInpaintPipeline),
        SDXL_INPAINTING,
        SDXL_VAE,
        {
            "conditioner.embedders.0.transformer.text_model.": CLIP_L,
            "conditioner.embedders.1.model.": clip(1280, 32, 1280),
        },
        {},
    ),
}
"""By the width of the text that the network is shown."""


def read_single_file(path: Path, dtype: torch.dtype) -> Any:
    """A diffusers pipeline of an SD 1.5, SD 2 or SDXL checkpoint, base or inpainting, in one safetensors file.

    Raises:
        SafetensorError: a damaged file.
        ValueError: it is another model, or a part of one; the message says what is missing.
    """
    kind, channels, prediction = look_into(path)
    # Of the two SD 2 the one that predicts v was trained on 768 pixels, the other, like SD 1.5, on 512.
    large = {"sample_size": 96} if prediction == "v_prediction" else {}
    unet = {"layers_per_block": 2, **kind.unet, **large, "in_channels": channels}
    with TemporaryDirectory() as folder:
        write_configs(Path(folder), kind, unet, prediction)
        try:
            return kind.pipelines[channels == 9].from_single_file(
                str(path), config=folder, torch_dtype=dtype, local_files_only=True
            )
        except (KeyError, NotImplementedError, ValueError) as error:  # what diffusers makes of missing and other layers
            raise ValueError(
                f"{path.name} is like {kind.title}, but layers are missing or of other sizes: it is damaged or a smaller "
                "version; give a whole checkpoint."
            ) from error


def look_into(path: Path) -> tuple[Kind, int, str]:
    """The kind of a checkpoint, the channels its network takes, and what it predicts."""
    with safe_open(path, framework="pt") as file:
        keys = set(file.keys())
        if not {FIRST, MIDDLE} <= keys:
            raise ValueError(
                f"{path.name} holds no checkpoint of SD 1.5, SD 2 or SDXL: expected keys that start with {LDM_UNET} and such a "
                "network's layers behind that."
            )
        channels, width = (file.get_slice(key).get_shape()[1] for key in (FIRST, MIDDLE))
        if width not in KINDS or channels not in (4, 9):
            raise ValueError(
                f"{path.name} holds a network that takes {channels} channels and texts {width} wide: expected 4 or 9, and "
                f"{', '.join(f'{width} ({kind.title})' for width, kind in KINDS.items())}."
            )
        kind = KINDS[width]
        for start in (VAE, *kind.texts):
            if not any(key.startswith(start) for key in keys):
                raise ValueError(
                    f"{path.name} is {kind.title} without its {'VAE' if start == VAE else 'text encoder'} (keys that start "
                    f"with {start}): give a whole checkpoint, or a diffusers folder."
                )
        # Nothing but the weights tells the two SD 2 apart; ComfyUI draws the same line.
        spread = file.get_tensor(LAST_NORM).float().std(unbiased=False) if LAST_NORM in keys else torch.zeros(())
    predicts_v = kind.title == "SD 2" and channels == 4 and spread > 0.09
    return kind, channels, "v_prediction" if predicts_v else "epsilon"


def write_configs(folder: Path, kind: Kind, unet: dict[str, Any], prediction: str) -> None:
    """A diffusers folder without weights."""
    vocabulary, merges = clip_words()
    special = {"bos_token": START, "eos_token": END, "unk_token": END}
    scheduler = {**mini.SCHEDULE, "prediction_type": prediction, "steps_offset": 1, "clip_sample": False}
    files = {"unet/config.json": unet, "vae/config.json": kind.vae, "scheduler/scheduler_config.json": scheduler}
    index: dict[str, Any] = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        **kind.index,
    }
    for suffix, (projecting, config) in zip(("", "_2"), enumerate(kind.texts.values()), strict=False):
        encoder, tokenizer = f"text_encoder{suffix}", f"tokenizer{suffix}"
        index[encoder] = ["transformers", "CLIPTextModelWithProjection" if projecting else "CLIPTextModel"]
        index[tokenizer] = ["transformers", "CLIPTokenizer"]
        ids = {"bos_token_id": START, "eos_token_id": END, "pad_token_id": config["pad_token"]}
        ids = {name: vocabulary[word] for name, word in ids.items()}
        files[f"{encoder}/config.json"] = {**config, **ids, "vocab_size": len(vocabulary)}
        words = {**special, "pad_token": config["pad_token"], "model_max_length": 77}
        files[f"{tokenizer}/tokenizer_config.json"] = {**words, "tokenizer_class": "CLIPTokenizer"}
        files[f"{tokenizer}/vocab.json"] = vocabulary
    for name, content in {**files, "model_index.json": index}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    for each in folder.glob("tokenizer*"):
        (each / "merges.txt").write_text(merges, encoding="utf-8")


def clip_words() -> tuple[dict[str, int], str]:
    """CLIP's vocabulary, and the merges it is made by as transformers reads them."""
    merges = gzip.decompress(MERGES.read_bytes()).decode()
    letters = sorted(ByteLevel.alphabet())
    pairs = [line.replace(" ", "") for line in merges.splitlines()[1:]]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *pairs, START, END]
    return {word: index for index, word in enumerate(words)}, merges

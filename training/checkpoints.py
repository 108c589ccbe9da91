"""Checkpoints of the SD family on disk as a `Base`: SD 1.5, SD 2 and SDXL, base and inpainting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors import SafetensorError, safe_open

from .sampling import Base, vae_calls
from .text import TextEncoder, Texts

SCHEDULE_KEYS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")


def load_checkpoint(path: Path, device: str | None = None, dtype: torch.dtype | None = None) -> Base:
    """A diffusers folder or a single safetensors file.

    A single file has no configs in it: diffusers takes those of its family from its cache, or downloads them (a few
    kilobytes of text) where there is none.

    Args:
        device: "cpu", "cuda" ...; by default the GPU where there is one.
        dtype: of the weights; by default fp32 on a CPU and fp16 elsewhere.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is no Stable Diffusion checkpoint, or a damaged one.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or (torch.float32 if device == "cpu" else torch.float16)
    try:
        pipeline = _read(path, dtype)
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} is no whole safetensors file, or holds one that is not ({error}): get it again, or convert it if "
            "it is a pickle (pickles can run code and are not opened)."
        ) from error
    return from_pipeline(pipeline, device)


def from_pipeline(pipeline: Any, device: str) -> Base:
    """What sampling needs of a Stable Diffusion pipeline, moved to `device`."""
    unet, vae = getattr(pipeline, "unet", None), getattr(pipeline, "vae", None)
    if unet is None or vae is None or unet.config["in_channels"] not in (4, 9):
        raise ValueError(
            f"{type(pipeline).__name__} is not supported: give an SD 1.5, SD 2 or SDXL checkpoint, base or inpainting."
        )
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if (module := getattr(pipeline, part, None)) is not None:
            module.to(device).eval().requires_grad_(False)
    if vae.config["force_upcast"]:
        vae.to(torch.float32)
    # The names that ComfyUI asks embeddings for; SD 2 has OpenCLIP's ViT-H, 1,024 wide, where SD 1.5 has CLIP's ViT-L.
    first = "clip_h" if pipeline.text_encoder.config.hidden_size == 1024 else "clip_l"
    texts = Texts(
        tuple(
            TextEncoder(name, getattr(pipeline, tokenizer), getattr(pipeline, part))
            for name, tokenizer, part in (
                (first, "tokenizer", "text_encoder"),
                ("clip_g", "tokenizer_2", "text_encoder_2"),
            )
            if getattr(pipeline, part, None) is not None
        )
    )
    encode, decode = vae_calls(vae)
    factor = 2 ** (len(vae.config["block_out_channels"]) - 1)
    return Base(
        unet=unet,
        encode=encode,
        decode=decode,
        schedule={key: pipeline.scheduler.config[key] for key in SCHEDULE_KEYS},
        texts=texts,
        multiple=factor * 2 ** (len(unet.config["block_out_channels"]) - 1),
        native_size=factor * unet.config["sample_size"],
    )


def _read(path: Path, dtype: torch.dtype) -> Any:
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ValueError(f"{path} has no model_index.json: expected a diffusers folder, or a .safetensors file.")
        return DiffusionPipeline.from_pretrained(path, torch_dtype=dtype, local_files_only=True)
    if path.is_file():
        family = StableDiffusionXLPipeline if _is_sdxl(path) else StableDiffusionPipeline
        return family.from_single_file(str(path), torch_dtype=dtype)
    raise FileNotFoundError(f"There is no checkpoint at {path}: give a diffusers folder or a .safetensors file.")


def _is_sdxl(path: Path) -> bool:
    with safe_open(path, framework="pt") as file:
        keys = set(file.keys())
    if not any(key.startswith("model.diffusion_model.") for key in keys):
        raise ValueError(
            f"{path} holds no Stable Diffusion checkpoint: expected keys that start with model.diffusion_model."
        )
    return any(key.startswith("conditioner.embedders.1.") for key in keys)

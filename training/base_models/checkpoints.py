"""Checkpoints on disk as a `Base`: SD 1.5, SD 2 and SDXL, base and inpainting, and FLUX.1 Fill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from safetensors import SafetensorError

from . import flux
from .base import Base, vae_calls
from .single_file import read_single_file
from .text import TextEncoder, Texts
from .unet import UNetBase

SCHEDULE_KEYS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")


def load_checkpoint(path: Path, device: str | None = None, dtype: torch.dtype | None = None) -> Base:
    """A diffusers folder or a single safetensors file.

    Both load offline, and nothing is read from pickles.

    Args:
        device: "cpu", "cuda" ...; by default the GPU where there is one.
        dtype: of the weights; by default fp32 on a CPU and fp16 elsewhere, for FLUX bf16.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is none of these, or a damaged one.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    half = torch.bfloat16 if flux.is_flux(path) else torch.float16
    dtype = dtype or (torch.float32 if device == "cpu" else half)
    try:
        pipeline = _read(path, dtype)
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} is no whole safetensors file, or holds one that is not ({error}): get it again, or convert it if "
            "it is a pickle (pickles can run code and are not opened)."
        ) from error
    return from_pipeline(pipeline, device)


def from_pipeline(pipeline: Any, device: str) -> Base:
    """Take from a diffusers pipeline what sampling needs, moved to `device`."""
    if type(pipeline).__name__.startswith("Flux"):
        return flux.from_pipeline(pipeline, device)
    unet, vae = getattr(pipeline, "unet", None), getattr(pipeline, "vae", None)
    if unet is None or vae is None or unet.config["in_channels"] not in (4, 9):
        raise ValueError(
            f"{type(pipeline).__name__} is not supported: give an SD 1.5, SD 2 or SDXL checkpoint, base or inpainting, or "
            "FLUX.1 Fill as a diffusers folder."
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
    return UNetBase(
        network=unet,
        encode=encode,
        decode=decode,
        schedule={key: pipeline.scheduler.config[key] for key in SCHEDULE_KEYS},
        texts=texts,
        multiple=factor * 2 ** (len(unet.config["block_out_channels"]) - 1),
        native_size=factor * unet.config["sample_size"],
    )


def _read(path: Path, dtype: torch.dtype) -> Any:
    if path.is_dir():
        return _read_folder(path, dtype)
    if path.is_file():
        return read_single_file(path, dtype)
    raise FileNotFoundError(f"There is no checkpoint at {path}: give a diffusers folder or a .safetensors file.")


def _read_folder(path: Path, dtype: torch.dtype) -> Any:
    if not (path / "model_index.json").is_file():
        raise ValueError(f"{path} has no model_index.json: expected a diffusers folder, or a .safetensors file.")
    weights = sorted(path.glob("*/*.safetensors"))
    for pickle in sorted(path.glob("*/*.bin")):
        if pickle.parent not in [file.parent for file in weights]:
            raise ValueError(
                f"{pickle.relative_to(path)} in {path} is a pickle, which can run code and is not opened: put the "
                f".safetensors file of {pickle.parent.name} into the folder."
            )
    variant = "fp16" if weights and all(".fp16" in file.name for file in weights) else None
    return DiffusionPipeline.from_pretrained(
        path, torch_dtype=dtype, local_files_only=True, use_safetensors=True, variant=variant
    )

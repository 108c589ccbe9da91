"""Sampling as core's KSampler does it, with its progress and preview, by any guider."""

from __future__ import annotations

import math
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.utils
import latent_preview
import torch
from torch import Tensor

from ...adapters import lora
from ...adapters.files import check_numbers, read_safetensors
from ...kernels import finite
from .files import file_path


def sample_latent(
    guider: Any, latent: dict, seed: int, steps: int, sampler_name: str, scheduler: str, denoise: float
) -> dict:
    """The LATENT that core's KSampler makes of `latent`, guided by one of ComfyUI's guiders."""
    model = guider.model_patcher
    start = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
    schedule = comfy.samplers.KSampler(model, steps, model.load_device, sampler_name, scheduler, denoise=denoise).sigmas
    samples = guider.sample(
        comfy.sample.prepare_noise(start, seed, latent.get("batch_index")),
        start,
        comfy.samplers.sampler_object(sampler_name),
        schedule,
        denoise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    finite.check_finite(samples, "The network's result")
    return {**latent, "samples": samples.to(comfy.model_management.intermediate_device())}


def guided(model: Any, positive: list, negative: list, cfg: float) -> Any:
    """Core's guider by classifier-free guidance, as KSampler uses it."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


LOOKED_AT = 384
"""Side in pixels of a picture, as a square, that a text encoder looks at: core's nodes for Qwen-Image-Edit take that."""


def encode_text(clip: Any, text: str, picture: Tensor | None = None) -> list:
    """The CONDITIONING that core's CLIP Text Encode makes. The text encoder of an edit model that looks at pictures
    (Qwen-Image-Edit) is shown the first of `picture` [B,H,W,3]; others take no notice."""
    if picture is None:
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))
    scale = LOOKED_AT / math.sqrt(picture.shape[1] * picture.shape[2])
    size = [round(side * scale) for side in picture.shape[1:3]]
    small = torch.nn.functional.interpolate(picture[:1].movedim(-1, 1), size, mode="area").movedim(1, -1)
    return clip.encode_from_tokens_scheduled(clip.tokenize(text, images=[small]))


def decode(vae: Any, latent: dict) -> Any:
    """The pictures [B,H,W,3] that core's VAE Decode makes."""
    pictures = vae.decode(latent["samples"])
    return pictures.flatten(0, -4) if pictures.ndim == 5 else pictures


def with_lora(model: Any, name: str) -> Any:
    """The model with a LoRA of models/loras, as core's loader puts it on, at strength 1, but with those of diffusers' and
    peft's keys that core drops (560 of the 788 modules in RORem's LCM LoRA).

    Raises:
        ValueError: nothing of the file fits the model, or it is damaged.
    """
    path = file_path("loras", name)
    weights, metadata = read_safetensors(path)
    check_numbers(name, weights)
    if lora.is_of_sd(weights):
        weights = lora.to_kohya(lora.load(path))
    patched, _ = comfy.sd.load_lora_for_models(model, None, weights, 1.0, 0.0)
    if sum(map(len, patched.patches.values())) == sum(map(len, model.patches.values())):
        raise ValueError(
            f"None of the {len(weights)} tensors in {name} fits this model: choose the LoRA that was trained on it."
        )
    patched.set_attachments("lora_metadata", metadata)
    return patched

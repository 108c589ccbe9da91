"""Parts that every node needs of ComfyUI: the position of a run, and values that fit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import comfy.ldm.modules.attention
import comfy.model_management
import comfy.utils
import node_helpers
import torch
from torch import Tensor

from ...kernels import guidance, regions


def sigma_range(model: Any, start_percent: float, end_percent: float) -> tuple[float, float]:
    """The sigmas at which core's nodes start and stop for these shares (0..1) of the noise schedule."""
    if not 0 <= start_percent <= end_percent <= 1:
        raise ValueError(
            f"start_percent is {start_percent} and end_percent is {end_percent}: both lie in 0..1, the start first."
        )
    sampling = model.get_model_object("model_sampling")
    return float(sampling.percent_to_sigma(start_percent)), float(sampling.percent_to_sigma(end_percent))


def position(sigma: Tensor, transformer_options: dict) -> tuple[float, int]:
    """The position of a run: t, counting down from `steps` to 1 and fractional between steps, and the number of steps.

    It goes by the sigma, not by a count of calls: Heun, DPM++ SDE and others call the model several times a step.
    """
    sigmas = transformer_options["sample_sigmas"].tolist()
    steps = len(sigmas) - 1
    return guidance.schedule_position(float(sigma.max()), sigmas, steps), steps


def set_condition_image(conditioning: list, latent: Tensor, mask: Tensor) -> list:
    """A copy of the conditioning that shows an inpainting model this latent [B,C,h,w] and mask [B,1,H,W]. Models without
    channels for them take no notice."""
    return node_helpers.conditioning_set_values(conditioning, {"concat_latent_image": latent, "concat_mask": mask})


def add_references(conditioning: list, latents: list[Tensor]) -> list:
    """A copy of the conditioning that shows an edit model these latents beside its text, after those that it has. Models
    that take no references take no notice."""
    return node_helpers.conditioning_set_values(conditioning, {"reference_latents": latents}, append=True)


def binary_mask(mask: Tensor) -> Tensor:
    """The pack's one normalisation, at the mask's own size: float [masks, H, W] of 0 and 1."""
    return regions.normalize_mask(mask, 1 if mask.ndim == 2 else mask.shape[0], *mask.shape[-2:], skip_empty=True)


def check_mask(mask: Tensor, batch: int, height: int, width: int) -> None:
    """Raises a ValueError unless masks [masks, H, W] can be those of a batch of latents of height x width."""
    if mask.shape[0] not in (1, batch):
        raise ValueError(f"{mask.shape[0]} masks came for {batch} pictures: give one mask for all, or one for each.")
    tall, wide = mask.shape[-2:]
    # A VAE rounds each side of a picture to whole latent pixels.
    if min(abs(width * tall / wide - height), abs(height * wide / tall - width)) > 1:
        raise ValueError(
            f"The mask is {wide}x{tall} and the latent {width}x{height}, another shape: connect the mask of the picture "
            "that was encoded (after Crop To Mask, the mask of the crop)."
        )


def with_frame(maps: Tensor, sides: int) -> Tensor:
    """Maps [B,C,h,w] as they are spread over latents of so many sides: [B,C,1,h,w] for latents [B,C,1,h,w]."""
    return maps.unsqueeze(2) if sides == 5 else maps


def encode(vae: Any, pictures: Tensor) -> Tensor:
    """The latents of pictures [B,H,W,3], [B,C,h,w], or [B,C,1,h,w] by the VAE of a family that also makes videos, which
    would take a batch for the frames of one."""
    if getattr(vae, "latent_dim", 2) == 3:
        return torch.cat([vae.encode(picture[None]) for picture in pictures])
    return vae.encode(pictures)


def for_rows(objects: Tensor, rows: int) -> Tensor:
    """Repeats [masks, tokens] for the rows of a call, in which the samples come once for each conditioning."""
    return objects.repeat(rows // objects.shape[0], 1)


def core_attention(extra: dict) -> Callable[..., Tensor]:
    """ComfyUI's attention as a UNet layer would call it, on q, k, v [B, heads, N, d]; `extra` is what its patch got."""
    return functools.partial(
        comfy.ldm.modules.attention.optimized_attention,
        heads=extra["n_heads"],
        attn_precision=extra["attn_precision"],
        skip_reshape=True,
        skip_output_reshape=True,
        transformer_options=extra,
    )


class Progress:
    """A progress bar for `total` pieces of work, which stops the run where the artist has pressed cancel."""

    def __init__(self, total: int) -> None:
        self.bar = comfy.utils.ProgressBar(total)

    def advance(self) -> None:
        self.bar.update(1)
        comfy.model_management.throw_exception_if_processing_interrupted()


def tracked(steps: Iterable) -> Iterator:
    """Passes the steps of a long work on, with a progress bar, and stops where the artist has pressed cancel."""
    whole = list(steps)
    progress = Progress(len(whole))
    for step in whole:
        yield step
        progress.advance()

"""FLUX.1 Fill as a `Base`: as much of it as one-step erasing needs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...adapters.one_step import PROMPT
from .base import Base, vae_calls
from .text import Prompt, Texts

CELL = 8
"""Side of a latent cell in pixels."""
NATIVE_SIZE = 1024


@dataclass(frozen=True)
class FluxBase(Base):
    """`unet` is its transformer; what it predicts is the velocity of an unshifted rectified flow."""

    @property
    def inpaints(self) -> bool:
        return True


class OnePrompt(Texts):
    """OSOR's one prompt, encoded: context [1, n, d] by T5 and pooled [1, p] by CLIP, which are not kept for it."""

    def __init__(self, context: Tensor, pooled: Tensor) -> None:
        super().__init__(encoders=())
        self.context, self.pooled = context, pooled

    def encode(self, prompts: Sequence[str], size: tuple[int, int]) -> Prompt:
        if set(prompts) != {PROMPT}:
            raise ValueError(
                f"FLUX.1 Fill is here for one-step erasers alone, by the prompt '{PROMPT}': for another prompt or method give "
                "an SD 1.5, SD 2 or SDXL checkpoint."
            )
        rows = len(prompts)
        return Prompt(self.context.expand(rows, -1, -1), {"text_embeds": self.pooled.expand(rows, -1)})


def is_flux(path: Path) -> bool:
    """Whether a diffusers folder says that it holds a FLUX, which overflows in fp16."""
    index = path / "model_index.json"
    return index.is_file() and json.loads(index.read_text())["_class_name"].startswith("Flux")


def from_pipeline(pipeline: Any, device: str) -> FluxBase:
    """What one-step erasing needs of a FLUX.1 Fill pipeline, on `device`.

    The text encoders come first and are dropped with the pipeline: T5 alone takes 9.5 GB in bf16.

    Raises:
        ValueError: a FLUX that takes no mask.
    """
    transformer, vae = pipeline.transformer, pipeline.vae
    channels, latent = transformer.config["in_channels"], vae.config["latent_channels"]
    # Packed 2x2: the noisy latent, the picture's, and the mask with a channel for each of a cell's pixels.
    expected = 4 * (2 * latent + CELL**2)
    if channels != expected:
        raise ValueError(
            f"The {type(transformer).__name__} takes {channels} channels, expected an inpainting one with {expected}: "
            "give FLUX.1-Fill-dev."
        )
    for part in (pipeline.text_encoder, pipeline.text_encoder_2):
        part.to(device).eval()
    with torch.no_grad():
        context, pooled, _ = pipeline.encode_prompt(PROMPT, prompt_2=None, device=torch.device(device))
    pipeline.text_encoder = pipeline.text_encoder_2 = None
    for part in (transformer, vae):
        part.to(device).eval().requires_grad_(False)
    if vae.config["force_upcast"]:
        vae.float()
    encode, decode = vae_calls(vae)
    shift = vae.config["shift_factor"] * vae.config["scaling_factor"]
    return FluxBase(
        unet=transformer,
        encode=lambda picture: encode(picture) - shift,
        decode=lambda latent: decode(latent + shift),
        schedule={"prediction_type": "flow"},
        texts=OnePrompt(context, pooled),
        multiple=2 * CELL,
        native_size=NATIVE_SIZE,
    )

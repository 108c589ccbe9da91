"""FLUX.1 Fill as a `Base`: as much of it as one-step erasing needs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor

from ...adapters.families import FLUX, Family
from ...adapters.methods import ONE_STEP_PROMPT as PROMPT
from ...kernels.onestep import TRAINING_STEPS
from .base import Base, vae_calls
from .text import Prompt, Texts

NATIVE_SIZE = 1024


@dataclass(frozen=True)
class FluxBase(Base):
    """FLUX.1 Fill's transformer, which predicts the velocity of an unshifted rectified flow."""

    family: ClassVar[Family] = FLUX

    @property
    def inpainting_channels(self) -> int:
        return self.network.config["in_channels"]  # others are refused when they are loaded

    def inpaint(self, noisy: Tensor, mask: Tensor, shown: Tensor, timestep: int, text: Prompt) -> Tensor:
        batch, _, height, width = noisy.shape
        cell, patch = self.family.cell, self.family.patch
        if height % patch or width % patch:
            raise ValueError(
                f"The pictures are {width * cell}x{height * cell} and FLUX takes multiples of {cell * patch}: choose such."
            )
        x = torch.cat([noisy, shown, mask], dim=1).to(self.network.dtype)
        x = rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=patch, q=patch)
        context = text.context.expand(batch, -1, -1).to(x)
        pooled = text.extra["text_embeds"].expand(batch, -1).to(x)
        rows, columns = height // patch, width // patch
        places = torch.cartesian_prod(torch.arange(1), torch.arange(rows), torch.arange(columns))
        guidance = self.family.guidance if self.network.config["guidance_embeds"] else None
        output = self.network(
            x,
            encoder_hidden_states=context,
            pooled_projections=pooled,
            timestep=x.new_full((batch,), timestep / TRAINING_STEPS),
            guidance=None if guidance is None else x.new_full((batch,), guidance),
            img_ids=places.to(x.device, torch.float32),
            txt_ids=torch.zeros(context.shape[1], 3, device=x.device),
        ).sample
        return rearrange(output, "b (h w) (c p q) -> b c (h p) (w q)", h=rows, p=patch, q=patch)


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
    """Take from a FLUX.1 Fill pipeline what one-step erasing needs, on `device`.

    The text encoders come first and are dropped with the pipeline: T5 alone takes 9.5 GB in bf16.

    Raises:
        ValueError: a FLUX that takes no mask.
    """
    transformer, vae = pipeline.transformer, pipeline.vae
    channels, latent = transformer.config["in_channels"], vae.config["latent_channels"]
    expected = FLUX.inpainting_channels(latent)
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
        network=transformer,
        encode=lambda picture: encode(picture) - shift,
        decode=lambda latent: decode(latent + shift),
        schedule={"prediction_type": "flow"},
        texts=OnePrompt(context, pooled),
        multiple=FLUX.patch * FLUX.cell,
        native_size=NATIVE_SIZE,
    )

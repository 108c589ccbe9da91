"""A latent diffusion model as training and sampling see it, whichever family it is of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from .text import Texts


@dataclass(frozen=True)
class Base:
    """A latent diffusion model: what sampling needs of a diffusers pipeline, and nothing else."""

    unet: UNet2DConditionModel
    encode: Callable[[Tensor], Tensor]
    """[B, 3, H, W] in -1..1 -> scaled latent."""
    decode: Callable[[Tensor], Tensor]
    schedule: dict[str, Any]
    texts: Texts
    multiple: int
    """Sides of a picture are multiples of this."""
    native_size: int
    """Side of the pictures it was trained on, in pixels."""
    condition_image: Literal["masked grey", "full"] = "masked grey"
    """What an inpainting network is shown: the picture with a grey hole, or all of it (LRNR)."""
    mask_pooling: Literal["max", "nearest"] = "max"
    """How its mask channel is made; where the latent may change is always "max". As in Removal Conditioning."""

    @property
    def inpaints(self) -> bool:
        """Whether the network is shown the mask and the masked picture (9 channels of SDXL-inpainting)."""
        return self.unet.config["in_channels"] == 2 * self.unet.config["out_channels"] + 1


def vae_calls(vae: AutoencoderKL) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Encode to and decode from scaled latents, in the VAE's dtype on the way and fp32 outside."""
    scale = vae.config["scaling_factor"]

    def encode(picture: Tensor) -> Tensor:
        # A VAE that is kept in fp32 is so because it overflows in fp16.
        with torch.autocast(picture.device.type, enabled=False):
            return vae.encode(picture.to(vae.dtype)).latent_dist.mean.float() * scale

    def decode(latent: Tensor) -> Tensor:
        with torch.autocast(latent.device.type, enabled=False):
            return vae.decode((latent / scale).to(vae.dtype)).sample.float()

    return encode, decode


def masked_grey(image: Tensor, mask: Tensor) -> Tensor:
    """The picture an inpainting network of the SDXL family is shown: mid-grey in the hole."""
    return torch.where(mask[:, None] > 0.5, 0.5, image)

"""A latent diffusion model as training and sampling see it, whichever family it is of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from ...adapters.families import Family
from .text import Prompt, Texts


@dataclass(frozen=True)
class Base(ABC):
    """A latent diffusion model: what sampling and training need of a diffusers pipeline, and nothing else.

    Each family is a subclass in a file of its own (`unet.py`, `flux.py`), whose facts are in `adapters/families.py`.
    """

    family: ClassVar[Family]

    network: Any
    """The network of diffusers that predicts: a UNet, or a transformer."""
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
    """The picture that an inpainting network is shown: the one with a grey hole, or all of it (LRNR)."""
    mask_pooling: Literal["max", "nearest"] = "max"
    """How its mask channel is made; where the latent may change is always "max". As in Removal Conditioning."""

    @property
    def inpaints(self) -> bool:
        """Whether the network is shown the mask and a picture beside the noisy latent."""
        return self.network.config["in_channels"] == self.inpainting_channels

    @property
    @abstractmethod
    def inpainting_channels(self) -> int:
        """The channels that the family's inpainting network takes, for latents as wide as this one's."""

    @abstractmethod
    def inpaint(self, noisy: Tensor, mask: Tensor, shown: Tensor, timestep: int, text: Prompt) -> Tensor:
        """Call an inpainting network once, on latents of the picture as a whole.

        Args:
            noisy, shown: [B, C, h, w], the noisy latent and that of the picture that the network is shown.
            mask: [B, 1 or 64, h, w], from `shown_mask`.
            timestep: of 1,000.
            text: the prompt of one row.

        Returns:
            The prediction [B, C, h, w], with the alpha's logits as one more channel where the last layer has rows for them.
        """

    def shown_mask(self, mask: Tensor, hole: Tensor) -> Tensor:
        """Mask [B, H, W], and the same pooled [B, 1, h, w], as the network takes it: [B, 1 or 64, h, w]."""
        return F.pixel_unshuffle(mask[:, None], self.family.cell) if self.family.shows_mask_pixels else hole


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

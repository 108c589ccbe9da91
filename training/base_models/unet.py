"""The networks of SD 1.5, SD 2, SDXL and the mini model as a `Base`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...adapters.families import UNET, Family
from .base import Base
from .text import Prompt


@dataclass(frozen=True)
class UNetBase(Base):
    """A UNet, which is shown the mask and a picture by channels of their own where it is an inpainting one."""

    family: ClassVar[Family] = UNET

    @property
    def inpainting_channels(self) -> int:
        # The last layer may have rows for an alpha; the config still tells the latent's channels.
        return self.family.inpainting_channels(self.network.config["out_channels"])

    def inpaint(self, noisy: Tensor, mask: Tensor, shown: Tensor, timestep: int, text: Prompt) -> Tensor:
        x = torch.cat([noisy, mask, shown], dim=1).to(self.network.dtype)
        context = text.context.expand(len(x), -1, -1).to(x)
        return self.network(x, timestep, context, added_cond_kwargs=text.extra or None).sample

"""The networks that OSOR erases with: all that it does otherwise on FLUX than on SDXL (arXiv 2606.28094, Appendix B)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ...adapters import one_step
from ...kernels.onestep import TRAINING_STEPS, Prediction
from .base import Base
from .flux import CELL, FluxBase
from .text import Prompt

Call = Callable[[Any, Tensor, Tensor, Tensor, int, Prompt], Tensor]


@dataclass(frozen=True)
class Backbone:
    """A kind of network.

    Attributes:
        name: in an eraser's file.
        title: for people.
        prediction: the noise, or the velocity.
        targets: ends of the paths of the modules that OSOR's LoRA sits on.
        alpha_rows: rows of the last layer that make the alpha's logits.
        pools_mask: whether the network is shown one value of the mask for a cell of the latent, or all of its pixels.
        call: (network, z_t [B, C, h, w], mask as it is shown, z_shot [B, C, h, w], timestep, prompt of one row) ->
            prediction [B, C, h, w], with the alpha's logits as one more channel where the network has rows for them.
    """

    name: one_step.Backbone
    title: str
    prediction: Prediction
    targets: tuple[str, ...]
    alpha_rows: int
    pools_mask: bool
    call: Call

    @property
    def last(self) -> str:
        """The last layer, by its name in the network."""
        return one_step.TERMINAL[self.name]

    def shown(self, mask: Tensor, hole: Tensor) -> Tensor:
        """Mask [B, H, W], and the same pooled [B, 1, h, w], as the network takes it: [B, 1 or 64, h, w]."""
        return hole if self.pools_mask else F.pixel_unshuffle(mask[:, None], CELL)


def backbone_of(base: Base) -> Backbone:
    return FLUX if isinstance(base, FluxBase) else UNET


def call_unet(network: Any, noisy: Tensor, mask: Tensor, shot: Tensor, timestep: int, text: Prompt) -> Tensor:
    x = torch.cat([noisy, mask, shot], dim=1).to(network.dtype)
    context = text.context.expand(len(x), -1, -1).to(x)
    return network(x, timestep, context, added_cond_kwargs=text.extra or None).sample


def call_flux(network: Any, noisy: Tensor, mask: Tensor, shot: Tensor, timestep: int, text: Prompt) -> Tensor:
    batch, _, height, width = noisy.shape
    if height % 2 or width % 2:
        raise ValueError(
            f"The pictures are {width * CELL}x{height * CELL} and FLUX takes multiples of 16: choose such."
        )
    x = torch.cat([noisy, shot, mask], dim=1).to(network.dtype)
    x = rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=2, q=2)
    context = text.context.expand(batch, -1, -1).to(x)
    pooled = text.extra["text_embeds"].expand(batch, -1).to(x)
    places = torch.cartesian_prod(torch.arange(1), torch.arange(height // 2), torch.arange(width // 2))
    guided = network.config["guidance_embeds"]
    output = network(
        x,
        encoder_hidden_states=context,
        pooled_projections=pooled,
        timestep=x.new_full((batch,), timestep / TRAINING_STEPS),
        guidance=x.new_full((batch,), one_step.FLUX_GUIDANCE) if guided else None,
        img_ids=places.to(x.device, torch.float32),
        txt_ids=torch.zeros(context.shape[1], 3, device=x.device),
    ).sample
    return rearrange(output, "b (h w) (c p q) -> b c (h p) (w q)", h=height // 2, p=2, q=2)


UNET = Backbone(
    name="unet",
    title="SDXL inpainting",
    prediction="epsilon",
    targets=(
        *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
        *("conv1", "conv2", "conv_shortcut", "conv"),
    ),
    alpha_rows=1,
    pools_mask=True,
    call=call_unet,
)
"""Its LoRA sits on 771 modules of SDXL."""
FLUX = Backbone(
    name="flux",
    title="FLUX.1 Fill",
    prediction="flow",
    targets=("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "ff.net.0.proj", "ff.net.2", "proj_mlp"),
    alpha_rows=4,
    pools_mask=False,
    call=call_flux,
)
"""Its LoRA sits on 266 modules: of the picture's stream, and without the single blocks' `proj_out`, as OSOR's release."""

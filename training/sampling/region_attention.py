"""Region attention in a diffusers network: the self-attention layers of one call, and only that call."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers import UNet2DConditionModel
from einops import rearrange
from torch import Tensor

from ...kernels.attention import Group, RegionSettings, partition, region_attention
from ...kernels.regions import object_tokens


class RegionAttnProcessor:
    """Self-attention of a UNet block through `kernels.attention.region_attention`.

    Args:
        mask: [B, h, w] in 0..1 at the size of the latent, 1 = object. Rows of the call beyond B repeat it.
        settings: what each kind of query may attend to.
    """

    def __init__(self, mask: Tensor, settings: RegionSettings) -> None:
        self.mask, self.settings = mask, settings
        self.tokens = functools.cache(self.find_tokens)

    def __call__(self, attn: Any, hidden_states: Tensor, *_, **__) -> Tensor:
        query, key, value = (
            rearrange(project(hidden_states), "b n (heads d) -> b heads n d", heads=attn.heads)
            for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        objects, groups = self.tokens(*hidden_states.shape[:2])
        out = region_attention(query, key, value, objects, self.settings, groups=groups)
        return attn.to_out[0](rearrange(out, "b heads n d -> b n (heads d)"))

    def find_tokens(self, rows: int, tokens: int) -> tuple[Tensor, list[Group]]:
        """The object's tokens in the layers of this size, [rows, tokens], and their partition."""
        objects = object_tokens(self.mask, *grid(self.mask, tokens)).repeat(rows // len(self.mask), 1)
        return objects, partition(objects)


def grid(mask: Tensor, tokens: int) -> tuple[int, int]:
    """Height and width of the level of a UNet that has `tokens` tokens; every level halves, rounding up."""
    height, width = mask.shape[-2:]
    while height * width > tokens:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != tokens:
        raise ValueError(f"No level of a {tuple(mask.shape[-2:])} latent has {tokens} tokens.")
    return height, width


@contextmanager
def attending_by_region(
    unet: UNet2DConditionModel, mask: Tensor, settings: RegionSettings, decoder_only: bool
) -> Iterator[None]:
    """Run the network with region attention in its self-attention layers; afterwards it is as before."""
    before = unet.attn_processors
    processor = RegionAttnProcessor(mask, settings)
    unet.set_attn_processor(
        {
            name: processor if ".attn1." in name and (name.startswith("up_blocks") or not decoder_only) else original
            for name, original in before.items()
        }
    )
    try:
        yield
    finally:
        unet.set_attn_processor(before)

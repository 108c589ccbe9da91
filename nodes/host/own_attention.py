"""Layers that call ComfyUI's attention without its options, so that no override reaches them: ERNIE, PixArt, HunyuanDiT.

Each gets an object patch in place of its `forward`. It projects to queries, keys and values as the layer does, and asks the
pass that is under way for the attention. Outside of such a pass it is the forward that was there before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import comfy.ldm.modules.attention
from einops import rearrange
from torch import Tensor


class Projected(NamedTuple):
    """Queries, keys and values [B, heads, N, d] of a layer, the mask of its keys, and `finish`, which makes the layer's
    result of what the attention gives [B, N, heads·d]."""

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    finish: Callable[[Tensor], Any]


class OwnForward:
    """In place of the `forward` of one attention layer.

    before      the forward that was there
    project     (layer, *arguments of the forward) -> Projected
    attend      of the pass under way, with the arguments of an `optimized_attention_override`; None outside of one
    """

    def __init__(self, layer: Any, before: Callable, project: Callable[..., Projected]) -> None:
        self.layer, self.before, self.project = layer, before, project
        self.attend: Callable[..., Tensor] | None = None

    def __call__(self, *args: Any, **more: Any) -> Any:
        if self.attend is None:
            return self.before(*args, **more)
        q, k, v, mask, finish = self.project(self.layer, *args, **more)
        core = comfy.ldm.modules.attention.optimized_attention
        return finish(self.attend(core, q, k, v, q.shape[1], mask=mask, skip_reshape=True))


def ernie(
    layer: Any, x: Tensor, attention_mask: Tensor | None = None, image_rotary_emb: Tensor | None = None
) -> Projected:
    import comfy.quant_ops  # an older ComfyUI, which has no ERNIE, has not got it either

    q, k, v = (rearrange(to(x), "b n (h d) -> b n h d", h=layer.heads) for to in (layer.to_q, layer.to_k, layer.to_v))
    q, k = layer.norm_q(q), layer.norm_k(k)
    if image_rotary_emb is not None:
        q, k = comfy.quant_ops.ck.apply_rope_split_half(q, k, image_rotary_emb)
    q, k, v = (tokens.transpose(1, 2) for tokens in (q, k, v))
    return Projected(q, k, v, attention_mask, layer.to_out[0])


def pixart(layer: Any, x: Tensor, mask: Tensor | None = None, HW: Any = None, block_id: Any = None) -> Projected:
    if layer.sr_ratio > 1:
        raise ValueError(
            "This PixArt merges the keys of some layers (key-value compression), and removal by attention cannot tell the "
            "object's among them: use a PixArt without it, such as PixArt-Sigma at 1024, or MASG."
        )
    q, k, v = layer.qkv(x).chunk(3, dim=-1)
    q, k = layer.q_norm(q), layer.k_norm(k)
    q, k, v = (rearrange(tokens, "b n (h d) -> b h n d", h=layer.num_heads) for tokens in (q, k, v))
    return Projected(q, k, v, mask, layer.proj)


def hunyuan_dit(layer: Any, x: Tensor, freqs_cis_img: Any = None) -> Projected:
    import comfy.ldm.hydit.attn_layers

    q, k, v = rearrange(layer.Wqkv(x), "b n (part h d) -> part b h n d", part=3, h=layer.num_heads)
    q, k = layer.q_norm(q), layer.k_norm(k)
    if freqs_cis_img is not None:
        q, k = comfy.ldm.hydit.attn_layers.apply_rotary_emb(q, k, freqs_cis_img, head_first=True)
    return Projected(q, k, v, None, lambda out: (layer.out_proj(out),))

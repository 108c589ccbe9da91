"""The mini model's network, and attention that trains fast on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from .config import MiniConfig


def build_unet(config: MiniConfig) -> UNet2DConditionModel:
    """A network of SDXL's kind, with attention at every level."""
    levels = len(config.unet_channels)
    return UNet2DConditionModel(
        sample_size=config.size // config.vae_factor,
        in_channels=2 * config.channels + 1,
        out_channels=config.channels,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        block_out_channels=config.unet_channels,
        layers_per_block=1,
        transformer_layers_per_block=config.transformer_depth,
        cross_attention_dim=config.text_width,
        attention_head_dim=tuple(channels // 32 for channels in config.unet_channels),  # diffusers means heads
        use_linear_projection=True,
    )


def half_precision(config: MiniConfig, device: torch.device) -> bool:
    """Whether this training computes in bf16 on that device."""
    if config.mixed_precision == "auto":
        if device.type == "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        can = torch.cpu.get_capabilities()
        return bool(can.get("avx512_bf16") or can.get("amx_bf16"))
    return config.mixed_precision == "bf16"


class PlainAttention:
    """Attention as two matrix products, an attention processor of diffusers.

    The backward pass of PyTorch's fused attention is slow on a CPU at these sizes: a third of a training step.
    """

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states

        def heads(tokens: Tensor) -> Tensor:
            return tokens.unflatten(-1, (attn.heads, -1)).transpose(1, 2).flatten(0, 1)

        q, k, v = heads(attn.to_q(hidden_states)), heads(attn.to_k(context)), heads(attn.to_v(context))
        scores = torch.bmm(q * q.shape[-1] ** -0.5, k.transpose(1, 2))
        out = torch.bmm(scores.softmax(dim=-1).to(v.dtype), v)
        return attn.to_out[0](out.unflatten(0, (-1, attn.heads)).transpose(1, 2).flatten(2))

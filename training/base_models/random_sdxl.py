"""SDXL-inpainting in its real size with random weights: for what depends on shapes alone, memory and speed."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ...adapters import mini
from .base import Base, vae_calls
from .text import TextEncoder, Texts
from .unet import UNetBase

SDXL_INPAINTING: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 9,
    "out_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
"""Arguments of `UNet2DConditionModel`; 2,567 million parameters."""

SDXL_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
}


def random_sdxl(device: str, dtype: torch.dtype) -> Base:
    """SDXL-inpainting as a `Base`, made on `device`."""
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # never in fp32 on the way: 10 GB
    try:
        with torch.device(device):
            unet = UNet2DConditionModel(**SDXL_INPAINTING)
            vae = AutoencoderKL(**SDXL_VAE)
            small = CLIPTextModel(_clip(768, 12, 12, 768))
            large = CLIPTextModelWithProjection(_clip(1280, 32, 20, 1280))
    finally:
        torch.set_default_dtype(default)
    for module in (unet, vae, small, large):
        module.eval().requires_grad_(False)
    tokenizer = CLIPTokenizer.from_pretrained(mini.FOLDER / "tokenizer")
    encode, decode = vae_calls(vae)
    return UNetBase(
        network=unet,
        encode=encode,
        decode=decode,
        schedule=mini.SCHEDULE,
        texts=Texts((TextEncoder("clip_l", tokenizer, small), TextEncoder("clip_g", tokenizer, large))),
        multiple=32,
        native_size=1024,
    )


def _clip(width: int, layers: int, heads: int, projection: int) -> CLIPTextConfig:
    size = {"hidden_size": width, "intermediate_size": 4 * width, "projection_dim": projection}
    return CLIPTextConfig(num_hidden_layers=layers, num_attention_heads=heads, **size)

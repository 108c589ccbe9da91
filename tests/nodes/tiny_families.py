"""A tiny network of random weights for each transformer family that ComfyUI loads, and a prompt that fits it.

The text of each prompt has as many tokens as the picture, so that nothing is told apart by the number of tokens.
ComfyUI must be importable (the `comfy` fixture) before `build` is called.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch

from . import tiny

ROWS, COLUMNS = 4, 6
"""Tokens of the picture."""
TEXT = ROWS * COLUMNS


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclasses.dataclass(frozen=True)
class Family:
    """One row of the table.

    config          the class of `comfy.supported_models`
    network         what its network is built with
    text            width of its text features
    cells           side of a token in cells of the latent
    more            what its prompt carries besides, made from a seed
    five            its latents are [B, C, 1, h, w]
    references      it takes reference pictures (`reference_latents`)
    """

    config: str
    network: Mapping[str, Any]
    text: int = 32
    cells: int = 2
    more: Callable[[int], dict] = lambda seed: {}
    five: bool = False
    references: bool = False


def pooled(width: int) -> Callable[[int], dict]:
    return lambda seed: {"pooled_output": noise(1, width, seed=seed)}


def padded_text(seed: int) -> dict:
    """The last five tokens of the text are padding."""
    seen = torch.ones(1, TEXT, dtype=torch.long)
    seen[:, -5:] = 0
    return {"attention_mask": seen}


def whole_text(seed: int) -> dict:
    return {"attention_mask": torch.ones(1, TEXT, dtype=torch.long)}


def two_texts(seed: int) -> dict:
    """The inputs that HunyuanDiT's second text encoder adds."""
    return {
        "attention_mask": torch.ones(1, TEXT),
        "conditioning_mt5xl": noise(1, 5, 16, seed=seed),
        "attention_mask_mt5xl": torch.ones(1, 5),
    }


FLUX = {**tiny.FLUX, "txt_ids_dims": []}
FLUX2 = {
    **FLUX,
    "image_model": "flux2",
    "in_channels": 128,
    "out_channels": 128,
    "patch_size": 1,
    "vec_in_dim": None,
    "axes_dim": [8, 8, 8, 8],
    "txt_ids_dims": [3],
    "global_modulation": True,
    "mlp_silu_act": True,
    "qkv_bias": False,
    "ops_bias": False,
    "default_ref_method": "index",
    "ref_index_scale": 10.0,
}
CHROMA = {
    **{name: FLUX[name] for name in FLUX if name != "guidance_embed"},
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": 64,
    "hidden_dim": 64,
    "n_layers": 1,
    "vec_in_dim": None,
}
LUMINA = {
    "patch_size": 2,
    "in_channels": 16,
    "n_layers": 3,
    "n_refiner_layers": 2,
    "ffn_dim_multiplier": 1.0,
    "qk_norm": True,
    "cap_feat_dim": 32,
    "axes_lens": [300, 512, 512],
}
OMNIGEN = {
    "patch_size": 2,
    "in_channels": 16,
    "hidden_size": 96,
    "num_layers": 2,
    "num_refiner_layers": 2,
    "num_attention_heads": 4,
    "num_kv_heads": 2,
    "axes_dim_rope": (8, 8, 8),
    "axes_lens": (300, 64, 64),
}
COSMOS = {
    "max_img_h": 64,
    "max_img_w": 64,
    "max_frames": 8,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 64,
    "num_blocks": 3,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "crossattn_emb_channels": 32,
    "pos_emb_cls": "rope3d",
    "concat_padding_mask": True,
}

FAMILIES = {
    "FLUX.1": Family("Flux", {**FLUX, "image_model": "flux"}, more=pooled(16), references=True),
    "FLUX.2": Family("Flux2", FLUX2, cells=1, references=True),
    "FLUX.2 Klein": Family("Flux2", {**FLUX2, "guidance_embed": False}, cells=1, references=True),
    "Chroma": Family("Chroma", {**CHROMA, "image_model": "chroma"}),
    "Chroma Radiance": Family(
        "ChromaRadiance",
        {
            **CHROMA,
            "image_model": "chroma_radiance",
            "in_channels": 3,
            "out_channels": 3,
            "patch_size": 16,
            "nerf_hidden_size": 16,
            "nerf_mlp_ratio": 2,
            "nerf_depth": 1,
            "nerf_max_freqs": 4,
            "nerf_tile_size": 0,
            # The released one ends in a convolution over pixels, which reaches over the border by itself.
            "nerf_final_head_type": "linear",
            "nerf_embedder_dtype": None,
            "use_x0": False,
            "use_sequential_txt_ids": False,
        },
        cells=16,
    ),
    "Qwen-Image": Family(
        "QwenImage",
        {
            "image_model": "qwen_image",
            "in_channels": 64,
            "out_channels": 16,
            "num_layers": 3,
            "attention_head_dim": 32,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "axes_dims_rope": (8, 12, 12),
        },
        more=padded_text,
        five=True,
        references=True,
    ),
    "Stable Diffusion 3": Family(
        "SD3",
        {
            "in_channels": 16,
            "patch_size": 2,
            "depth": 1,
            "num_blocks": 3,
            "input_size": None,
            "adm_in_channels": 16,
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": 32, "out_features": 64},
            },
            "num_patches": 64,
            "pos_embed_max_size": 8,
            "x_block_self_attn_layers": [0, 1],
            "qk_norm": "rms",
        },
        more=pooled(16),
    ),
    "AuraFlow": Family(
        "AuraFlow",
        {
            "in_channels": 4,
            "out_channels": 4,
            "patch_size": 2,
            "dim": 256,
            "n_layers": 3,
            "n_double_layers": 1,
            "n_heads": 4,
            "global_conddim": 64,
            "cond_seq_dim": 32,
            "max_seq": 64,
        },
    ),
    "Z-Image": Family(
        "ZImage",
        {
            **LUMINA,
            "image_model": "lumina2",
            "dim": 256,
            "n_heads": 2,
            "n_kv_heads": 2,
            "axes_dims": [32, 48, 48],
            "z_image_modulation": True,
            "time_scale": 1000.0,
            "pad_tokens_multiple": 32,
        },
    ),
    "Lumina 2": Family(
        "Lumina2",
        {**LUMINA, "image_model": "lumina2", "dim": 64, "n_heads": 2, "n_kv_heads": 1, "axes_dims": [8, 12, 12]},
        more=padded_text,
    ),
    "Krea 2": Family(
        "Krea2",
        {
            "image_model": "krea2",
            "features": 128,
            "tdim": 32,
            "txtdim": 32,
            "heads": 4,
            "kvheads": 2,
            "multiplier": 2,
            "layers": 3,
            "patch": 2,
            "channels": 16,
            "txtlayers": 2,
            "txtheads": 2,
            "txtkvheads": 2,
            "default_ref_method": "index",
        },
        text=64,
        five=True,
        references=True,
    ),
    "HiDream-I1": Family(
        "HiDream",
        {
            "image_model": "hidream",
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 1,
            "num_single_layers": 2,
            "attention_head_dim": 32,
            "num_attention_heads": 2,
            "caption_channels": [32, 32],
            "text_emb_dim": 16,
            "num_routed_experts": 2,
            "num_activated_experts": 1,
            "axes_dims_rope": (16, 8, 8),
            "max_resolution": (64, 64),
            "llama_layers": [0, 1, 1],
        },
        more=lambda seed: {**pooled(16)(seed), "conditioning_llama3": noise(1, 2, 7, 32, seed=seed)},
    ),
    "HiDream-O1": Family(
        "HiDreamO1",
        {
            "image_model": "hidream_o1",
            "text_config_overrides": {
                "hidden_size": 64,
                "intermediate_size": 64,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "head_dim": 16,
                "rope_dims": [4, 2, 2],
            },
            "vision_config_overrides": {
                "hidden_size": 32,
                "num_heads": 2,
                "intermediate_size": 32,
                "depth": 1,
                "num_position_embeddings": 16,
                "deepstack_visual_indexes": (),
            },
        },
        cells=32,
        more=lambda seed: {"text_input_ids": torch.tensor([[5 + seed, 9, 21, 40, 151673]])},
    ),
    "OmniGen2": Family(
        "Omnigen2", {**OMNIGEN, "image_model": "omnigen2", "text_feat_dim": 32}, more=whole_text, references=True
    ),
    "Boogu": Family(
        "Boogu",
        {**OMNIGEN, "image_model": "boogu", "instruction_feat_dim": 32, "num_double_stream_layers": 1},
        more=whole_text,
        references=True,
    ),
    "Ideogram 4": Family(
        "Ideogram4",
        {
            "image_model": "ideogram4",
            "in_channels": 128,
            "num_layers": 3,
            "num_attention_heads": 2,
            "attention_head_dim": 32,
            "intermediate_size": 64,
            "adaln_dim": 32,
            "llm_features_dim": 32,
            "mrope_section": [8, 4, 4],
        },
        cells=1,
        more=padded_text,
    ),
    "Mage-Flow": Family(
        "MageFlow",
        {
            "image_model": "mage_flow",
            "num_layers": 3,
            "attention_head_dim": 32,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "axes_dims_rope": (8, 12, 12),
        },
        cells=1,
        references=True,
    ),
    "HunyuanImage 2.1": Family(
        "HunyuanImage21",
        {
            "image_model": "hunyuan_video",
            **{name: FLUX[name] for name in FLUX if name not in ("txt_ids_dims", "vec_in_dim", "guidance_embed")},
            "in_channels": 64,
            "out_channels": 64,
            "vec_in_dim": None,
            "patch_size": [1, 1],
            "axes_dim": [16, 16],
            "theta": 256,
            "guidance_embed": False,
            "byt5": False,
            "meanflow": False,
            "use_cond_type_embedding": False,
            "vision_in_dim": None,
            "meanflow_sum": False,
        },
        cells=1,
        # Core takes no padding of a text for more than one picture here.
        more=whole_text,
    ),
    "PixelDiT": Family(
        "PixelDiTT2I",
        {
            "image_model": "pixeldit_t2i",
            "num_groups": 2,
            "hidden_size": 64,
            "pixel_hidden_size": 4,
            "pixel_attn_hidden_size": 32,
            "pixel_num_groups": 2,
            "patch_depth": 2,
            "pixel_depth": 1,
            "txt_embed_dim": 32,
        },
        cells=16,
    ),
    "JoyImage": Family(
        "JoyImage",
        {
            "image_model": "joyimage",
            "hidden_size": 64,
            "num_attention_heads": 2,
            "text_dim": 32,
            "mlp_width_ratio": 2.0,
            "num_layers": 3,
            "rope_dim_list": [8, 12, 12],
        },
        five=True,
        references=True,
    ),
    "Lens": Family(
        "Lens",
        {
            "image_model": "lens",
            "num_layers": 3,
            "attention_head_dim": 32,
            "num_attention_heads": 2,
            "enc_hidden_dim": 16,
            "axes_dims_rope": (8, 12, 12),
            "selected_layer_index": (0, 1),
        },
        cells=1,
        more=padded_text,
    ),
    "ERNIE-Image": Family(
        "ErnieImage",
        {
            "image_model": "ernie",
            "hidden_size": 64,
            "num_attention_heads": 2,
            "num_layers": 3,
            "ffn_hidden_size": 64,
            "text_in_dim": 32,
            "rope_axes_dim": (8, 12, 12),
        },
        cells=1,
    ),
    "PixArt": Family(
        "PixArtSigma",
        {
            "image_model": "pixart_sigma",
            "hidden_size": 64,
            "depth": 3,
            "num_heads": 2,
            "mlp_ratio": 2.0,
            "caption_channels": 32,
            "model_max_length": TEXT,
            "micro_condition": False,
            # Core places the tokens by sides of 64 cells, of which there has to be one.
            "pe_interpolation": 2,
            "patch_size": 8,
        },
        cells=8,
    ),
    "HunyuanDiT": Family(
        "HunyuanDiT",
        {
            "image_model": "hydit",
            "hidden_size": 64,
            "depth": 4,
            "num_heads": 2,
            "mlp_ratio": 2.0,
            "text_states_dim": 32,
            "text_states_dim_t5": 16,
            "text_len": TEXT,
            "text_len_t5": 5,
            "size_cond": True,
        },
        more=two_texts,
    ),
    "Cosmos Predict2": Family("CosmosT2IPredict2", {**COSMOS, "image_model": "cosmos_predict2"}, five=True),
    "Anima": Family("Anima", {**COSMOS, "image_model": "anima"}, five=True),
    "Kandinsky 5": Family(
        "Kandinsky5Image",
        {
            "image_model": "kandinsky5",
            "in_text_dim": 32,
            "in_text_dim2": 16,
            "time_dim": 32,
            "model_dim": 64,
            "ff_dim": 64,
            "visual_embed_dim": 64,
            "num_text_blocks": 1,
            "num_visual_blocks": 3,
            "axes_dims": (8, 12, 12),
        },
        more=pooled(16),
    ),
    "Wan 2": Family(
        "WAN21_T2V",
        {
            "image_model": "wan2.1",
            "model_type": "t2v",
            "dim": 64,
            "ffn_dim": 64,
            "num_heads": 2,
            "num_layers": 3,
            "text_dim": 32,
            "freq_dim": 32,
        },
        five=True,
    ),
}


def build(name: str, seed: int = 0, **network: Any) -> Any:
    """A ModelPatcher over a tiny network of the family, with `network` in place of its own values."""
    import comfy.supported_models

    row = FAMILIES[name]
    known = getattr(comfy.supported_models, row.config)
    config = type(f"Tiny{row.config}", (known,), {"unet_extra_config": {}})({**row.network, **network})
    model = tiny.patcher(config, seed)
    for part, buffer in model.model.diffusion_model.named_buffers():
        if part == "pos_embed":  # Stable Diffusion 3 keeps its places in a buffer, which comes with a checkpoint
            buffer.copy_(noise(*buffer.shape))
    return model


def latent(name: str, model: Any, seed: int = 3, batch: int = 1) -> torch.Tensor:
    """A random latent of `ROWS` by `COLUMNS` tokens."""
    row = FAMILIES[name]
    height, width = ROWS * row.cells, COLUMNS * row.cells
    channels = model.model.latent_format.latent_channels
    return noise(batch, channels, *([1] if row.five else []), height, width, seed=seed)


def object_mask(name: str) -> torch.Tensor:
    """[1, h, w] in latent cells: 2 by 3 tokens are the object's, off every border and off centre."""
    row = FAMILIES[name]
    mask = torch.zeros(1, ROWS * row.cells, COLUMNS * row.cells)
    mask[:, row.cells : 3 * row.cells, 2 * row.cells : 5 * row.cells] = 1
    return mask


def conditioning(name: str, seed: int, references: list | None = None) -> list:
    row = FAMILIES[name]
    more = row.more(seed)
    if references:
        more["reference_latents"] = references
    return [[noise(1, TEXT, row.text, seed=seed), more]]

"""Checkpoints with random weights that core's Load Checkpoint reads, in the layout of the real files but a thousandth of
their size. ComfyUI finds this folder in a test's custom_nodes and then knows the two small families; tests that import
it in their own process write the files.

`TinySDXL`  SDXL Inpainting 0.1: the network of `tiny.sdxl(9)`, both text encoders and a VAE
`TinySAM3`  SAM 3: detector, tracker and text encoder
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.sd
import comfy.sdxl_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.taesd.taesd
import comfy.text_encoders.sam3_clip as sam3_clip
import torch

NODE_CLASS_MAPPINGS: dict[str, type] = {}
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3}
SAM3_TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2}


class TinySDXLClip(comfy.sdxl_clip.SDXLClipModel):
    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict | None = None) -> None:
        small = {"clip_l_model_config": TEXT, "clip_g_model_config": TEXT}
        super().__init__(device, dtype, {**(model_options or {}), **small})


class TinySDXL(comfy.supported_models.SDXL):
    unet_config = {"model_channels": 32, "context_dim": 32, "adm_in_channels": 1552}
    unet_extra_config = {"num_heads": -1, "num_head_channels": 16}

    def clip_target(self, state_dict: dict | None = None) -> Any:
        return comfy.supported_models_base.ClipTarget(comfy.sdxl_clip.SDXLTokenizer, TinySDXLClip)


class TinySAM3Clip(sam3_clip.SAM3ClipModelWrapper):
    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict | None = None, **more: Any) -> None:
        super().__init__(device, dtype, {**(model_options or {}), "sam3_clip_model_config": SAM3_TEXT}, **more)


class TinySAM3(comfy.supported_models.SAM3):
    unet_extra_config = {
        "embed_dim": SAM3_TEXT["hidden_size"],
        "d_model": 32,
        "depth": 1,
        "num_heads": 4,
        "num_queries": 8,
    }

    def clip_target(self, state_dict: dict | None = None) -> Any:
        return comfy.supported_models_base.ClipTarget(sam3_clip.SAM3TokenizerWrapper, TinySAM3Clip)


comfy.supported_models.models[:0] = [TinySDXL, TinySAM3]


def write_sdxl(path: Path) -> None:
    from unclutter.tests.nodes import tiny

    target = TinySDXL({}).clip_target()
    clip = comfy.sd.CLIP(target, embedding_directory=[], model_options={"dtype": torch.float32})
    tiny.fill(clip.cond_stage_model, 1)
    autoencoder = comfy.taesd.taesd.TAESD(latent_channels=4)
    tiny.fill(autoencoder, 3)
    comfy.sd.save_checkpoint(str(path), tiny.sdxl(9), clip, comfy.sd.VAE(sd=autoencoder.state_dict()))


def write_sam3(path: Path) -> None:
    from safetensors.torch import save_file

    from unclutter.tests.nodes import tiny

    config = TinySAM3({"image_model": "SAM3"})
    config.set_inference_dtype(torch.float32, None)
    network = config.get_model({}, "", device="cpu").diffusion_model
    tiny.fill(network, 7)  # with these weights a box marks much of the picture and not all of it
    weights = {f"detector.backbone.language_backbone.encoder.{key}": value for key, value in text_encoder().items()}
    save_file({key: value.half().contiguous() for key, value in {**network.state_dict(), **weights}.items()}, path)


def text_encoder() -> dict[str, torch.Tensor]:
    """A text encoder with OpenCLIP's names, as SAM 3's file has it."""
    width, inner = SAM3_TEXT["hidden_size"], SAM3_TEXT["intermediate_size"]
    layer = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (inner, width),
        "mlp.c_fc.bias": (inner,),
        "mlp.c_proj.weight": (width, inner),
        "mlp.c_proj.bias": (width,),
    }
    norms = [f"transformer.resblocks.{i}.ln_{k}" for i in range(SAM3_TEXT["num_hidden_layers"]) for k in (1, 2)]
    shapes = {
        "positional_embedding": (32, width),
        "token_embedding.weight": (49408, width),
        "text_projection": (width, width),
        **{f"{norm}.{part}": (width,) for norm in [*norms, "ln_final"] for part in ("weight", "bias")},
        **{
            f"transformer.resblocks.{i}.{name}": shape
            for i in range(SAM3_TEXT["num_hidden_layers"])
            for name, shape in layer.items()
        },
    }
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.randn(shape, generator=generator) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.1)
        + (1.0 if ".ln_" in f".{name}" and name.endswith("weight") else 0.0)
        for name, shape in shapes.items()
    }

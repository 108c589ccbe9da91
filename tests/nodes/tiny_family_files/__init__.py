"""Files with random weights for the templates of FLUX.2 Klein, Qwen-Image-Edit, Z-Image and Stable Diffusion 3.5, under the
names that the templates ask for, and of ERNIE-Image's network. They have the layout of the real files, and core's own loaders
read them.

ComfyUI fixes the width of some networks by their family. It finds this folder in a test's custom_nodes, and then knows
narrow versions of those: Z-Image, Qwen-Image, ERNIE-Image, and the text encoders of SD 3.5. FLUX.2 and the network of SD 3.5
it builds as wide as a file is. Qwen3-4B and Qwen2.5-VL-7B cannot be made small, so their files hold a CLIP-L, which core's
loader recognises as one, and the networks read texts of its width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.ldm.models.autoencoder
import comfy.ldm.wan.vae
import comfy.sd
import comfy.sd1_clip as sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.taesd.taesd
import comfy.text_encoders.sd3_clip as sd3_clip
import torch

NODE_CLASS_MAPPINGS: dict[str, type] = {}
WIDTH = 16
TEXT = 768
"""Width of what CLIP-L says of a text."""
CLIP = {"hidden_size": WIDTH, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3}


class TinyQwenImage(comfy.supported_models.QwenImage):
    unet_extra_config = {
        "attention_head_dim": 32,
        "num_attention_heads": 2,
        "joint_attention_dim": TEXT,
        "axes_dims_rope": (8, 12, 12),
    }


class TinyZImage(comfy.supported_models.ZImage):
    unet_config = {"image_model": "lumina2", "dim": 256}
    unet_extra_config = {
        "n_heads": 2,
        "n_kv_heads": 2,
        "axes_dims": [32, 48, 48],
        "axes_lens": [1536, 512, 512],
        "rope_theta": 256.0,
        "ffn_dim_multiplier": 8 / 3,
        "z_image_modulation": True,
        "time_scale": 1000.0,
        "pad_tokens_multiple": 32,
    }


class TinyErnie(comfy.supported_models.ErnieImage):
    unet_extra_config = {
        "hidden_size": 64,
        "num_attention_heads": 2,
        "num_layers": 3,
        "ffn_hidden_size": 64,
        "text_in_dim": TEXT,
        "rope_axes_dim": (8, 12, 12),
    }


class TinySD3Clip(sd3_clip.SD3ClipModel):
    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict | None = None) -> None:
        small = {"clip_l_model_config": CLIP, "clip_g_model_config": CLIP}
        super().__init__(t5=False, device=device, dtype=dtype, model_options={**(model_options or {}), **small})


class TinySD3(comfy.supported_models.SD3):
    def clip_target(self, state_dict: dict | None = None) -> Any:
        return comfy.supported_models_base.ClipTarget(sd3_clip.SD3Tokenizer, TinySD3Clip)


if not __name__.startswith(
    "unclutter."
):  # in a server; the tests, which write the files, leave their own ComfyUI alone
    comfy.supported_models.models[:0] = [TinyQwenImage, TinyZImage, TinyErnie, TinySD3]


def write(models: Path) -> None:
    """Writes the files of all four templates into the folders of `models`."""
    from unclutter.tests.nodes import tiny, tiny_families

    klein = {**tiny_families.FLUX2, "hidden_size": 128, "num_heads": 1, "context_in_dim": TEXT, "mlp_ratio": 3.0}
    klein |= {
        "axes_dim": [32, 32, 32, 32],
        "theta": 2000,
        "guidance_embed": False,
        "depth": 1,
        "depth_single_blocks": 2,
    }
    qwen = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 3}
    zimage = {"image_model": "lumina2", "dim": 256, "patch_size": 2, "in_channels": 16, "cap_feat_dim": TEXT}
    for config, folder, seed in (
        (comfy.supported_models.Flux2(klein), "flux-2-klein-4b-fp8", 1),
        (TinyQwenImage(qwen), "qwen_image_edit_2511_fp8mixed", 2),
        (TinyZImage({**zimage, "n_layers": 3, "qk_norm": True}), "z_image_turbo_bf16", 3),
        (TinyErnie({"image_model": "ernie"}), "ernie-image-turbo", 9),
    ):
        save(models / "diffusion_models" / f"{folder}.safetensors", tiny.patcher(config, seed).model.diffusion_model)
    encoder = sd1_clip.SDClipModel(dtype=torch.float32).transformer
    tiny.fill(encoder, 4)
    for name in ("qwen_3_4b", "qwen_2.5_vl_7b_fp8_scaled"):
        save(models / "text_encoders" / f"{name}.safetensors", encoder.half())
    # ComfyUI makes the encoder of this kind of VAE at its full width, and its decoder as wide as the file.
    shape = {"double_z": True, "z_channels": 32, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128}
    shape |= {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
    flux2 = comfy.ldm.models.autoencoder.AutoencoderKL(
        ddconfig={**shape, "batch_norm_latent": True}, embed_dim=32, decoder_ddconfig={**shape, "ch": 32}
    )
    autoencoders = {
        "flux2-vae": flux2,
        "qwen_image_vae": comfy.ldm.wan.vae.WanVAE(dim=8, z_dim=16, temperal_downsample=[False, True, True]),
        "ae": comfy.taesd.taesd.TAESD(latent_channels=16),
    }
    for name, network in autoencoders.items():
        tiny.fill(network, 5)
        save(models / "vae" / f"{name}.safetensors", network)
    write_sd3(models / "checkpoints" / "sd3.5_large_fp8_scaled.safetensors", autoencoders["ae"].state_dict())


def write_sd3(path: Path, vae: dict[str, torch.Tensor]) -> None:
    from unclutter.tests.nodes import tiny

    path.parent.mkdir()
    config = TinySD3(
        {
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": 2,
            "depth": 2,
            "input_size": None,
            "adm_in_channels": 2 * WIDTH,
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": 4096, "out_features": 128},
            },
            "num_patches": 64**2,
            "pos_embed_max_size": 64,
            "qk_norm": "rms",
            "pos_embed_scaling_factor": None,
        }
    )
    model = tiny.patcher(config, 6)
    places = model.model.diffusion_model.pos_embed
    places.copy_(torch.randn(places.shape, generator=torch.Generator().manual_seed(7)))
    clip = comfy.sd.CLIP(config.clip_target(), embedding_directory=[], model_options={"dtype": torch.float32})
    tiny.fill(clip.cond_stage_model, 8)
    comfy.sd.save_checkpoint(str(path), model, clip, comfy.sd.VAE(sd=vae))


def save(path: Path, network: torch.nn.Module) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)

"""The mini model as ComfyUI's own kinds of object."""

from __future__ import annotations

import functools
from typing import Any

import comfy.latent_formats
import comfy.ldm.models.autoencoder
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch
from torch import Tensor

from ...adapters import mini
from ...kernels import patches
from .facts import MINI


def load_mini(files: mini.Mini) -> tuple[Any, Any, Any]:
    """The mini model as ComfyUI's MODEL, CLIP and VAE, in fp32, without an entry in ComfyUI's model registry."""
    vae, latent_format = mini_vae(files.weights["vae"], files.configs["vae"])
    model = mini_model(files, latent_format)
    side = files.configs["unet"]["sample_size"] * vae.spacial_compression_encode()
    model.model_options[MINI] = vae.patcher.model_options[MINI] = side
    return model, mini_clip(files), vae


def mini_model(files: mini.Mini, latent_format: comfy.latent_formats.LatentFormat) -> Any:
    config = files.configs["unet"]
    channels, depth = config["block_out_channels"], list(config["transformer_layers_per_block"])
    family = comfy.supported_models_base.BASE(
        {
            "image_size": config["sample_size"],
            "in_channels": config["in_channels"],
            "out_channels": config["out_channels"],
            "model_channels": channels[0],
            "channel_mult": [width // channels[0] for width in channels],
            "num_res_blocks": [1] * len(channels),
            "transformer_depth": depth,
            "transformer_depth_output": [level for level in depth for _ in range(2)],
            "transformer_depth_middle": depth[-1],
            "context_dim": config["cross_attention_dim"],
            "use_spatial_transformer": True,
            "use_linear_in_transformer": True,
            "legacy": False,
        }
    )
    family.unet_config |= {"num_heads": -1, "num_head_channels": channels[0] // config["attention_head_dim"][0]}
    family.latent_format = latent_format
    family.set_inference_dtype(torch.float32, None)
    model = family.get_model({}, device="cpu")
    names = comfy.utils.unet_to_diffusers(family.unet_config)
    model.diffusion_model.load_state_dict({names[key]: value for key, value in files.weights["unet"].items()})
    devices = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    return comfy.model_patcher.ModelPatcher(model, *devices)


def mini_vae(weights: dict[str, Tensor], config: dict) -> tuple[Any, comfy.latent_formats.LatentFormat]:
    """The VAE and the format of its latents."""
    latent_format = comfy.latent_formats.LatentFormat()
    if config["class"] == "AutoencoderKL":
        widths = config["block_out_channels"]
        structure = vae_structure(widths[0], [width // widths[0] for width in widths], config["latent_channels"])
        latent_format.scale_factor = config["scaling_factor"]
        return comfy.sd.VAE(sd=dict(weights), config=structure, dtype=torch.float32), latent_format
    autoencoder = patches.PatchAutoencoder(config["channels"], config["patch"])
    autoencoder.load_state_dict(weights)
    # ComfyUI's VAE has no place for a network of another kind: build the smallest it has, then give it ours.
    structure = vae_structure(32, [1], 4)
    placeholder = comfy.ldm.models.autoencoder.AutoencoderKL(**structure["params"])
    vae = comfy.sd.VAE(sd=placeholder.state_dict(), config=structure, dtype=torch.float32)
    vae.first_stage_model = autoencoder
    vae.patcher = type(vae.patcher)(autoencoder, load_device=vae.device, offload_device=vae.patcher.offload_device)
    vae.size = None
    vae.latent_channels = latent_format.latent_channels = config["channels"]
    vae.downscale_ratio = vae.upscale_ratio = latent_format.spacial_downscale_ratio = config["patch"]
    latent_format.latent_rgb_factors = autoencoder.synthesis.mean(dim=(2, 3)).tolist()
    latent_format.latent_rgb_factors_bias = autoencoder.mean.tolist()
    return vae, latent_format


def vae_structure(width: int, multiples: list[int], latent_channels: int) -> dict:
    """The config of a KL autoencoder with one residual block a level, as `comfy.sd.VAE` takes it."""
    network = {"ch": width, "ch_mult": multiples, "z_channels": latent_channels, "num_res_blocks": 1}
    shape = {"double_z": True, "resolution": 256, "in_channels": 3, "out_ch": 3, "attn_resolutions": [], "dropout": 0.0}
    return {"params": {"ddconfig": {**network, **shape}, "embed_dim": latent_channels}}


def mini_clip(files: mini.Mini) -> Any:
    config = files.configs["text_encoder"]
    tokens = {"start": config["bos_token_id"], "end": config["eos_token_id"], "pad": config["pad_token_id"]}
    encoder = functools.partial(
        MiniTextEncoder, textmodel_json_config=config, special_tokens=tokens, return_projected_pooled=False
    )
    tokenizer = functools.partial(
        comfy.sd1_clip.SDTokenizer, tokenizer_path=str(files.tokenizer), embedding_size=config["hidden_size"]
    )
    target = comfy.supported_models_base.ClipTarget(
        functools.partial(comfy.sd1_clip.SD1Tokenizer, tokenizer=tokenizer),
        functools.partial(comfy.sd1_clip.SD1ClipModel, clip_model=encoder),
    )
    weights = dict(files.weights["text_encoder"])
    table = "text_model.embeddings.token_embedding.weight"
    # ComfyUI's CLIP has a table of 49,408 tokens; ours fills its head.
    weights[table] = torch.nn.functional.pad(weights[table], (0, 0, 0, 49408 - len(weights[table])))
    weights["text_projection.weight"] = torch.eye(config["hidden_size"])
    folders = folder_paths.get_folder_paths("embeddings")
    clip = comfy.sd.CLIP(target, embedding_directory=folders, model_options={"dtype": torch.float32})
    clip.load_sd(weights)
    return clip


class MiniTextEncoder(comfy.sd1_clip.SDClipModel):
    """ComfyUI's CLIP text model, whose config ComfyUI updates in place: it gets a copy."""

    def __init__(self, *, textmodel_json_config: dict, **more: Any) -> None:
        super().__init__(textmodel_json_config=dict(textmodel_json_config), **more)

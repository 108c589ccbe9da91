"""Tiny models with random weights that live in memory, shaped like the real ones: for tests, in milliseconds on a CPU.

ComfyUI must be importable (the `comfy` fixture) before any of these functions is called.
"""

from __future__ import annotations

from typing import Any

import torch

CONTEXT = 32
POOLED = 16
FLUX = {
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": POOLED,
    "context_in_dim": CONTEXT,
    "hidden_size": 64,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [8, 12, 12],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": True,
}


def sd15(in_channels: int = 4, seed: int = 0) -> Any:
    """A ModelPatcher over an SD1.5-shaped UNet: two levels, self-attention at both, convolutions as projections."""
    import comfy.supported_models

    class TinySD15(comfy.supported_models.SD15):
        unet_config = {}
        unet_extra_config = {"num_heads": 2, "num_head_channels": -1}

    config = unet_config(in_channels, [1, 1], [1, 1, 1, 1], use_linear_in_transformer=False, adm_in_channels=None)
    return patcher(TinySD15(config), seed)


def sdxl(in_channels: int = 4, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """A ModelPatcher over an SDXL-shaped UNet: self-attention at the lower level only. 9 channels make an inpainting one.
    Weights of another dtype than fp32 are cast to it for each call."""
    import comfy.supported_models

    class TinySDXL(comfy.supported_models.SDXL):
        unet_config = {}
        unet_extra_config = {"num_heads": -1, "num_head_channels": 16}

    config = unet_config(
        in_channels, [0, 1], [0, 0, 1, 1], use_linear_in_transformer=True, adm_in_channels=1536 + POOLED
    )
    return patcher(TinySDXL({**config, "num_classes": "sequential"}), seed, dtype)


def flux(seed: int = 0, **more: Any) -> Any:
    """A ModelPatcher over a FLUX-shaped transformer: two double and two single blocks, two heads of 32 channels."""
    import comfy.supported_models

    config = {**FLUX, "image_model": "flux", **flux_text_ids(), **more}
    return patcher(comfy.supported_models.Flux(config), seed)


def flux_text_ids() -> dict[str, list]:
    """The entry of a FLUX.1 config for its text's positions, which ComfyUI asks for since it knows FLUX.2."""
    from comfy.ldm.flux.model import FluxParams

    return {"txt_ids_dims": []} if "txt_ids_dims" in FluxParams.__annotations__ else {}


def unet_config(in_channels: int, depth: list[int], output_depth: list[int], **more: Any) -> dict[str, Any]:
    return {
        "image_size": 32,
        "in_channels": in_channels,
        "out_channels": 4,
        "model_channels": 32,
        "num_res_blocks": [1, 1],
        "channel_mult": [1, 2],
        "transformer_depth": depth,
        "transformer_depth_output": output_depth,
        "transformer_depth_middle": 1,
        "context_dim": CONTEXT,
        "use_spatial_transformer": True,
        "legacy": False,
        **more,
    }


def patcher(config: Any, seed: int, dtype: torch.dtype = torch.float32) -> Any:
    import comfy.model_patcher

    config.set_inference_dtype(dtype, None if dtype == torch.float32 else torch.float32)
    model = config.get_model({}, "", device="cpu")
    fill(model.diffusion_model, seed)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model.eval(), load_device=cpu, offload_device=cpu)


def fill(module: torch.nn.Module, seed: int) -> None:
    """Random weights of a size that keeps signals alive; ComfyUI leaves its own layers uninitialised."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            noise = 1.5 * noise / parameter[0].numel() ** 0.5
        elif name.endswith("weight"):
            noise = 1 + 0.1 * noise
        else:
            noise = 0.1 * noise
        parameter.data = noise.to(parameter.dtype)
        parameter.requires_grad_(False)


def vae(seed: int = 0, channels: int = 4) -> Any:
    """A comfy.sd.VAE with SD's architecture at 32 channels: 8 pixels to one of `channels`, 4 for SD and 16 for FLUX."""
    import comfy.sd

    ddconfig = {
        "double_z": True,
        "z_channels": channels,
        "resolution": 64,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    config = {"params": {"ddconfig": ddconfig, "embed_dim": channels}}
    tiny = comfy.sd.VAE(sd={}, config=config, device=torch.device("cpu"), dtype=torch.float32)
    fill(tiny.first_stage_model, seed)
    tiny.latent_channels = channels
    return tiny


def conditioning(seed: int, tokens: int = 7) -> list:
    """A CONDITIONING with random text features, good for all of the models here."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(1, tokens, CONTEXT, generator=generator)
    return [[features, {"pooled_output": torch.randn(1, POOLED, generator=generator)}]]


def guider(model: Any, cfg: float = 1.0) -> Any:
    """Core's CFGGuider over two random prompts, the ones that `conditioning` makes of the seeds 1 and 2."""
    import comfy.samplers

    core = comfy.samplers.CFGGuider(model)
    core.set_conds(conditioning(1), conditioning(2))
    core.set_cfg(cfg)
    return core


def sigmas(model: Any, steps: int = 4) -> torch.Tensor:
    import comfy.samplers

    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", steps)


def sample(
    guider: Any,
    steps: int = 4,
    sampler: str = "euler",
    latent: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
    noise_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """A whole run, as SamplerCustomAdvanced makes it; `latent` [B,C,h,w] is by default one of 8x8 zeros."""
    import comfy.samplers

    model = guider.model_patcher
    if latent is None:
        latent = torch.zeros(1, model.model.latent_format.latent_channels, 8, 8)
    if noise is None:
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(5))
    run = comfy.samplers.sampler_object(sampler)
    schedule = sigmas(model, steps)
    return guider.sample(noise, latent, run, schedule, denoise_mask=noise_mask, disable_pbar=True, seed=5)


def square_mask(height: int = 64, width: int = 64, box: tuple[int, int, int, int] = (16, 40, 24, 48)) -> torch.Tensor:
    """A mask [1,height,width] with ones in rows box[0]:box[1] and columns box[2]:box[3]."""
    mask = torch.zeros(1, height, width)
    mask[:, box[0] : box[1], box[2] : box[3]] = 1
    return mask


def wan_vae(seed: int = 0) -> Any:
    """A comfy.sd.VAE with the architecture of Wan 2.1's, which Qwen-Image and others share, at 8 channels."""
    import comfy.ldm.wan.vae
    import comfy.sd

    network = comfy.ldm.wan.vae.WanVAE(dim=8, z_dim=16, temperal_downsample=[False, True, True])
    fill(network, seed)
    return comfy.sd.VAE(sd=network.state_dict(), device=torch.device("cpu"), dtype=torch.float32)

"""The model families in ComfyUI: how each network is known, and what its layers are called there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.ldm.flux.model
import comfy.ldm.modules.diffusionmodules.openaimodel
import comfy.model_base
import comfy.utils

from ...adapters.families import FLUX, UNET, Family


@dataclass(frozen=True)
class HostFamily:
    """A family of `adapters/families.py` as ComfyUI has it.

    facts           what holds in every host
    owns            whether a network is of this family
    last_layer      the last layer in the model
    context_width   of a `comfy.model_base.BaseModel`: the width of the text features that its network takes
    to_diffusers    of the network's config: its keys by diffusers' paths
    inpaints        of a BaseModel: whether the network has channels for a picture and a mask beside the latent's own
    native_size     of a BaseModel: the side in pixels of the pictures that it was trained on
    is_few_step     whether a network is made for few steps
    """

    facts: Family
    owns: Callable[[Any], bool]
    last_layer: str
    context_width: Callable[[Any], int]
    to_diffusers: Callable[[dict], dict]
    inpaints: Callable[[Any], bool]
    native_size: Callable[[Any], int]
    is_few_step: Callable[[Any], bool]


def is_unet(network: Any) -> bool:
    return isinstance(network, comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel)


def is_flux(network: Any) -> bool:
    # FLUX.2 shares the class, where ComfyUI knows it, with one modulation for all blocks; it is untried.
    return type(network) is comfy.ldm.flux.model.Flux and not getattr(network.params, "global_modulation", False)


def unet_native_size(model: Any) -> int:
    """By the width of the text: 768 of SD 1.5, 1,024 of SD 2, whose version that predicts v is the large one."""
    is_large = model.model_type == comfy.model_base.ModelType.V_PREDICTION
    width = model.model_config.unet_config.get("context_dim")
    return {768: 512, 1024: 768 if is_large else 512}.get(width, 1024)


def flux_inpaints(model: Any) -> bool:
    network = model.diffusion_model
    # Two latents are a network that is shown a picture and no mask (Depth, Canny).
    return network.in_channels > 2 * network.out_channels


HOST_FAMILIES = (
    HostFamily(
        facts=UNET,
        owns=is_unet,
        last_layer="diffusion_model.out.2",
        context_width=lambda model: model.model_config.unet_config["context_dim"],
        to_diffusers=comfy.utils.unet_to_diffusers,
        inpaints=lambda model: len(model.concat_keys) > 0,
        native_size=unet_native_size,
        is_few_step=lambda network: False,
    ),
    HostFamily(
        facts=FLUX,
        owns=is_flux,
        last_layer="diffusion_model.final_layer.linear",
        context_width=lambda model: model.diffusion_model.params.context_in_dim,
        to_diffusers=comfy.utils.flux_to_diffusers,
        inpaints=flux_inpaints,
        native_size=lambda model: 1024,
        is_few_step=lambda network: not network.params.guidance_embed,  # FLUX.1 schnell
    ),
)


def makes_videos(model: Any) -> bool:
    """Whether a BaseModel has the network of a picture model and makes frames (Stable Video Diffusion)."""
    return isinstance(model, comfy.model_base.SVD_img2vid)


def family_of(network: Any) -> HostFamily | None:
    """The family of a network; None where it is none that the pack knows."""
    return next((family for family in HOST_FAMILIES if family.owns(network)), None)

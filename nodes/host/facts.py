"""What a model is and carries, read off ComfyUI's object."""

from __future__ import annotations

import dataclasses
from typing import Any

import comfy.model_base
from safetensors import SafetensorError, safe_open

from .attention import takes_region_attention
from .common import is_flux, is_unet
from .files import file_path
from .onestep import ERASER

MINI = "unclutter_mini"
"""In the model_options of the mini model: the side of the pictures it is trained on, in pixels."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What decides how a model removes.

    native      side of the pictures it is trained on, in pixels
    mini        it is the pack's own mini model
    inpaints    it is shown the picture and the mask by channels of its own
    attention   the pack can steer its self-attention
    distilled   its guidance is part of its weights (FLUX), so that a second, unguided pass means nothing to it
    few_steps   it is made for few steps (FLUX schnell, or ComfyUI's node for LCM)
    one_step    it carries a one-step eraser
    recipe      method of the pack's LoRA that was put on it last (lrnr, eradiff), or None
    training    the settings of that LoRA's training, as its file tells them; also in the prompt trained with it
    """

    native: int
    mini: bool
    inpaints: bool
    attention: bool
    distilled: bool
    few_steps: bool
    one_step: bool
    recipe: str | None
    training: str | None


def facts_of(model: Any) -> Facts:
    network, options = model.model.diffusion_model, model.model_options
    # An older ComfyUI does not keep it, and then nothing is known of a LoRA.
    lora = model.get_attachment("lora_metadata") or {}
    flux = is_flux(network)
    return Facts(
        native=options.get(MINI) or native_size(model.model),
        mini=MINI in options,
        inpaints=inpaints(model.model),
        attention=takes_region_attention(model),
        distilled=flux,
        few_steps=hasattr(model.get_model_object("model_sampling"), "original_timesteps")
        or (flux and not network.params.guidance_embed),
        one_step=ERASER in options,
        recipe=lora.get("unclutter.method"),
        training=lora.get("unclutter.recipe"),
    )


def inpaints(model: Any) -> bool:
    """Whether the network has channels for a picture and a mask beside the latent's own."""
    network = model.diffusion_model
    if is_flux(network):
        # Two latents are a network that is shown a picture and no mask (Depth, Canny).
        return network.in_channels > 2 * network.out_channels
    return len(model.concat_keys) > 0


def native_size(model: Any) -> int:
    """The side of the pictures that a family is trained on, in pixels."""
    if not is_unet(model.diffusion_model):
        return 1024
    width = model.model_config.unet_config.get("context_dim")
    is_large = model.model_type == comfy.model_base.ModelType.V_PREDICTION
    return {768: 512, 1024: 768 if is_large else 512}.get(width, 1024)


def prompt_of_training(training: str | None, files: list[str]) -> str | None:
    """The first of the embedding files that was trained with these settings, together with the LoRA."""
    for name in files if training else []:
        path = file_path("embeddings", name)
        if path.suffix != ".safetensors" or not path.is_file():
            continue
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
        except SafetensorError:  # nobody has asked for this file
            continue
        if metadata.get("unclutter.recipe") == training:
            return name
    return None

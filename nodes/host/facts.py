"""Facts about a model and what it carries, read off ComfyUI's object."""

from __future__ import annotations

import dataclasses
from typing import Any

from safetensors import SafetensorError, safe_open

from ...adapters.header import Header
from .attention import takes_region_attention
from .families import family_of
from .files import file_path
from .layouts import layout_of
from .onestep import ERASER

MINI = "unclutter_mini"
"""In the model_options of the mini model and its VAE: the side of the pictures it is trained on, in pixels."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """The facts that decide how a model removes.

    native      side of the pictures it is trained on, in pixels
    mini        it is the pack's own mini model
    inpaints    it is shown the picture and the mask by channels of its own
    attention   the pack can steer its self-attention
    transformer it is one of the transformer families, for which the papers tell no strengths
    guidance    by which its makers guide it, where it is a transformer that is not distilled; else None
    steps       as its makers sample such a transformer, else None
    distilled   its guidance is part of its weights (FLUX), so that a second, unguided pass means nothing to it
    few_steps   the steps that it is made for, where these are few (FLUX schnell, Klein, Z-Image-Turbo, or ComfyUI's node
                for LCM); else None
    twin        it may as well be the base model, which runs many steps with guidance: its build does not tell
    one_step    it carries a one-step eraser
    recipe      method of the pack's LoRA that was put on it last (lrnr, eradiff), or None
    training    the settings of that LoRA's training, as its file tells them; also in the prompt trained with it
    """

    native: int
    mini: bool
    inpaints: bool
    attention: bool
    transformer: bool
    guidance: float | None
    steps: int | None
    distilled: bool
    few_steps: int | None
    twin: bool
    one_step: bool
    recipe: str | None
    training: str | None


def facts_of(model: Any) -> Facts:
    network, options = model.model.diffusion_model, model.model_options
    # An older ComfyUI does not keep it, and then nothing is known of a LoRA.
    lora = model.get_attachment("lora_metadata") or {}
    layout, family, header = layout_of(network), family_of(network), Header(lora)
    distilled = family is not None and family.facts.distilled
    is_few_step = hasattr(model.get_model_object("model_sampling"), "original_timesteps")
    is_few_step = is_few_step or (family is not None and family.is_few_step(network))
    return Facts(
        native=mini_side(model) or native_size(model.model),
        mini=MINI in options,
        inpaints=inpaints(model.model),
        attention=takes_region_attention(model),
        transformer=layout is not None,
        guidance=layout.guidance if layout and not distilled else None,
        steps=layout.steps if layout else None,
        distilled=distilled,
        few_steps=4 if is_few_step else layout and layout.few_steps,
        twin=layout is not None and layout.few_steps is not None and not is_few_step,
        one_step=ERASER in options,
        recipe=header.method,
        training=header.training,
    )


def mini_side(part: Any) -> int | None:
    """The side in pixels of the scenes that the mini model is trained on, of its MODEL or its VAE; None of any other."""
    return getattr(getattr(part, "patcher", part), "model_options", {}).get(MINI)


def inpaints(model: Any) -> bool:
    """Whether the network has channels for a picture and a mask beside the latent's own."""
    family = family_of(model.diffusion_model)
    return len(model.concat_keys) > 0 if family is None else family.inpaints(model)


def native_size(model: Any) -> int:
    """The side of the pictures that a family is trained on, in pixels."""
    family = family_of(model.diffusion_model)
    return 1024 if family is None else family.native_size(model)


def prompt_of_training(training: str | None, files: list[str]) -> str | None:
    """The first of the embedding files that was trained with these settings, together with the LoRA."""
    for name in files if training else []:
        path = file_path("embeddings", name)
        if path.suffix != ".safetensors" or not path.is_file():
            continue
        try:
            with safe_open(path, framework="pt") as file:
                header = Header(file.metadata() or {})
        except SafetensorError:  # nobody has asked for this file
            continue
        if header.training == training:
            return name
    return None

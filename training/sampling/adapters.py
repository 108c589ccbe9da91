"""Put what a training wrote into a base model, for sampling in diffusers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...adapters import files, lora, mini, one_step, prompt
from ...adapters.header import Header
from ...adapters.names import ldm_keys
from ..base_models.base import Base
from ..base_models.mini import load_mini
from ..base_models.text import removal_prompt
from .lora import put_on


def load_eraser(adapters: Path) -> one_step.OneStep:
    """The one-step eraser in an output folder of `unclutter train osor`, or in a file of ours or OSOR's."""
    return one_step.load(adapters if adapters.is_file() else adapters / "one_step.safetensors")


def with_adapters(base: Base, folder: Path, strength: float = 1.0) -> tuple[Base, str]:
    """Load what lies in the output folder of a training: `unet.safetensors` of a full one, else `lora.safetensors` and,
    where there is one, `prompt.safetensors`; see `with_files`."""
    whole, learned = folder / "unet.safetensors", folder / "prompt.safetensors"
    if whole.is_file():
        return with_network(base, whole, strength), ""
    return with_files(base, folder / "lora.safetensors", learned if learned.is_file() else None, strength)


@torch.no_grad()
def with_network(base: Base, file: Path, strength: float = 1.0) -> Base:
    """Move all weights of a base's network, in place, to those of a file.

    Args:
        strength: how far; at 1 they are the file's.

    Raises:
        ValueError: the file holds another network.
    """
    tensors, metadata = files.read_safetensors(file)
    state = base.network.state_dict()
    weights = {key: state[name] for name, key in ldm_keys(state).items()}
    fitting = sum(key in weights and weights[key].shape == value.shape for key, value in tensors.items())
    if not fitting == len(tensors) == len(weights):
        raise ValueError(
            f"{fitting} of the {len(tensors)} tensors in {file.name} fit the {len(weights)} of this network, expected all: it "
            "was trained from another model."
        )
    for key, weight in weights.items():
        weight.lerp_(tensors[key].to(weight), strength)
    return replace(base, **shown_in_training(metadata))


def with_mini_lrnr() -> tuple[Base, str]:
    """The mini model with the LRNR adapters that come with the pack."""
    name = "unclutter-mini-lrnr.safetensors"
    return with_files(load_mini(), mini.FOLDER / "loras" / name, mini.FOLDER / "embeddings" / name)


def with_files(base: Base, lora_file: Path, prompt_file: Path | None = None, strength: float = 1.0) -> tuple[Base, str]:
    """Load a LoRA and a removal prompt into a base model, whose network is changed in place.

    Args:
        strength: of the LoRA, as in ComfyUI's LoraLoader.

    Returns:
        The base, shown what the adapters were trained to see, and the prompt to remove with.

    Raises:
        FileNotFoundError: there is no such LoRA.
        ValueError: the LoRA or the prompt was made for another model.
    """
    adapter = lora.load(lora_file)
    put_on(base.network, adapter.of_network, strength, merged=True)
    text = ""
    if prompt_file is not None:
        learned = prompt.load(prompt_file)
        for encoder in base.texts.encoders:
            width = encoder.module.get_input_embeddings().weight.shape[1]
            vectors = learned.vectors.get(encoder.name)
            if vectors is None or vectors.shape[1] != width:
                held = {name: value.shape[1] for name, value in learned.vectors.items()}
                raise ValueError(
                    f"The prompt {prompt_file.name} has vectors of width {held}, expected {width} for {encoder.name}: it was made "
                    "for another model."
                )
        base.texts.removal = {name: value.to(base.network.device) for name, value in learned.vectors.items()}
        text = removal_prompt(learned.enhancers, learned.prompt_first)
    return replace(base, **shown_in_training(adapter.metadata)), text


def shown_in_training(metadata: dict[str, str]) -> dict[str, Any]:
    """The kind of picture and mask that a file's network was shown in training, as values of a Base."""
    header = Header(metadata)
    stated = {"condition_image": header.condition_image, "mask_pooling": header.mask_pooling}
    return {name: value for name, value in stated.items() if value is not None}

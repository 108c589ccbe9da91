"""`unclutter convert`: a LoRA from one trainer's keys to another's."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

from ..adapters import lora
from .sampling.lora import check_fits
from .settings import ConvertConfig


def convert(config: ConvertConfig) -> None:
    """Rewrite a LoRA: to kohya's keys, which ComfyUI applies in full, or to diffusers'."""
    adapter = lora.load(config.source)
    if config.base is not None:
        check_fits(empty_network(config.base), adapter.of_network)
    lora.save(config.out, adapter, config.to)
    print(f"{len(adapter.pairs)} modules of rank up to {adapter.rank}, all of {config.source.name}: wrote {config.out}")


def empty_network(base: Path) -> UNet2DConditionModel:
    """The UNet of a diffusers folder without its weights."""
    if not (base / "unet" / "config.json").is_file():
        raise FileNotFoundError(f"{base} has no unet/config.json: expected a diffusers folder.")
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(base / "unet"))

"""`unclutter convert`: a LoRA from one trainer's keys to another's."""

from __future__ import annotations

from pathlib import Path

import torch
import tyro
from diffusers import UNet2DConditionModel

from ..adapters import lora
from .sampling.adapters import matched


def convert(
    source: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    to: lora.Style = "kohya",
    base: Path | None = None,
) -> None:
    """Rewrite a LoRA: to kohya's keys, which ComfyUI applies in full, or to diffusers'.

    ComfyUI loads a LoRA in diffusers' or peft's keys without an error, and leaves its attention layers out.

    Args:
        source: a .safetensors file in kohya's, diffusers', peft's or ComfyUI's keys.
        out: the file to write.
        to: kohya or diffusers.
        base: a diffusers folder to check against: that the network has each module, at the right size.
    """
    adapter = lora.load(source)
    if base is not None:
        matched(empty_network(base), adapter)
    lora.save(out, adapter, to)
    print(f"{len(adapter.pairs)} modules of rank up to {adapter.rank}, all of {source.name}: wrote {out}")


def empty_network(base: Path) -> UNet2DConditionModel:
    """The UNet of a diffusers folder without its weights."""
    if not (base / "unet" / "config.json").is_file():
        raise FileNotFoundError(f"{base} has no unet/config.json: expected a diffusers folder.")
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(base / "unet"))

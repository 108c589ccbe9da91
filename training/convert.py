"""`unclutter convert`: a LoRA from one trainer's keys to another's."""

from __future__ import annotations

from pathlib import Path

import torch
import tyro
from diffusers import UNet2DConditionModel

from ..adapters import lora


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
        check_fit(adapter, base)
    lora.save(out, adapter, to)
    print(f"{len(adapter.pairs)} modules of rank up to {adapter.rank}, all of {source.name}: wrote {out}")


def check_fit(adapter: lora.Lora, base: Path) -> None:
    """Raises ValueError where the UNet of a diffusers folder lacks a module of the LoRA, or has it at another size."""
    if not (base / "unet" / "config.json").is_file():
        raise FileNotFoundError(f"{base} has no unet/config.json: expected a diffusers folder.")
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(base / "unet"))
    sizes = {f"unet.{name.removesuffix('.weight')}": value.shape for name, value in unet.named_parameters()}
    ours = {module: pair for module, pair in adapter.pairs.items() if module.startswith("unet.")}
    fitting = [
        module
        for module, pair in ours.items()
        if module in sizes and sizes[module][:2] == (pair.up.shape[0], pair.down.shape[1])
    ]
    if len(fitting) < len(ours):
        first = next(module for module in ours if module not in fitting)
        raise ValueError(
            f"{len(fitting)} of the LoRA's {len(ours)} modules fit the network in {base}, {first} does not: it was made "
            "for another model."
        )

"""A base model by what the command line calls it: the mini model, a checkpoint on disk, or SDXL's shape alone."""

from __future__ import annotations

from pathlib import Path

import torch

from ...adapters import mini
from ..paths import MINI, RANDOM_SDXL
from .base import Base
from .checkpoints import load_checkpoint
from .mini import is_mini, load_mini
from .random_sdxl import random_sdxl


def load_base(source: Path | str | None, device: str | None = None, dtype: torch.dtype | None = None) -> Base:
    """Load a base model onto a device.

    Args:
        source: `MINI` or None for the mini model in the pack, `RANDOM_SDXL`, the output folder of `unclutter train mini`,
            a diffusers folder, or a single .safetensors file.
        device: "cpu", "cuda" ...; by default the GPU where there is one.
        dtype: of the network's weights; by default what `load_checkpoint` chooses, and fp32 for the mini model.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is none of these, or a damaged one.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    path = Path(source or MINI)
    if path == RANDOM_SDXL:
        return random_sdxl(device, dtype or torch.float32)
    if path != MINI and not is_mini(path):
        return load_checkpoint(path, device, dtype)
    base = load_mini(mini.FOLDER if path == MINI else path, device)
    base.network.to(dtype or torch.float32)
    return base

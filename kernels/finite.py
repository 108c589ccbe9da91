"""NaN and infinite values, which nobody sees: shown and saved they are black pixels."""

from __future__ import annotations

import torch
from torch import Tensor

PICTURE = "a VAE in fp16 makes them, run it in fp32 (--fp32-vae) or take one made for fp16."
RESULT = (
    "a damaged LoRA or adapter makes them, leave it out or get its file again, and so does a model or a VAE in fp16, run "
    "those in bf16 or fp32 (in ComfyUI --bf16-unet, --fp32-vae)."
)
"""Advice for messages: for numbers that are not finite in a picture that came in, and in one that a network made."""


def check_finite(values: Tensor, name: str, remedy: str = RESULT) -> None:
    """Raises a ValueError where values of any shape have NaN or infinity; `name` begins its sentence, `remedy` ends it."""
    # The extremes carry NaN along, and need no copy of a large picture.
    if values.numel() and not torch.stack(torch.aminmax(values)).isfinite().all():
        raise ValueError(f"{name} has NaN or infinite values: {remedy}")

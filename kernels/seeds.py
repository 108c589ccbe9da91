"""Seeds that are derived from others, so that what is drawn depends on its own number and not on what was drawn before."""

from __future__ import annotations

import torch


def derived(seed: int, *numbers: int) -> int:
    """A seed for the thing that `numbers` tell apart: a picture by its index, or by (epoch, index)."""
    for number in numbers:
        seed = seed * 1_000_003 + number
    return seed


def generator(seed: int, *numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for the thing that `numbers` tell apart."""
    return torch.Generator(device).manual_seed(derived(seed, *numbers) % 2**63)

"""The methods that sample: their settings, and the x0 that each makes of calls of the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels.attention import SRA, SRA_STRICT, aas
from ...kernels.guidance import masg_map, masg_scale, sarg
from ..base_models.base import Base
from .region_attention import regions


@dataclass(frozen=True)
class Plain:
    """Inpainting with ordinary classifier-free guidance."""

    guidance: float = 1.0


@dataclass(frozen=True)
class MASG:
    """Mask-aware scheduled guidance (LRNR): strong in the hole, `background` around it."""

    guidance: float = 12.5
    background: float = 1.0
    schedule: str = "cosine_step"
    cutoff: float = 0.5
    """Share of the schedule, counted from its end, in which the guidance decays."""


@dataclass(frozen=True)
class AttentiveEraser:
    """AAS and SS in the decoder, and SARG as one more pass (Attentive Eraser)."""

    removal_scale: float = 9.0
    suppression: float = 0.3
    suppression_steps: float = 0.2
    """Share of the steps, from the first, in which similarity suppression acts."""
    guidance: float = 1.0


@dataclass(frozen=True)
class SelfRectifying:
    """Self-rectifying attention (EraDiff, Eq. 10) in every self-attention layer."""

    strict: bool = False
    guidance: float = 1.0


Method = Plain | MASG | AttentiveEraser | SelfRectifying


def predict(
    base: Base,
    method: Method,
    call: Callable[[str], Tensor],
    hole: Tensor,
    positive: str,
    negative: str,
    position: float,
    steps: int,
) -> Tensor:
    """The x0 that a method makes of one or more calls of the network at `position` (counts down from `steps` to 1)."""
    if isinstance(method, MASG):
        scale = masg_scale(position, steps, method.guidance, method.background, method.cutoff, method.schedule)
        return guided(call, positive, negative, masg_map(hole, scale, method.background))
    if isinstance(method, SelfRectifying):
        with regions(base.unet, hole[:, 0], SRA_STRICT if method.strict else SRA, decoder_only=False):
            return guided(call, positive, negative, method.guidance)
    if isinstance(method, AttentiveEraser):
        suppressing = steps - position < method.suppression_steps * steps
        settings = aas(method.suppression if suppressing else 1.0)
        if method.removal_scale == 1:
            with regions(base.unet, hole[:, 0], settings, decoder_only=True):
                return guided(call, positive, negative, method.guidance)
        plain = call(positive)
        with regions(base.unet, hole[:, 0], settings, decoder_only=True):
            erased = call(positive)
        return (
            guided(call, positive, negative, method.guidance, plain) + sarg(plain, erased, method.removal_scale) - plain
        )
    return guided(call, positive, negative, method.guidance)


def guided(
    call: Callable[[str], Tensor], positive: str, negative: str, scale: float | Tensor, plain: Tensor | None = None
) -> Tensor:
    """Classifier-free guidance; one call where the scale is 1 everywhere or both prompts are the same."""
    plain = call(positive) if plain is None else plain
    if positive == negative or bool((torch.as_tensor(scale) == 1).all()):
        return plain
    unconditional = call(negative)
    return unconditional + scale * (plain - unconditional)

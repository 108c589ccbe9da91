"""Erasing in one call of the network (OSOR, arXiv 2606.28094): noise the picture that shows the object, estimate the clean
one from a single prediction, and blend the two by a predicted alpha."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "flow"]
TRAINING_STEPS = 1000


@dataclass(frozen=True)
class NoiseLevel:
    """z_t = signal · z + noise · ε (Eq. 3).

    Attributes:
        signal: a_t; √ᾱ_t, or 1 - σ of a rectified flow.
        noise: b_t; √(1 - ᾱ_t), or σ.
        prediction: what the network predicts: the noise ε, or the velocity ε - z.
    """

    signal: float
    noise: float
    prediction: Prediction

    @property
    def sigma(self) -> float:
        """The noise level as samplers count it: b / a where the network predicts noise, b of a flow."""
        return self.noise / self.signal if self.prediction == "epsilon" else self.noise


def noise_level(timestep: int, prediction: Prediction) -> NoiseLevel:
    """The noise at one of the 1000 timesteps of training: SD's scaled-linear schedule, or an unshifted rectified flow.

    Raises:
        ValueError: a timestep outside of 1..999, or an unknown prediction.
    """
    if not 0 < timestep < TRAINING_STEPS:
        raise ValueError(f"timestep is {timestep}: it must lie between 1 and {TRAINING_STEPS - 1}.")
    if prediction == "epsilon":
        kept = alphas_cumprod()[timestep]
        return NoiseLevel(math.sqrt(kept), math.sqrt(1 - kept), prediction)
    if prediction == "flow":
        sigma = timestep / TRAINING_STEPS
        return NoiseLevel(1 - sigma, sigma, prediction)
    raise ValueError(f"prediction is {prediction!r}: choose epsilon or flow.")


def add_noise(clean: Tensor, noise: Tensor, level: NoiseLevel) -> Tensor:
    """z_t of latents and Gaussian noise, both [B, C, h, w] or packed alike (Eq. 3)."""
    return level.signal * clean + level.noise * noise


def predict_clean(noisy: Tensor, predicted: Tensor, level: NoiseLevel) -> Tensor:
    """The estimate ẑ of the clean latents from z_t and the network's prediction, both of one shape (Eq. 5)."""
    if level.prediction == "epsilon":
        return (noisy - level.noise * predicted) / level.signal
    return noisy - level.noise * predicted


def noise_of_correction(noisy: Tensor, shown: Tensor, correction: Tensor, level: NoiseLevel) -> Tensor:
    """The noise that a network has predicted which predicts the clean latents as a correction to the shown ones.

    ẑ = z + c, so ε̂ = (z_t - a (z + c)) / b: `predict_clean` of it is z + c, and samplers need to know nothing of corrections.

    Args:
        noisy, shown, correction: z_t, z and c, [B, C, h, w].
    """
    return (noisy - level.signal * (shown + correction)) / level.noise


def alpha_from_logits(logits: Tensor, strength: float = 1.0) -> Tensor:
    """α [B, 1, h, w] in 0..1 (Eq. 12); `strength` scales it, and what passes 1 is cut off."""
    return (strength * logits.float().sigmoid()).clamp(max=1.0)


def blend(erased: Tensor, original: Tensor, alpha: Tensor) -> Tensor:
    """z̃ = α ⊙ ẑ + (1 - α) ⊙ z (Eq. 13); with a mask of 0 and 1 for α, the hard blend of phase 1 (Eq. 6).

    Args:
        erased, original: [B, C, h, w].
        alpha: [B or 1, 1, h, w] in 0..1.
    """
    return torch.lerp(original, erased, alpha.to(original))


@lru_cache(maxsize=1)
def alphas_cumprod() -> list[float]:
    """ᾱ of SD, SDXL and the mini model: betas from 0.00085 to 0.012, evenly spaced in their square roots."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TRAINING_STEPS, dtype=torch.float64).square()
    return (1 - betas).cumprod(0).tolist()

"""`unclutter train eradiff`: chain-rectifying optimization, along a path on which the object fades."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...adapters import files
from ...adapters.names import ldm_keys
from ..base_models.base import Base
from ..sampling.methods import Method, SelfRectifying
from .eradiff_settings import EraDiffRecipe
from .objective import Objective, integers, noise_like


class EraDiff(Objective):
    """The state-space loss of EraDiff in its stable ε form, conditioned on the picture with a hole.

    The path's clean end is diffusers' timestep 0, whose ᾱ is 0.999 and not 1.
    """

    name = "eradiff"
    recipe: EraDiffRecipe

    def __init__(self, base: Base, recipe: EraDiffRecipe) -> None:
        super().__init__(base, recipe)
        if recipe.full:
            self.unet.float().requires_grad_(True)
        else:
            self.add_lora()

    def forward(self, batch: dict[str, Any], generators: list[torch.Generator]) -> Tensor:
        clean, occupied = self.encode(batch["target"]), self.encode(batch["source"])
        noise = noise_like(clean, generators)
        last = len(self.alphas_cumprod) - 1
        timesteps = integers(1, last, generators)
        strides = torch.cat(
            [
                integers(1, min(self.recipe.gamma_max, int(t)), [generator])
                for t, generator in zip(timesteps, generators, strict=True)
            ]
        )
        alpha = self.alphas_cumprod[timesteps.to(clean.device)]
        earlier = self.alphas_cumprod[(timesteps - strides).to(clean.device)]
        noisy = faded_state(clean, occupied, noise, alpha, self.recipe.mixup)
        # The hole covers all that the object changed, so that the condition holds nothing of it.
        hole = torch.maximum(batch["mask"], batch["effect_mask"])
        condition = self.condition(batch["source"], hole)
        prediction = self.predict_noise(noisy, condition, timesteps.to(clean.device), [""] * len(clean))
        target, weight = rectified_noise(clean, occupied, noise, alpha, earlier, self.recipe.mixup)
        errors = (prediction - target).square().mean(dim=(1, 2, 3))
        return errors if self.recipe.normalize_weight else weight * errors

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": self.lora_parameters(), "lr": self.recipe.learning_rate}]

    def save(self, folder: Path, step: int) -> None:
        metadata = self.metadata(step) | {"unclutter.guidance": "cfg 1"}
        if self.recipe.full:
            header = {"format": "pt", "modelspec.sai_model_spec": "1.0.0", "unclutter.kind": "unet"}
            weights = self.unet.state_dict()
            tensors = {key: weights[name] for name, key in ldm_keys(weights).items()}
            files.write_safetensors(folder / "unet.safetensors", tensors, header | metadata)
        else:
            self.save_lora(folder, metadata)

    def sample_method(self) -> tuple[Method, str]:
        return SelfRectifying(), ""


def faded_state(clean: Tensor, occupied: Tensor, noise: Tensor, alpha: Tensor, mixup: bool = True) -> Tensor:
    """x_t of the path on which the object fades: √ᾱ ((1 − λ) x_ori + λ x_obj) + √(1 − ᾱ) ε with λ = 1 − ᾱ.

    Args:
        clean, occupied, noise: x_ori, x_obj, ε: [B, C, h, w].
        alpha: ᾱ_t, [B].
        mixup: where False, λ = 1: the object is there in full.
    """
    alpha = alpha[:, None, None, None]
    share = 1 - alpha if mixup else torch.ones_like(alpha)
    return alpha.sqrt() * torch.lerp(clean, occupied, share) + (1 - alpha).sqrt() * noise


def rectified_noise(
    clean: Tensor, occupied: Tensor, noise: Tensor, alpha: Tensor, earlier: Tensor, mixup: bool = True
) -> tuple[Tensor, Tensor]:
    """The noise that takes a DDIM step from x_t exactly to x_{t−γ} of the path, and the weight of its error.

    ‖x_{t−γ} − x̂_{t−γ}‖² = w ‖ε_θ − ε*‖² with s = √(1 − ᾱ)/√ᾱ, w = ᾱ_{t−γ} (s_t − s_{t−γ})² and
    ε* = ε + (λ_t − λ_{t−γ}) / (s_t − s_{t−γ}) · (x_obj − x_ori).

    Args:
        alpha, earlier: ᾱ_t and ᾱ_{t−γ}, [B].
        mixup: where False, λ_t = 1 and λ_{t−γ} = 0: the whole object goes in the one step, however short, which is the
            ablation that does not converge in the paper.

    Returns:
        ε* [B, C, h, w] and w [B].
    """
    stride = ((1 - alpha) / alpha).sqrt() - ((1 - earlier) / earlier).sqrt()
    change = earlier - alpha if mixup else torch.ones_like(alpha)
    fade = (change / stride)[:, None, None, None]
    return noise + fade * (occupied - clean), earlier * stride.square()

"""Erasing in one call of the network, in diffusers (OSOR): what `One-Step Erase` does in ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...adapters.methods import ONE_STEP_PROMPT as PROMPT
from ...adapters.methods import ONE_STEP_TIMESTEP as TIMESTEP
from ...adapters.one_step import OneStep
from ...kernels.finite import check_finite
from ...kernels.onestep import add_noise, alpha_from_logits, blend, noise_level, predict_clean
from ...kernels.regions import latent_mask
from ..base_models.base import Base
from ..base_models.text import Prompt
from .lora import check_fits, put_on, take_off


class Erased(NamedTuple):
    """The result of one call.

    Attributes:
        picture: [B, 3, H, W] in 0..1, all of it through the VAE.
        alpha: [B, h, w] in 0..1 at the latent's size: the predicted one, or the pooled mask where there is none.
        latent: [B, C, h, w], blended.
    """

    picture: Tensor
    alpha: Tensor
    latent: Tensor


def erase_once(
    base: Base,
    adapter: OneStep,
    image: Tensor,
    mask: Tensor,
    *,
    draft: Tensor | None = None,
    timestep: int | None = None,
    strength: float = 1.0,
    seed: int = 0,
) -> Erased:
    """Remove what a mask marks by a one-step eraser, which is taken out of the network again.

    Args:
        image: [B, 3, H, W] in 0..1; H and W multiples of `base.multiple`.
        mask: [B, H, W] in {0, 1}, 1 = remove.
        draft: [B, 3, H, W] without the object: a second call of the network, from this draft, fills the mask, and what
            lies around it goes by the first one.
        timestep: how much noise the picture is given; by default what the adapter was trained with.
        strength: of the alpha.

    Raises:
        ValueError: the adapter was made for another network.
    """
    header = adapter.header
    if header.mask_pooling in ("max", "nearest"):
        base = replace(base, mask_pooling=header.mask_pooling)
    with applied(base.network, adapter):
        return run_once(
            base,
            image,
            mask,
            draft=draft,
            timestep=timestep or header.timestep,
            prompt=header.prompt,
            strength=strength,
            seed=seed,
            corrects=header.corrects,
        )


@torch.inference_mode()
def run_once(
    base: Base,
    image: Tensor,
    mask: Tensor,
    *,
    draft: Tensor | None = None,
    timestep: int = TIMESTEP,
    prompt: str = PROMPT,
    strength: float = 1.0,
    seed: int = 0,
    corrects: bool = False,
) -> Erased:
    """The same by a base whose network has an eraser in it already; whether it predicts an alpha, its output tells."""
    image, mask = image.to(base.network.device), mask.to(base.network.device)
    shot = base.encode(2 * image - 1)
    hole = latent_mask(mask, *shot.shape[-2:], pooling=base.mask_pooling).to(shot)
    noise = torch.randn(shot.shape, generator=torch.Generator().manual_seed(seed)).to(shot)
    text = base.texts.encode([prompt], (image.shape[-2], image.shape[-1]))

    def erased(begun: Tensor) -> tuple[Tensor, Tensor]:
        clean, logits = denoise_once(base, begun, mask, hole, noise, timestep, text, corrects)
        alpha = hole if logits is None else alpha_from_logits(logits, strength)
        return blend(clean, begun, alpha), alpha

    latent, alpha = erased(shot)
    if draft is not None:
        within = latent_mask(mask, *shot.shape[-2:], pooling="max") > 0
        drafted = base.encode(2 * torch.where(mask[:, None] > 0, draft.to(image), image) - 1)
        again, _ = erased(torch.where(within, drafted, shot))
        latent = torch.where(within, again, latent)
    check_finite(latent, "The network's result")
    return Erased(((base.decode(latent) + 1) / 2).clamp(0, 1), alpha[:, 0], latent)


def denoise_once(
    base: Base,
    shot: Tensor,
    mask: Tensor,
    hole: Tensor,
    noise: Tensor,
    timestep: int,
    text: Prompt,
    corrects: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Equations 3 to 5: the picture's own latent, noised to `timestep`, and what the network makes of it.

    Args:
        shot: z_shot, latent of the whole picture with the object, [B, C, h, w].
        mask: [B, H, W], at the size of the picture.
        hole: the same, pooled, [B, 1, h, w].
        text: the prompt, encoded once for all rows.
        corrects: the network predicts the clean latent as a correction to z_shot, instead of the noise.

    Returns:
        ẑ [B, C, h, w], and the alpha's logits [B, 1, h, w] where the network has a row for them.
    """
    level = noise_level(timestep, base.family.prediction)
    noisy = add_noise(shot, noise, level)
    output = base.inpaint(noisy, base.shown_mask(mask, hole).to(noisy), shot, timestep, text).float()
    channels = shot.shape[1]
    predicted = output[:, :channels]
    clean = shot + predicted if corrects else predict_clean(noisy, predicted, level)
    return clean, output[:, channels:] if output.shape[1] > channels else None


def taken_by(alpha: Tensor, height: int, width: int) -> Tensor:
    """The pixels where an eraser's alpha [B, h, w] is over a half, at the size of the picture: [B, height, width] bool."""
    return F.interpolate(alpha[:, None].float(), (height, width), mode="bilinear")[:, 0] > 0.5


@contextmanager
def applied(network: nn.Module, adapter: OneStep) -> Iterator[None]:
    """The network with an eraser's LoRA beside its weights and its last layer in place, for the calls inside."""
    check_fits(network, adapter.lora, "one-step eraser")
    own: Any = network.get_submodule(adapter.family.last_layer)
    weight, bias = adapter.terminal["weight"], adapter.terminal["bias"]
    if weight.shape[1:] != own.weight.shape[1:]:
        raise ValueError(
            f"The one-step eraser's last layer takes {weight.shape[1]} channels and this network's {own.weight.shape[1]}: it "
            f"was made for another model ({adapter.family.title})."
        )
    last = with_rows(own, len(weight))
    last.load_state_dict({"weight": weight, "bias": bias})
    put_on(network, adapter.lora)
    setattr(network, adapter.family.last_layer, last.to(own.weight))
    try:
        yield
    finally:
        setattr(network, adapter.family.last_layer, own)
        take_off(network)


def with_rows(layer: Any, rows: int) -> nn.Conv2d | nn.Linear:
    """A layer like this one with so many outputs, in fp32 and yet to be filled."""
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, rows)
    return nn.Conv2d(layer.in_channels, rows, layer.kernel_size, padding=layer.padding)

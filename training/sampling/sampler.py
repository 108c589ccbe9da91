"""Removing an object with a diffusers network: plain inpainting, MASG, Attentive Eraser and SRA.

The same choices as ComfyUI's `euler` sampler and `simple` scheduler, so that one seed and one set of weights give
the same picture in both hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal

import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from ...kernels.finite import check_finite
from ...kernels.guidance import schedule_position
from ...kernels.inversion import invert
from ...kernels.regions import latent_mask
from ..base_models.base import Base, masked_grey
from .methods import Method

Start = Tensor | Literal["picture", "noise", "inversion"]
"""The content of the hole that is noised when sampling begins: the picture with the object, nothing at all, or a picture
[B, 3, H, W] in 0..1 of its own, such as a draft. Or the inversion: the noise that the picture itself would be sampled from, so
that no seed decides anything (Attentive Eraser's DIP)."""


@torch.inference_mode()
def remove(
    base: Base,
    image: Tensor,
    mask: Tensor,
    method: Method,
    *,
    positive: str = "",
    negative: str = "",
    start: Start = "picture",
    denoise: float = 1.0,
    steps: int = 20,
    seed: int | Sequence[int] = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Tensor:
    """Fill the masked part of a picture.

    Args:
        image: [B, 3, H, W] in 0..1; H and W multiples of `base.multiple`.
        mask: [B, H, W] in {0, 1}, 1 = remove.
        start: what is noised in the hole when sampling begins. With "inversion" the noise around the hole is that of the
            picture too, level by level; it costs one more call a step.
        denoise: how far up the noise schedule sampling begins, above 0 to 1 (pure noise), as in ComfyUI's KSampler. The
            number of steps stays the same.
        seed: of the noise of the whole batch; or one for each picture, which then gets the noise that it gets alone.
        progress: wraps the steps, e.g. `tqdm`.

    Returns:
        [B, 3, H, W] in 0..1. The part outside the mask has been through the VAE: paste back with `kernels.seams`.
    """
    image, mask = image.to(base.network.device), mask.to(base.network.device)
    latent = base.encode(2 * image - 1)
    hole = latent_mask(mask, *latent.shape[-2:], pooling="max").to(latent)
    scheduler = euler(base, steps, denoise)
    sigmas = [float(sigma) for sigma in scheduler.sigmas]
    denoised = denoiser(base, image, mask, {positive, negative} | ({""} if start == "inversion" else set()))
    noise = noise_of(latent.shape, seed).to(latent)
    if start == "inversion":
        around = invert(lambda x, at: denoised(x, scheduler.timesteps[at], sigmas[at], ""), latent, sigmas, progress)
        x = around[0]
    else:
        around = None
        x = starting_latent(base, latent, start, hole) + noise * starting_scale(scheduler)
    for index, t in enumerate(progress(scheduler.timesteps)):
        x = torch.where(hole > 0, x, around[index] if around else latent + sigmas[index] * noise)
        position = schedule_position(sigmas[index], sigmas, steps)
        call = partial(denoised, x, t, sigmas[index])
        x0 = method.predict(base.network, call, hole, positive, negative, position, steps)
        x0 = torch.where(hole > 0, x0, latent)
        x = x + (x - x0) / sigmas[index] * (sigmas[index + 1] - sigmas[index])
    check_finite(x, "The network's result")
    return ((base.decode(x) + 1) / 2).clamp(0, 1)


def noise_of(shape: torch.Size, seed: int | Sequence[int]) -> Tensor:
    """Noise [B, C, h, w] by one seed, or by one for each row."""
    if isinstance(seed, int):
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.cat([noise_of(torch.Size((1, *shape[1:])), each) for each in seed])


def euler(base: Base, steps: int, denoise: float = 1.0) -> EulerDiscreteScheduler:
    """Euler steps over the timesteps of ComfyUI's `simple` scheduler, on the network's device.

    Below a `denoise` of 1 they are the last `steps` of a schedule of `steps` / `denoise`, as in KSampler.
    """
    scheduler = EulerDiscreteScheduler.from_config(base.schedule, prediction_type="sample")
    whole, trained = int(steps / denoise), scheduler.config["num_train_timesteps"]
    timesteps = [trained - 1 - int(index * (trained / whole)) for index in range(whole)]
    scheduler.set_timesteps(timesteps=timesteps[-steps:], device=base.network.device)
    return scheduler


def starting_latent(base: Base, latent: Tensor, start: Start, hole: Tensor) -> Tensor:
    """The latent that is noised at the beginning: the picture's own around the hole [B, 1, h, w], `start` in it."""
    if isinstance(start, Tensor):
        return torch.where(hole > 0, base.encode(2 * start.to(latent) - 1), latent)
    return latent * (1 - hole) if start == "noise" else latent


def starting_scale(scheduler: EulerDiscreteScheduler) -> float:
    """How strong the noise is at the beginning; at the top of the schedule as strong as ComfyUI makes it there."""
    sigma = float(scheduler.sigmas[0])
    is_top = int(scheduler.timesteps[0]) == scheduler.config["num_train_timesteps"] - 1
    return (1 + sigma**2) ** 0.5 if is_top else sigma


def denoiser(
    base: Base, image: Tensor, mask: Tensor, texts: set[str]
) -> Callable[[Tensor, Tensor, float, str], Tensor]:
    """The network as a function of (noisy latent, timestep, sigma, one of the texts) that gives x0.

    An inpainting network is shown the mask and the picture too.
    """
    prompts = {text: base.texts.encode([text], (image.shape[-2], image.shape[-1])) for text in texts}
    condition = []
    if base.inpaints:
        shown = image if base.condition_image == "full" else masked_grey(image, mask)
        latent = base.encode(2 * shown - 1)
        condition = [latent_mask(mask, *latent.shape[-2:], pooling=base.mask_pooling).to(latent), latent]

    def denoised(x: Tensor, t: Tensor, sigma: float, text: str) -> Tensor:
        scaled = torch.cat([x / (sigma**2 + 1) ** 0.5, *condition], dim=1).to(base.network.dtype)
        rows = prompts[text].context.expand(len(x), -1, -1).to(scaled)
        out = base.network(scaled, t, rows, added_cond_kwargs=prompts[text].extra or None).sample.float()
        if base.schedule["prediction_type"] == "v_prediction":
            return x / (sigma**2 + 1) - out * sigma / (sigma**2 + 1) ** 0.5
        return x - sigma * out

    return denoised

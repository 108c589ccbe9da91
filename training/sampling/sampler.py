"""Removing an object with a diffusers network: plain inpainting, MASG, Attentive Eraser and SRA.

The same choices as ComfyUI's `euler` sampler and `simple` scheduler, so that one seed and one set of weights give
the same picture in both hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ...adapters import mini
from ...kernels.attention import SRA, SRA_STRICT, aas
from ...kernels.guidance import masg_map, masg_scale, sarg, schedule_position
from ...kernels.patches import PatchAutoencoder
from ...kernels.regions import latent_mask
from ..base_models.text import TextEncoder, Texts
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
Start = Tensor | Literal["picture", "noise"]
"""The content of the hole that is noised when sampling begins: the picture with the object, nothing at all, or a picture
[B, 3, H, W] in 0..1 of its own, such as a draft."""


@dataclass(frozen=True)
class Base:
    """A latent diffusion model: what sampling needs of a diffusers pipeline, and nothing else."""

    unet: UNet2DConditionModel
    encode: Callable[[Tensor], Tensor]
    """[B, 3, H, W] in -1..1 -> scaled latent."""
    decode: Callable[[Tensor], Tensor]
    schedule: dict[str, Any]
    texts: Texts
    multiple: int
    """Sides of a picture are multiples of this."""
    native_size: int
    """Side of the pictures it was trained on, in pixels."""
    condition_image: Literal["masked grey", "full"] = "masked grey"
    """What an inpainting network is shown: the picture with a grey hole, or all of it (LRNR)."""
    mask_pooling: Literal["max", "nearest"] = "max"
    """How its mask channel is made; where the latent may change is always "max". As in Removal Conditioning."""

    @property
    def inpaints(self) -> bool:
        """Whether the network is shown the mask and the masked picture (9 channels of SDXL-inpainting)."""
        return self.unet.config["in_channels"] == 2 * self.unet.config["out_channels"] + 1


def load_mini(path: Path = mini.FOLDER, device: str = "cpu") -> Base:
    """The mini model as diffusers modules, in fp32."""
    files = mini.load(path)
    unet = UNet2DConditionModel.from_config(files.configs["unet"])
    unet.load_state_dict(files.weights["unet"])
    text_encoder = CLIPTextModel(CLIPTextConfig.from_dict(files.configs["text_encoder"]))
    weights = files.weights["text_encoder"]
    # Releases of transformers differ in whether the module's keys carry this prefix; the file's always do.
    keys = {key: f"text_model.{key.removeprefix('text_model.')}" for key in text_encoder.state_dict()}
    text_encoder.load_state_dict({key: weights[stored] for key, stored in keys.items()})
    for module in (unet, text_encoder):
        module.to(device).eval().requires_grad_(False)
    texts = Texts((TextEncoder("clip_l", CLIPTokenizer.from_pretrained(files.tokenizer), text_encoder),))
    encode, decode, factor = mini_autoencoder(files.weights["vae"], files.configs["vae"], device)
    levels = len(files.configs["unet"]["block_out_channels"])
    return Base(
        unet=unet,
        encode=encode,
        decode=decode,
        schedule=mini.SCHEDULE,
        texts=texts,
        multiple=factor * 2 ** (levels - 1),
        native_size=factor * files.configs["unet"]["sample_size"],
    )


def is_mini(path: Path) -> bool:
    """Whether a folder holds a mini model, such as the output of `unclutter train mini`."""
    return all((path / f"{part}.safetensors").is_file() for part in mini.PARTS)


def mini_autoencoder(
    weights: dict[str, Tensor], config: dict, device: str
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], int]:
    """Encode, decode, and how many pixels a latent cell covers, of the mini model's VAE or patches."""
    structure = dict(config)
    if structure.pop("class") == "AutoencoderKL":
        vae = AutoencoderKL.from_config(structure)
        vae.load_state_dict(weights)
        return *vae_calls(vae.to(device).eval().requires_grad_(False)), 8
    patches = PatchAutoencoder(structure["channels"], structure["patch"])
    patches.load_state_dict(weights)
    patches.to(device)
    return patches.encode, patches.decode, patches.patch


def vae_calls(vae: AutoencoderKL) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Encode to and decode from scaled latents, in the VAE's dtype on the way and fp32 outside."""
    scale = vae.config["scaling_factor"]

    def encode(picture: Tensor) -> Tensor:
        # A VAE that is kept in fp32 is so because it overflows in fp16.
        with torch.autocast(picture.device.type, enabled=False):
            return vae.encode(picture.to(vae.dtype)).latent_dist.mean.float() * scale

    def decode(latent: Tensor) -> Tensor:
        with torch.autocast(latent.device.type, enabled=False):
            return vae.decode((latent / scale).to(vae.dtype)).sample.float()

    return encode, decode


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
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Tensor:
    """Fill the masked part of a picture.

    Args:
        image: [B, 3, H, W] in 0..1; H and W multiples of `base.multiple`.
        mask: [B, H, W] in {0, 1}, 1 = remove.
        start: what is noised in the hole when sampling begins.
        denoise: how far up the noise schedule sampling begins, above 0 to 1 (pure noise), as in ComfyUI's KSampler. The
            number of steps stays the same.
        progress: wraps the steps, e.g. `tqdm`.

    Returns:
        [B, 3, H, W] in 0..1. The part outside the mask has been through the VAE: paste back with `kernels.seams`.
    """
    image, mask = image.to(base.unet.device), mask.to(base.unet.device)
    latent = base.encode(2 * image - 1)
    hole = latent_mask(mask, *latent.shape[-2:], pooling="max").to(latent)
    scheduler = euler(base, steps, denoise)
    sigmas = [float(sigma) for sigma in scheduler.sigmas]
    denoised = denoiser(base, scheduler, image, mask, {positive, negative})
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed)).to(latent)
    x = starting_latent(base, latent, start, hole) + noise * starting_scale(scheduler)
    for index, t in enumerate(progress(scheduler.timesteps)):
        x = torch.where(hole > 0, x, latent + sigmas[index] * noise)
        position = schedule_position(sigmas[index], sigmas, steps)
        call = partial(denoised, x, t, sigmas[index])
        x0 = predict(base, method, call, hole, positive, negative, position, steps)
        x0 = torch.where(hole > 0, x0, latent)
        x = scheduler.step(x0, t, x).prev_sample
    return ((base.decode(x) + 1) / 2).clamp(0, 1)


def euler(base: Base, steps: int, denoise: float = 1.0) -> EulerDiscreteScheduler:
    """Euler steps over the timesteps of ComfyUI's `simple` scheduler, on the network's device.

    Below a `denoise` of 1 they are the last `steps` of a schedule of `steps` / `denoise`, as in KSampler.
    """
    scheduler = EulerDiscreteScheduler.from_config(base.schedule, prediction_type="sample")
    whole, trained = int(steps / denoise), scheduler.config["num_train_timesteps"]
    timesteps = [trained - 1 - int(index * (trained / whole)) for index in range(whole)]
    scheduler.set_timesteps(timesteps=timesteps[-steps:], device=base.unet.device)
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
    base: Base, scheduler: EulerDiscreteScheduler, image: Tensor, mask: Tensor, texts: set[str]
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
        scaled = torch.cat([scheduler.scale_model_input(x, t), *condition], dim=1).to(base.unet.dtype)
        rows = prompts[text].context.expand(len(x), -1, -1).to(scaled)
        out = base.unet(scaled, t, rows, added_cond_kwargs=prompts[text].extra or None).sample.float()
        if base.schedule["prediction_type"] == "v_prediction":
            return x / (sigma**2 + 1) - out * sigma / (sigma**2 + 1) ** 0.5
        return x - sigma * out

    return denoised


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


def masked_grey(image: Tensor, mask: Tensor) -> Tensor:
    """The picture an inpainting network of the SDXL family is shown: mid-grey in the hole."""
    return torch.where(mask[:, None] > 0.5, 0.5, image)

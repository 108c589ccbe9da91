"""The mini model's autoencoder: principal components of patches, or a trained VAE."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from diffusers import AutoencoderKL
from diffusers.optimization import get_cosine_schedule_with_warmup
from einops import rearrange
from torch import Tensor
from tqdm import tqdm

from ...adapters import mini as mini_files
from ...kernels.patches import PatchAutoencoder
from ...kernels.scenes import draw_scenes
from ..images.holes import random_masks
from .config import MiniConfig
from .network import half_precision
from .progress import Log

Encode = Callable[[Tensor], Tensor]
"""Pictures [B, 3, H, W] in -1..1 -> scaled latents."""


def fit_patches(config: MiniConfig, device: torch.device, log: Log) -> Encode:
    """Principal components of patches in place of a VAE."""
    pictures = drawn_pictures(config, 64, torch.Generator(device).manual_seed(config.seed))
    fitted, held_out = torch.cat([next(pictures) for _ in range(15)]), torch.cat([next(pictures) for _ in range(3)])
    autoencoder = fit_patch_autoencoder(fitted, config.latent_channels, config.patch).to(device)
    error = (autoencoder.decode(autoencoder.encode(held_out)) - held_out).square().mean().item()
    log.write(event="patches", psnr=-10 * math.log10(error / 4))
    structure = {"class": "PatchAutoencoder", "channels": config.latent_channels, "patch": config.patch}
    mini_files.save(config.output, "vae", autoencoder.state_dict(), structure)
    return autoencoder.encode


def train_vae(config: MiniConfig, device: torch.device, log: Log) -> Encode:
    """A 4-channel VAE on L1 + squared error and a light KL term; its scaling factor makes latents unit variance."""
    assert config.vae_channels
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(config.vae_channels),
        up_block_types=("UpDecoderBlock2D",) * len(config.vae_channels),
        block_out_channels=config.vae_channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=32,
        sample_size=config.size,
        force_upcast=False,
    ).to(device)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, config.vae_steps // 50, config.vae_steps)
    generator = torch.Generator(device).manual_seed(config.seed)
    pictures = drawn_pictures(config, config.vae_batch, generator)
    for step in (progress := tqdm(range(config.vae_steps), desc="VAE")):
        holes = random_masks(config.vae_batch, config.size, generator)
        holes[config.vae_batch // 4 :] = 0  # a quarter is shown with the grey hole that the network will be shown
        picture = next(pictures) * (1 - holes[:, None])
        with torch.autocast(device.type, torch.bfloat16, enabled=half_precision(config, device)):
            posterior = vae.encode(picture).latent_dist
            decoded = vae.decode(posterior.sample()).sample
        error = decoded.float() - picture
        loss = error.abs().mean() + 4 * error.square().mean() + 1e-6 * posterior.kl().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == config.vae_steps - 1:
            psnr = -10 * math.log10(float(error.detach().square().mean()) / 4)
            progress.set_postfix(psnr=f"{psnr:.1f} dB")
            log.write(event="vae", step=step, loss=loss.item(), psnr=psnr)
    vae.eval().requires_grad_(False)
    held_out = torch.cat([next(pictures)[:16] for _ in range(8)])
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in held_out.split(16)])
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    mini_files.save(config.output, "vae", vae.state_dict(), {"class": "AutoencoderKL", **vae.config})
    return lambda pictures: vae.encode(pictures).latent_dist.mean * vae.config.scaling_factor


def drawn_pictures(config: MiniConfig, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless pictures [B, 3, H, W] in -1..1, of each difficulty in turn."""
    while True:
        for difficulty in config.difficulties:
            yield 2 * draw_scenes(batch, config.size, generator, difficulty=difficulty).picture() - 1


def fit_patch_autoencoder(pictures: Tensor, channels: int, patch: int) -> PatchAutoencoder:
    """The `channels` leading principal components of the patches of `pictures` [B, 3, H, W] in -1..1.

    Each channel is scaled by the square root of its deviation, then all by one factor, so that latents have unit
    variance on the whole and coarse structure still outweighs detail: a diffusion model learns it first.
    """
    model = PatchAutoencoder(channels, patch)
    mean = pictures.mean(dim=(0, 2, 3))
    patches = rearrange(pictures - mean[:, None, None], "b c (h p) (w q) -> (b h w) (c p q)", p=patch, q=patch)
    variance, axes = torch.linalg.eigh(patches.T.double() @ patches.double() / len(patches))
    variance, axes = variance.flip(0)[:channels], axes.flip(1)[:, :channels].T
    scale = variance.pow(-0.25)
    scale = scale / (variance * scale.square()).mean().sqrt()
    shape = (channels, 3, patch, patch)
    model.analysis.copy_((axes * scale[:, None]).reshape(shape))
    model.synthesis.copy_((axes / scale[:, None]).reshape(shape))
    model.mean.copy_(mean)
    return model

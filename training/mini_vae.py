"""The mini model's autoencoder: principal components of patches, or a trained VAE."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch import Tensor
from tqdm import tqdm

from ..adapters import mini as mini_files
from ..kernels.patches import fit_patch_autoencoder
from ..kernels.scenes import draw_scenes
from .holes import random_masks

if TYPE_CHECKING:
    from .mini import Log, MiniConfig

Encode = Callable[[Tensor], Tensor]
"""Pictures [B, 3, H, W] in -1..1 -> scaled latents."""


def fit_patches(config: MiniConfig, accelerator: Accelerator, log: Log) -> Encode:
    """Principal components of patches in place of a VAE."""
    generator = torch.Generator(accelerator.device).manual_seed(config.seed)
    pictures = torch.cat([2 * draw_scenes(64, config.size, generator).picture() - 1 for _ in range(16)])
    autoencoder = fit_patch_autoencoder(pictures, config.latent_channels, config.vae_factor).to(accelerator.device)
    unseen = 2 * draw_scenes(64, config.size, generator).picture() - 1
    error = (autoencoder.decode(autoencoder.encode(unseen)) - unseen).square().mean().item()
    log.write(event="patches", psnr=-10 * math.log10(error / 4))
    structure = {"class": "PatchAutoencoder", "channels": config.latent_channels, "patch": config.vae_factor}
    mini_files.save(config.output, "vae", autoencoder.state_dict(), structure)
    return autoencoder.encode


def train_vae(config: MiniConfig, accelerator: Accelerator, log: Log) -> Encode:
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
    )
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, config.vae_steps // 50, config.vae_steps)
    model, optimizer = accelerator.prepare(vae, optimizer)
    generator = torch.Generator(accelerator.device).manual_seed(config.seed)
    progress = tqdm(range(config.vae_steps), desc="VAE", disable=not accelerator.is_local_main_process)
    for step in progress:
        picture = 2 * draw_scenes(config.vae_batch, config.size, generator).picture() - 1
        holes = random_masks(config.vae_batch, config.size, generator)
        holes[config.vae_batch // 4 :] = 0  # a quarter is shown with the grey hole that the network will be shown
        picture = picture * (1 - holes[:, None])
        with accelerator.autocast():
            posterior = vae.encode(picture).latent_dist
            decoded = vae.decode(posterior.sample()).sample
        error = decoded.float() - picture
        loss = error.abs().mean() + 4 * error.square().mean() + 1e-6 * posterior.kl().mean()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == config.vae_steps - 1:
            psnr = -10 * math.log10(float(error.detach().square().mean()) / 4)
            progress.set_postfix(psnr=f"{psnr:.1f} dB")
            log.write(event="vae", step=step, loss=loss.item(), psnr=psnr)
    vae.eval().requires_grad_(False)
    pictures = torch.cat([draw_scenes(16, config.size, generator).picture() for _ in range(8)])
    latents = vae.encode(2 * pictures - 1).latent_dist.mean
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    mini_files.save(config.output, "vae", vae.state_dict(), {"class": "AutoencoderKL", **vae.config})
    return lambda pictures: vae.encode(pictures).latent_dist.mean * vae.config.scaling_factor

"""A linear autoencoder of picture patches: what a VAE is to a latent diffusion model, in closed form.

The leading principal components of p×p patches. The mini model's CPU preset uses it in place of a trained VAE.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchAutoencoder(nn.Module):
    """Latents [B, C, H/p, W/p] from pictures [B, 3, H, W] in -1..1, and back.

    Args:
        channels: latent channels C, at most 3·p².
        patch: side p of a patch in pixels; H and W must be multiples of it.
    """

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.analysis = nn.Parameter(torch.zeros(channels, 3, patch, patch), requires_grad=False)
        self.synthesis = nn.Parameter(torch.zeros(channels, 3, patch, patch), requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(3), requires_grad=False)

    def encode(self, picture: Tensor) -> Tensor:
        return F.conv2d(picture - self.mean[:, None, None], self.analysis, stride=self.patch)

    def decode(self, latent: Tensor) -> Tensor:
        return F.conv_transpose2d(latent, self.synthesis, stride=self.patch) + self.mean[:, None, None]

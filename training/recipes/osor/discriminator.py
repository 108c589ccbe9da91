"""OSOR's discriminator: patches of a picture at four scales, each judged by how much of it was painted.

A frozen network gives features at four strides; small heads on them are all that is trained. A patch's target is the
share of it that lies outside the mask (arXiv 2606.28094, Section 3.3 and Appendix B.6 and B.7).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ....kernels.regions import latent_mask
from ...base_models.weights import load_whole, read_weights
from .settings import Guidance, MissingWeights

STAGES = 4
OPEN_CLIP = {
    "convnext_base_w": "convnext_base.clip_laion2b_augreg",
    "convnext_base_w_320": "convnext_base.clip_laiona_augreg_320",
    "convnext_large_d": "convnext_large_mlp.clip_laion2b_augreg",
    "convnext_large_d_320": "convnext_large_mlp.clip_laion2b_ft_soup_320",
    "convnext_xxlarge": "convnext_xxlarge.clip_laion2b_soup",
}
"""OpenCLIP's names of ConvNeXts, and timm's of the best of each one's weights; timm's own `convnext_xxlarge` is tuned on
ImageNet."""


class Discriminator(nn.Module):
    """Logit maps at four scales, high for what looks real, from pictures [B, 3, H, W] in -1..1.

    It is always in evaluation mode, so that the heads' spectral norms stand still in `forward`; `advance` moves them.

    Args:
        trunk: from `load_trunk`.
        width: channels of the heads; 512 in the paper.
        scale: pictures are enlarged by this first; 1 in the paper.
    """

    def __init__(self, trunk: Trunk, width: int = 512, scale: float = 1.0) -> None:
        super().__init__()
        self.trunk, self.scale = trunk.requires_grad_(False), scale
        self.heads = nn.ModuleList(head(channels, width) for channels in trunk.channels)
        self.train(False)

    def train(self, mode: bool = True) -> Discriminator:
        return super().train(False)

    def forward(self, picture: Tensor) -> list[Tensor]:
        return self.judge(self.features(picture))

    def features(self, picture: Tensor) -> list[Tensor]:
        """The features that the heads are given, in fp32: [B, C, h, w] at strides 4, 8, 16 and 32."""
        if self.scale != 1:
            picture = F.interpolate(picture, scale_factor=self.scale, mode="bilinear", antialias=True)
        found = [feature.float() for feature in self.trunk(picture)]
        if min(found[-1].shape[-2:]) < 3:
            height, width = picture.shape[-2:]
            raise ValueError(
                f"The discriminator sees pictures of {width}x{height}, expected sides over 64: train at a larger size, "
                "or enlarge what it sees by discriminator_scale."
            )
        return found

    def judge(self, features: list[Tensor]) -> list[Tensor]:
        """Logits [B, h, w] at half the size of each of the features."""
        with torch.autocast(features[0].device.type, enabled=False):
            return [head(feature)[:, 0] for head, feature in zip(self.heads, features, strict=True)]

    @torch.no_grad()
    def advance(self) -> None:
        """One power iteration of every spectral norm. Once a step, so that it does not hang on the number of passes."""
        convolutions: list[Any] = [layer for layer in self.heads.modules() if isinstance(layer, nn.Conv2d)]
        for layer in convolutions:
            layer.parametrizations.weight.train()
            _ = layer.weight
            layer.parametrizations.weight.eval()


class Trunk(nn.Module):
    """The last four stages of a timm network, from pictures in -1..1."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.channels: list[int] = network.feature_info.channels()[-STAGES:]
        for name in ("mean", "std"):
            value = torch.tensor(network.pretrained_cfg[name])[:, None, None]
            self.register_buffer(name, value, persistent=False)

    def forward(self, picture: Tensor) -> list[Tensor]:
        normalized = ((picture + 1) / 2 - self.mean) / self.std
        return self.network(normalized)[-STAGES:]


def load_trunk(name: str, weights: Path | None, missing: MissingWeights, dtype: torch.dtype) -> Trunk:
    """A network of timm as a trunk, or one of OpenCLIP's ConvNeXts.

    Args:
        name: timm's, of architecture and weights, e.g. `convnext_xxlarge.clip_laion2b_soup`, or one of `OPEN_CLIP`; it
            also sets mean and deviation.
        weights: a file of them, timm's or OpenCLIP's.
        missing: what to do where no file is given.

    Raises:
        ValueError: timm knows no such network, there are no weights, or the file's do not fit.
        FileNotFoundError: there is no such file.
    """
    import timm

    name = OPEN_CLIP.get(name, name)
    if not timm.is_model(name):
        raise ValueError(
            f"timm knows no network {name}: give one of timm.list_models(pretrained=True), such as "
            "convnext_xxlarge.clip_laion2b_soup."
        )
    if weights is not None and not weights.is_file():
        raise FileNotFoundError(f"There is no file {weights}: give the weights of {name}.")
    if weights is None and missing == "stop":
        raise ValueError(
            f"The discriminator's {name} has no weights: give their file as trunk_weights, or set missing_weights to "
            "download (by timm) or random."
        )
    network: Any = timm.create_model(name, pretrained=weights is None and missing == "download", features_only=True)
    if len(network.feature_info.channels()) < STAGES:
        raise ValueError(f"{name} has {len(network.feature_info.channels())} stages, expected at least {STAGES}.")
    if weights is not None:
        fill(network, name, weights)
    return Trunk(network.to(dtype))


def fill(network: Any, name: str, weights: Path) -> None:
    """Load all of a trunk from a file, which timm would do as far as the names fit."""
    import timm

    held = timm.models.clean_state_dict(read_weights(weights))
    with torch.device("meta"):
        whole = timm.create_model(name)
    to_timm = getattr(sys.modules[type(whole).__module__], "checkpoint_filter_fn", lambda given, _: given)
    try:
        given = to_timm(dict(held), whole)
    except (KeyError, RuntimeError):  # what it does to the names of another network
        given = held
    # Cut into its stages, a network has stem_0 for stem.0.
    by_name = {key.replace(".", "_"): value for key, value in given.items()}
    found = {key: by_name.get(key.replace(".", "_")) for key in network.state_dict()}
    expected = f"{name}: give timm's or OpenCLIP's weights of this very network, or its name as trunk."
    load_whole(network, found, weights, expected)


def head(channels: int, width: int) -> nn.Sequential:
    """[B, C, h, w] to logits [B, 1, h/2, w/2]: what a patch is, seen through a blur against aliasing (Figure 11)."""
    from timm.layers.blur_pool import BlurPool2d

    return nn.Sequential(
        spectral_norm(nn.Conv2d(channels, width, 3, padding=1)),
        nn.LeakyReLU(0.2),
        BlurPool2d(width, filt_size=5, stride=2),
        spectral_norm(nn.Conv2d(width, 1, 1)),
    )


def guidance_maps(mask: Tensor, logits: list[Tensor], kind: Guidance, sigma: float) -> list[Tensor]:
    """w_k of mask [B, H, W] for each of the logit maps, [B, h, w] in 0..1.

    Args:
        kind: how much of a patch is masked (occupancy, OSOR), or one of the variants it is compared with: whether its
            first pixel is (hard), and that map blurred (gaussian).
        sigma: of the blur, in patches.
    """
    maps = []
    for logit in logits:
        height, width = logit.shape[-2:]
        if kind == "occupancy":
            found = F.adaptive_avg_pool2d(mask[:, None], (height, width))
        else:
            found = latent_mask(mask, height, width, pooling="nearest")
        if kind == "gaussian":
            reach = min(2 * round(3 * sigma) + 1, 2 * min(height, width) - 1)
            found = gaussian_blur2d(found, (reach, reach), (sigma, sigma))
        maps.append(found[:, 0])
    return maps


def discriminator_loss(real: list[Tensor], fake: list[Tensor], guidance: list[Tensor]) -> Tensor:
    """L_D without R1 (Eq. 7), [B]: real patches are real, painted ones as real as the share of them that was not painted.

    Args:
        real, fake, guidance: logits and w_k, each [B, h, w] at every scale; the scales are summed.
    """
    return sum_of(
        F.softplus(-r).mean(dim=(1, 2))
        + F.binary_cross_entropy_with_logits(f, 1 - w, reduction="none").mean(dim=(1, 2))
        for r, f, w in zip(real, fake, guidance, strict=True)
    )


def adversarial_loss(fake: list[Tensor], guidance: list[Tensor]) -> Tensor:
    """L_adv (Eq. 8), [B]: painted patches should look real; each scale is weighed by what is painted and summed."""
    return sum_of(
        (w * F.softplus(-f)).sum(dim=(1, 2)) / w.sum(dim=(1, 2)).clamp(min=1e-4)
        for f, w in zip(fake, guidance, strict=True)
    )


def r1_penalty(logits: list[Tensor], features: list[Tensor]) -> Tensor:
    """R1 (Eq. 16), [B]: the mean square of the logits' gradient by the heads' inputs, mean over the scales.

    Args:
        logits: of real pictures.
        features: that they were made of; leaves that require a gradient.
    """
    total = sum_of(logit.sum() for logit in logits)
    gradients = torch.autograd.grad(total, features, create_graph=True)
    return sum_of(gradient.square().mean(dim=(1, 2, 3)) for gradient in gradients) / len(features)


def sum_of(terms: Any) -> Tensor:
    return torch.stack(list(terms)).sum(dim=0)

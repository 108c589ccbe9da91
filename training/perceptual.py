"""LPIPS as a loss: how different two pictures look, by the features of a classifier (arXiv 1801.03924)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import nn

from .discriminator import MissingWeights

Classifier = Literal["vgg", "alex", "squeeze"]


def load_lpips(network: Classifier, weights: Path | None, missing: MissingWeights) -> nn.Module:
    """LPIPS, frozen: two pictures [B, 3, H, W] in -1..1 to their distances [B, 1, 1, 1].

    Args:
        weights: torchvision's file of the classifier; LPIPS' own few weights come with its package.
        missing: what to do where no file is given. A random classifier is compared layer by layer, without LPIPS' own.

    Raises:
        ValueError: there are no weights.
        FileNotFoundError: there is no such file.
    """
    from lpips import LPIPS

    if weights is not None and not weights.is_file():
        raise FileNotFoundError(f"There is no file {weights}: give torchvision's weights of LPIPS' {network}.")
    if weights is None and missing == "stop":
        raise ValueError(
            f"LPIPS' {network} has no weights: give torchvision's file as lpips_weights, set missing_weights to download "
            "(by torchvision) or random, or lpips_weight to 0."
        )
    random = weights is None and missing == "random"
    made = LPIPS(net=network, pnet_rand=random or weights is not None, lpips=not random, verbose=False)
    if weights is not None:
        held = torch.load(weights, map_location="cpu", weights_only=True)
        # LPIPS cuts torchvision's `features` into slices and keeps the numbers of their layers.
        names = {name: f"features.{name.partition('.')[2]}" for name in made.net.state_dict()}
        if not set(names.values()) <= held.keys():
            raise ValueError(f"{weights.name} holds no {network} of torchvision: expected features.0.weight and so on.")
        made.net.load_state_dict({name: held[stored] for name, stored in names.items()})
    return made.requires_grad_(False)

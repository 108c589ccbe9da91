"""LPIPS as a loss: how different two pictures look, by the features of a classifier (arXiv 1801.03924)."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ...base_models.weights import load_whole, read_weights
from .settings import Classifier, MissingWeights


def load_lpips(network: Classifier, weights: Path | None, missing: MissingWeights) -> nn.Module:
    """LPIPS, frozen: two pictures [B, 3, H, W] in -1..1 to their distances [B, 1, 1, 1].

    Args:
        weights: torchvision's file of the classifier; LPIPS' own few weights come with its package.
        missing: what to do where no file is given. A random classifier is compared layer by layer, without LPIPS' own.

    Raises:
        ValueError: there are no weights, or the file's do not fit.
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
        held = read_weights(weights)
        # LPIPS cuts torchvision's `features` into slices and keeps the numbers of their layers.
        found = {name: held.get(f"features.{name.partition('.')[2]}") for name in made.net.state_dict()}
        expected = f"{network}: give torchvision's weights of it, features.0.weight and so on."
        load_whole(made.net, found, weights, expected)
    return made.requires_grad_(False)

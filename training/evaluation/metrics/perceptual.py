"""LPIPS: how different two pictures look to a classifier (arXiv 1801.03924)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

# The public class always downloads the classifier; this is the network that it makes.
from torchmetrics.functional.image.lpips import _NoTrainLpips as LpipsNetwork

from ...base_models.weights import load_whole, read_weights
from .facts import MetricFacts
from .metric import Metric
from .networks import DOWNLOAD
from .result import Result

LEAST = 32
"""Shorter sides leave AlexNet's last layers no pixel."""


class AlexLpips:
    """LPIPS' distance by AlexNet, whose calibration comes with torchmetrics."""

    def __init__(self, path: Path, device: torch.device | str) -> None:
        """Load torchvision's file of AlexNet, or download it.

        Raises:
            ValueError, OSError: the file holds other weights, or cannot be had.
        """
        network = LpipsNetwork(net="alex", pnet_rand=path != DOWNLOAD)
        if path != DOWNLOAD:
            held = read_weights(path)
            # LPIPS cuts torchvision's `features` into slices and keeps the numbers of their layers.
            found = {name: held.get(f"features.{name.partition('.')[2]}") for name in network.net.state_dict()}
            load_whole(network.net, found, path, "AlexNet: give torchvision's file of it, features.0.weight and so on")
        self.network: nn.Module = network.to(device)
        self.device = device

    @torch.inference_mode()
    def distance(self, first: Tensor, second: Tensor) -> float:
        """The distance of two pictures [3, H, W] in 0..1."""
        return self.network(first[None].to(self.device), second[None].to(self.device), normalize=True).item()


class Lpips(Metric):
    """LPIPS between the method's picture and the truth; None without one, or with a side of less than 32 pixels."""

    def __init__(self, facts: MetricFacts, network: AlexLpips) -> None:
        super().__init__(facts)
        self.network = network

    def measure(self, results: Sequence[Result]) -> list[float | None]:
        return [
            None
            if result.truth is None or min(result.truth.shape[1:]) < LEAST
            else self.network.distance(result.after, result.truth)
            for result in results
        ]

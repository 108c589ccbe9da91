"""DINO (arXiv 2104.14294) and DINOv2 (arXiv 2304.07193), and how alike they find a fill and the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel

from .facts import MetricFacts
from .metric import Metric
from .networks import NETWORKS
from .pretrained import pretrained, pretrained_network, show
from .result import Result

KINDS = ("vit", "dinov2", "dinov2_with_registers", "dinov3_vit")
"""The names that transformers gives to the networks whose last states are a class token, perhaps registers, and the patches."""


class Dino:
    """Tokens of pictures.

    Args:
        name: "dino" or "dinov2", in `networks.NETWORKS`.
    """

    def __init__(self, name: str, path: Path, device: torch.device | str) -> None:
        where = NETWORKS[name].source
        self.model = pretrained_network(AutoModel, path, where).to(device)
        if (kind := self.model.config.model_type) not in KINDS:
            raise ValueError(f"it holds a model of the kind {kind}, expected one of {', '.join(KINDS)}")
        self.processor = pretrained(AutoImageProcessor, path, where)
        self.device = device

    @torch.inference_mode()
    def tokens(self, picture: Tensor) -> Tensor:
        """Last states [1 + N, D] of a picture [3, H, W] in 0..1: the class token, then the patches row by row."""
        states = self.model(pixel_values=show(self.processor, picture).to(self.device)).last_hidden_state[0]
        registers = getattr(self.model.config, "num_register_tokens", 0)
        return torch.cat([states[:1], states[1 + registers :]]).cpu()


class DinoSimilarity(Metric):
    """The cosine of the class tokens of the method's picture and the truth (MILD). None without a truth."""

    def __init__(self, facts: MetricFacts, network: Dino) -> None:
        super().__init__(facts)
        self.network = network

    def measure(self, results: Sequence[Result]) -> list[float | None]:
        return [
            None
            if result.truth is None
            else F.cosine_similarity(
                self.network.tokens(result.after)[0], self.network.tokens(result.truth)[0], dim=0
            ).item()
            for result in results
        ]

"""CLIP (arXiv 2103.00020) and the metrics that ask what it reads in a fill."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

from .crops import box_of, crop
from .facts import MetricFacts
from .metric import Metric
from .networks import NETWORKS
from .pretrained import pretrained, pretrained_network, show
from .result import Result


class Clip:
    """Embeddings of pictures and words, of length 1.

    Args:
        name: "clip" or "clip-336", in `networks.NETWORKS`.
    """

    def __init__(self, name: str, path: Path, device: torch.device | str) -> None:
        where = NETWORKS[name].source
        self.model = pretrained_network(CLIPModel, path, where).to(device)
        self.processor = pretrained(AutoImageProcessor, path, where)
        self.tokenizer = pretrained(AutoTokenizer, path, where)
        self.device = device

    @torch.inference_mode()
    def picture(self, picture: Tensor) -> Tensor:
        """The embedding [D] of a picture [3, H, W] in 0..1."""
        shown = show(self.processor, picture).to(self.device)
        pooled = self.model.vision_model(pixel_values=shown).pooler_output
        return F.normalize(self.model.visual_projection(pooled)[0], dim=0).cpu()

    @torch.inference_mode()
    def words(self, text: str) -> Tensor:
        """The embedding [D] of words."""
        tokens = self.tokenizer(text, return_tensors="pt", truncation=True, max_length=77).to(self.device)
        pooled = self.model.text_model(**tokens).pooler_output
        return F.normalize(self.model.text_projection(pooled)[0], dim=0).cpu()


class ClipMetric(Metric):
    """A metric that looks through CLIP."""

    def __init__(self, facts: MetricFacts, network: Clip) -> None:
        super().__init__(facts)
        self.network = network


class ClipScore(ClipMetric):
    """100 times the cosine of the crop to the box around what was to go and the word "background" (Attentive Eraser, LRNR).

    None without a mask.
    """

    def measure(self, results: Sequence[Result]) -> list[float | None]:
        background = self.network.words("background")
        boxes = ((result, box_of(result.hole)) for result in results)
        return [
            None if box is None else score(self.network.picture(crop(result.after, box)), background)
            for result, box in boxes
        ]


class ClipCaption(ClipMetric):
    """100 times the cosine of the whole picture and its caption (BrushBench). None without a caption."""

    def measure(self, results: Sequence[Result]) -> list[float | None]:
        return [
            None
            if result.caption is None
            else score(self.network.picture(result.after), self.network.words(result.caption))
            for result in results
        ]


class ClipSimilarity(ClipMetric):
    """The cosine of the method's picture and the truth (MILD's "CLIP"). None without a truth."""

    def measure(self, results: Sequence[Result]) -> list[float | None]:
        return [
            None
            if result.truth is None
            else torch.dot(self.network.picture(result.after), self.network.picture(result.truth)).item()
            for result in results
        ]


class ClipConsensus(ClipMetric):
    """How far the fills of one picture from several seeds are from one another (Attentive Eraser; Wasserman et al. 2024).

    The standard deviation of the embeddings, of length 1, of the crops to the box around what was to go: the root of their
    mean squared distance from their mean. The papers print no formula, so their values are no yardstick for these. None for
    fewer than two seeds, or without a mask.
    """

    def measure_seeds(self, results: Sequence[Result]) -> float | None:
        boxes = ((result, box_of(result.hole)) for result in results)
        found = [self.network.picture(crop(result.after, box)) for result, box in boxes if box is not None]
        return None if len(found) < 2 else deviation(torch.stack(found)).item()


def score(picture: Tensor, words: Tensor) -> float:
    """CLIP score of two embeddings [D] of length 1, 0 at the least (Hessel et al. 2021)."""
    return 100 * max(0.0, torch.dot(picture, words).item())


def deviation(embeddings: Tensor) -> Tensor:
    """Standard deviation of embeddings [N, D] as points: the root of their mean squared distance from their mean."""
    return (embeddings - embeddings.mean(dim=0)).square().sum(dim=1).mean().sqrt()

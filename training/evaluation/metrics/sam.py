"""SAM (arXiv 2304.02643): its features of a picture, and all segments that it finds in one."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from transformers import AutoImageProcessor, SamModel, pipeline

from .networks import NETWORKS
from .pretrained import pretrained, pretrained_network, show


class Sam:
    """SAM of transformers.

    Attributes:
        stability, quality: the least stability under another threshold, and the least quality by its own estimate, of a
            segment; SAM's own defaults.
    """

    def __init__(self, path: Path, device: torch.device | str) -> None:
        where = NETWORKS["sam"].source
        self.model = pretrained_network(SamModel, path, where).to(device)
        self.processor = pretrained(AutoImageProcessor, path, where)
        self.finder = pipeline(
            "mask-generation", model=self.model, image_processor=self.processor, device=torch.device(device)
        )
        self.device = device
        self.stability, self.quality = 0.95, 0.88

    @torch.inference_mode()
    def features(self, picture: Tensor) -> Tensor:
        """Features [C, h, w] of a picture [3, H, W] in 0..1; what it is padded with to a square has none."""
        shown = show(self.processor, picture).to(self.device)
        whole = self.model.get_image_embeddings(shown)[0].cpu()
        height, width = picture.shape[1:]
        side = max(height, width)
        return whole[:, : math.ceil(whole.shape[1] * height / side), : math.ceil(whole.shape[2] * width / side)]

    def segments(self, picture: Tensor) -> list[Tensor]:
        """All segments, [H, W] of bool, that it finds from a grid of points in a picture [3, H, W] in 0..1."""
        found = self.finder(
            to_pil_image((picture.clamp(0, 1) * 255).round().to(torch.uint8)),
            pred_iou_thresh=self.quality,
            stability_score_thresh=self.stability,
        )
        return [torch.as_tensor(mask) > 0 for mask in found["masks"]]

"""Pictures as raters see them: PNG files, the object marked in red."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from ..metrics.result import Result

LONGEST = 1024
"""Pixels of the longer side; larger pictures are scaled down, as the models would do themselves."""
RED, STRENGTH = (1.0, 0.0, 0.0), 0.5


def shown(result: Result, kinds: Sequence[str]) -> list[bytes]:
    """PNG files of a result: "before", "marked" (the object in red) and "after"."""
    pictures = {"before": result.before, "after": result.after, "marked": marked(result.before, result.mask)}
    return [png(pictures[kind]) for kind in kinds]


def marked(picture: Tensor, mask: Tensor) -> Tensor:
    """A picture [3, H, W] with red over what a mask [H, W] marks."""
    red = picture.new_tensor(RED)[:, None, None]
    return torch.lerp(picture, red.expand_as(picture), STRENGTH * mask)


def png(picture: Tensor, longest: int = LONGEST) -> bytes:
    """A PNG file of a picture [3, H, W] in 0..1, its longer side at most `longest` pixels."""
    height, width = picture.shape[1:]
    if (scale := longest / max(height, width)) < 1:
        size = max(1, round(height * scale)), max(1, round(width * scale))
        picture = F.interpolate(picture[None], size, mode="bicubic", antialias=True)[0]
    file = io.BytesIO()
    to_pil_image((picture.clamp(0, 1) * 255).round().to(torch.uint8)).save(file, "PNG")
    return file.getvalue()

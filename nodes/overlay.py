"""A picture with each of its instances tinted and numbered, so that "2, 3" means something to the artist."""

from __future__ import annotations

import colorsys

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont

from ..kernels import regions

SMALLEST = 512
"""Smaller pictures are enlarged to this, or a number would cover a person."""


def numbered(masks: torch.Tensor, image: torch.Tensor | None = None) -> torch.Tensor:
    """Draws masks [N,H,W] of 0 and 1 over a picture [h,w,3] in 0..1, or over grey: [1,height,width,3].

    Each instance has a colour of its own, and its number, from 1, stands on its largest part, as far inside of it as it
    gets.
    """
    from scipy.ndimage import distance_transform_edt

    if image is None:
        image = masks.new_full((*masks.shape[-2:], 3), 0.35)
    drawn, height, width = image.float().cpu().clone(), *image.shape[:2]
    places = []
    for index, mask in enumerate(regions.resize_mask(masks.cpu(), height, width)):
        # Colours a golden angle apart are far from those of their neighbours.
        color = torch.tensor(colorsys.hsv_to_rgb(index * 0.618 % 1, 0.75, 1.0))
        drawn = torch.where(mask[..., None] > 0, torch.lerp(drawn, color, 0.45), drawn)
        inside = distance_transform_edt(numpy.pad(mask.numpy(), 1))[1:-1, 1:-1]
        places.append(numpy.unravel_index(int(inside.argmax()), inside.shape))
    picture = Image.fromarray((drawn * 255).round().to(torch.uint8).numpy())
    scale = max(1.0, SMALLEST / max(height, width))
    if scale > 1:
        picture = picture.resize((round(width * scale), round(height * scale)), Image.Resampling.NEAREST)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(max(16, max(picture.size) // 24))
    for index, (row, column) in enumerate(places, start=1):
        place = ((column + 0.5) * scale, (row + 0.5) * scale)
        draw.text(place, str(index), fill="white", font=font, anchor="mm", stroke_width=3, stroke_fill="black")
    return torch.from_numpy(numpy.array(picture))[None].float() / 255

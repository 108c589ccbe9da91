"""Contact sheets: rows of captioned pictures in one picture."""

from __future__ import annotations

from pathlib import Path

from einops import rearrange
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .files import save_picture

_MARGIN = 8


def contact_sheet(path: Path, rows: list[list[tuple[str, Tensor]]], side: int = 192) -> None:
    """Write rows of captioned pictures ([1, 3, H, W] in 0..1), each `side` pixels wide."""
    columns = max(len(row) for row in rows)
    write_page(path, [("", rows)], columns * (side + _MARGIN) + _MARGIN)


def write_page(path: Path, blocks: list[tuple[str, list[list[tuple[str, Tensor]]]]], width: int) -> None:
    """Write a page of blocks, one below the other: a line of text, and rows of captioned pictures ([1, 3, H, W] in 0..1).

    The pictures of a block are as wide as makes its longest row fill the page, which is `width` pixels wide.
    """
    caption, heading, line = ImageFont.load_default(14), ImageFont.load_default(17), 22
    page = Image.new("RGB", (width, 0), "white")
    for text, rows in blocks:
        side = (width - _MARGIN) // max(len(row) for row in rows) - _MARGIN
        tiles = [[(name, _tile(image, side)) for name, image in row] for row in rows]
        heights = [line + max(tile.height for _, tile in row) + _MARGIN for row in tiles]
        top = page.height + (2 * _MARGIN + line if text else _MARGIN)
        grown = Image.new("RGB", (width, top + sum(heights)), "white")
        grown.paste(page, (0, 0))
        draw = ImageDraw.Draw(grown)
        draw.text((_MARGIN, page.height + _MARGIN), text, fill="black", font=heading)
        for row, height in zip(tiles, heights, strict=True):
            for column, (name, tile) in enumerate(row):
                left = _MARGIN + column * (side + _MARGIN)
                draw.text((left, top + 2), name, fill="black", font=caption)
                grown.paste(tile, (left, top + line))
            top += height
        page = grown
    save_picture(path, page)


def _tile(image: Tensor, side: int) -> Image.Image:
    """A picture [1, 3, H, W] in 0..1, `side` pixels wide."""
    pixels = (rearrange(image.clamp(0, 1), "1 c h w -> h w c") * 255).round().byte().cpu().numpy()
    picture = Image.fromarray(pixels)
    return picture.resize((side, max(1, round(side * picture.height / picture.width))), Image.Resampling.BICUBIC)

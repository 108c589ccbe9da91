"""Draft Fill: an object gone without any model, filled with the picture's own patches."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..kernels import regions
from ..kernels.exemplar import exemplar_fill
from . import host, masks
from .schema import Schema, fixed, seed_widget


class DraftFill(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterDraftFill",
            display_name="Draft Fill",
            category="Unclutter",
            description=(
                "Removes an object without any model: the hole is filled with patches of the same picture. It knows "
                "textures and edges but no meaning. Good for grass, walls and sky, and as a start for a sampler."
            ),
            search_aliases=[
                "remove object",
                "erase",
                "inpaint",
                "fill",
                "fill masked area",
                "patchmatch",
                "content-aware fill",
                "移除物体",
                "消除",
            ],
            inputs=[
                io.Image.Input(
                    "image", tooltip="The picture, of any size. The time follows the hole, not the picture."
                ),
                io.Mask.Input("mask", tooltip="White (1.0) is removed. One for all pictures, or one for each."),
                io.Mask.Input(
                    "avoid",
                    optional=True,
                    tooltip="White (1.0) is never copied into the hole: other people, look-alikes, text. One for each "
                    "picture; several masks for a single picture count together.",
                ),
                fixed(
                    seed_widget(
                        "Another number gives another fill. The same number always gives the same one.", optional=True
                    )
                ),
            ],
            outputs=[
                io.Image.Output(
                    "IMAGE",
                    display_name="image",
                    tooltip="The picture with the hole filled. Every pixel outside of the mask stays as it was.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, image: torch.Tensor, mask: torch.Tensor, avoid: torch.Tensor | None = None, seed: int = 0
    ) -> io.NodeOutput:
        return io.NodeOutput(draft_fill(image, mask, avoid, seed))


def draft_fill(
    image: torch.Tensor, mask: torch.Tensor, avoid: torch.Tensor | None = None, seed: int = 0
) -> torch.Tensor:
    """Fills the mask with the picture's own patches, with ComfyUI's progress bar; the run's cancel button stops it.

    Args:
        image: [B,H,W,3] in 0..1.
        mask: masks as a graph holds them, one or B; with one picture, as many as pictures are wanted.
        avoid: what may not be copied, one mask or one for each picture; all of them together for a single picture.

    Returns:
        [max(B, masks),H,W,3] on the image's device and in its dtype.

    Raises:
        ValueError: a picture or a mask that is no picture or no mask, or no background left to copy from.
    """
    masks.check_picture(image)
    pictures, height, width = image.shape[:3]
    hole = regions.normalize_mask(mask.to(image.device), pictures, height, width, skip_empty=True)
    barred = None if avoid is None else _barred(avoid.to(image.device), len(hole), height, width)
    source = image.expand(len(hole), -1, -1, -1).movedim(-1, 1).float()
    filled = exemplar_fill(source, hole, barred, seed, host.tracked)
    return filled.movedim(1, -1).contiguous().to(image.dtype)


def _barred(avoid: torch.Tensor, pictures: int, height: int, width: int) -> torch.Tensor:
    """[pictures,height,width] of 0 and 1; an empty mask bars nothing."""
    count = len(avoid) if avoid.ndim > 2 else 1
    if pictures == 1:
        whole = regions.normalize_mask(avoid, count, height, width, allow_full=True, allow_empty=True)
        return whole.amax(dim=0, keepdim=True)
    if count not in (1, pictures):
        raise ValueError(
            f"{count} masks of what not to copy came for {pictures} pictures: give one for all, or one for each."
        )
    return regions.normalize_mask(avoid, pictures, height, width, allow_full=True, allow_empty=True)


NODES = [DraftFill]

"""Some of the people in a photo removed by a layered eraser: Layered Sampler and Compose Layers in diffusers (MILD)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

from torch import Tensor

from ...adapters import layered
from ...kernels import crowd, seams
from ...kernels.layers import Layers, revealed
from ..base_models.base import Base
from ..base_models.load import load_base
from .layered import erase_layers

Leave = Callable[[Tensor, Tensor, list[int], tuple[int, ...] | None, Callable[[Iterable], Iterable]], Tensor]
"""(picture [1, 3, H, W], masks [N, H, W] of all people, who goes, order from back to front, progress) -> [1, 3, H, W]."""
SIDE = 512
"""Of the pictures that MILD is trained on, where the file does not say."""


def layering(
    base: Path,
    adapters: Path,
    device: str,
    *,
    grow: float,
    context: float,
    feather: int,
    prompt: str,
    negative: str,
    guidance: float,
    steps: int,
    seed: int,
) -> Leave:
    """A layered eraser, on the part of the picture around the people.

    Args:
        context: surroundings as a share of the people's size; infinite for the whole picture.
        prompt: the background in words; empty for those that the eraser was trained with.

    Raises:
        ValueError: the base is no inpainting model, or the file no layered eraser.
    """
    eraser = layered.load(adapters if adapters.is_file() else adapters / "layered.safetensors")
    network = load_base(base, device)
    if not network.inpaints:
        raise ValueError(
            f"The base takes {network.network.config['in_channels']} channels, and layers need an inpainting model: give that "
            "version of the checkpoint."
        )

    def run(
        picture: Tensor,
        masks: Tensor,
        gone: list[int],
        order: tuple[int, ...] | None,
        progress: Callable[[Iterable], Iterable],
    ) -> Tensor:
        layers = take_apart(
            network,
            eraser,
            picture[0],
            masks,
            gone,
            order,
            grow=grow,
            context=context,
            feather=feather,
            prompt=prompt,
            negative=negative,
            guidance=guidance,
            steps=steps,
            seed=seed,
            progress=progress,
        )
        return layers.composed()[0][None]

    return run


def take_apart(
    base: Base,
    eraser: layered.Layered,
    picture: Tensor,
    masks: Tensor,
    gone: list[int],
    order: tuple[int, ...] | None = None,
    *,
    grow: float = 5.0,
    context: float = 0.5,
    feather: int = 4,
    prompt: str = "",
    negative: str = "",
    guidance: float = 5.0,
    steps: int = 25,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Layers:
    """The background behind everyone, and the layers of those of whom more is seen once others are gone.

    Args:
        picture: [3, H, W] in 0..1.
        masks: [N, H, W] in 0..1, everyone in the picture, from 0.
        gone: who is removed.
        order: everyone from back to front; by default the first mask lies furthest back.
        grow: by how much of its size, in percent, a mask is grown to the hole that is filled.

    Raises:
        ValueError: masks that do not fit the picture or each other, or an eraser that does not fit the base.
    """
    masks, holes = crowd.check_people(picture, masks, grow)
    chosen = revealed(masks, gone, order)
    changed, hidden = crowd.row_regions(masks, holes, chosen)
    side = eraser.header.resolution or min(SIDE, base.native_size)
    longest = side if math.isinf(context) else 2 * side
    crop = seams.plan_crop(hidden[-1:], context, base.multiple, side, longest)
    part = crowd.cut(picture[None], crop, "image")[0]
    person, background = eraser.header.prompts
    made, behind = erase_layers(
        base,
        eraser,
        part,
        crowd.cut(masks, crop, "mask"),
        holes=crowd.cut(holes, crop, "mask"),
        wanted=chosen,
        prompts=(person, prompt or background),
        negative=negative,
        guidance=(guidance, guidance),
        steps=steps,
        seed=seed,
        progress=progress,
    )
    results = [made[index].cpu() for index in chosen] + [behind.cpu()]
    placed = [
        crowd.into_picture(picture, result, crop, list(row))
        for result, *row in zip(results, changed, hidden, strict=True)
    ]
    generated = dict(zip(chosen, placed[:-1], strict=True))
    return Layers(picture, placed[-1], masks, holes, generated, frozenset(gone), order, feather)

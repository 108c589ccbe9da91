"""Ways to remove an object on the mini model: paint, copies of the surroundings, and methods with and without adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from ...adapters import mini, one_step
from ...kernels import seams
from ...kernels.exemplar import exemplar_fill
from ..base_models.base import Base
from ..base_models.mini import load_mini
from ..images.flat_fills import grey_fill, ring_fill
from ..paths import recipe_of
from ..sampling.adapters import load_eraser, with_adapters
from ..sampling.methods import MASG, Method, Plain, SelfRectifying
from ..sampling.one_step import erase_once
from ..sampling.sampler import Start, remove

Remove = Callable[[Tensor, Tensor], Tensor]
"""(pictures [B, 3, H, W], masks [B, H, W]) -> pictures."""
RING = "ring median"
PAINT: dict[str, Remove] = {RING: ring_fill, "grey": grey_fill, "exemplar fill": exemplar_fill}
"""Fills that need no model: the median colour around the hole, mid-grey, and copies of the rest of the picture."""


def plain_ways(guidance: float, steps: int, seed: int, model: Path = mini.FOLDER) -> dict[str, Remove]:
    """The mini model without adapters."""
    base = load_mini(model)
    return {
        "mini": sampled(base, steps, seed, Plain()),
        "mini + CFG": sampled(base, steps, seed, Plain(guidance), "background"),
        "mini + MASG": sampled(base, steps, seed, MASG(guidance=guidance), "background"),
        "mini + SRA": sampled(base, steps, seed, SelfRectifying()),
    }


def adapted_ways(
    adapters: tuple[Path, ...], guidance: float, steps: int, seed: int, model: Path = mini.FOLDER
) -> Iterator[tuple[str, Remove]]:
    """Each training in the ways that its paper compares."""
    masg = MASG(guidance=guidance)
    for folder in adapters:
        recipe = recipe_of(folder)
        name = f"{folder.name} ({recipe})"
        if recipe == "osor":
            yield name, once(load_eraser(folder), seed, model)
            continue
        adapted, text = with_adapters(load_mini(model), folder)
        yield name, sampled(adapted, steps, seed, Plain(), text)
        if recipe == "lrnr" and text:
            yield f"{name} + MASG", sampled(adapted, steps, seed, masg, text)
        if recipe == "eradiff":
            yield f"{name} + SRA", sampled(adapted, steps, seed, SelfRectifying(), text)


def sampled(base: Base, steps: int, seed: int, method: Method, text: str = "") -> Remove:
    """Sampling, pasted back."""
    return lambda picture, mask: erase(base, picture, mask, method, steps, seed, positive=text)


def once(adapter: one_step.OneStep, seed: int, model: Path = mini.FOLDER) -> Remove:
    """One call of the network; what it leaves alone has been through the VAE."""
    base = load_mini(model)
    return lambda picture, mask: erase_once(base, adapter, picture, mask, seed=seed).picture


FEATHER = 1


def erase(
    base: Base,
    picture: Tensor,
    mask: Tensor,
    method: Method,
    steps: int,
    seed: int,
    positive: str,
    name: str = "",
    start: Start = "picture",
    denoise: float = 1.0,
) -> Tensor:
    """The removal as an artist would have it: sampled, then pasted back over the untouched picture."""

    def progress(timesteps: Iterable) -> Iterable:
        return tqdm(timesteps, desc=name, disable=not name)

    result = remove(
        base,
        picture,
        mask,
        method,
        positive=positive,
        start=start,
        denoise=denoise,
        steps=steps,
        seed=seed,
        progress=progress,
    )
    return paste_whole(picture, result, mask)


def paste_whole(picture: Tensor, result: Tensor, mask: Tensor) -> Tensor:
    """The result in the mask [B, H, W] and its soft border, the picture [B, 3, H, W] elsewhere."""
    height, width = picture.shape[-2:]
    whole = seams.Crop((seams.Box(0, 0, height, width),) * len(picture), (height, width))
    return seams.paste_back(picture, result, whole, mask, feather_pixels=FEATHER)

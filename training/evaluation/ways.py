"""Ways to remove an object on the mini model: paint, copies of the surroundings, and methods with and without adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor

from ...adapters import mini, one_step
from ...kernels.exemplar import exemplar_fill
from ..images.flat_fills import grey_fill, ring_fill
from ..sampling.adapters import load_eraser, recipe_of, with_adapters
from ..sampling.one_step import erase_once
from ..sampling.sampler import MASG, Base, Method, Plain, SelfRectifying, load_mini
from .demo import erase

Remove = Callable[[Tensor, Tensor], Tensor]
"""(pictures [B, 3, H, W], masks [B, H, W]) -> pictures."""
RING = "ring median"
PAINT: dict[str, Remove] = {RING: ring_fill, "grey": grey_fill, "exemplar fill": exemplar_fill}
"""What needs no model: the median colour around the hole, mid-grey, and copies of the rest of the picture."""


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

"""Ways to remove an object on the mini model: paint, copies of the surroundings, and methods with and without adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from ...adapters import methods as facts
from ...adapters import mini, one_step
from ...kernels import seams
from ...kernels.exemplar import exemplar_fill
from ..base_models.base import Base
from ..base_models.mini import load_mini
from ..images.flat_fills import grey_fill, ring_fill
from ..paths import recipe_of
from ..sampling.adapters import load_eraser, with_adapters
from ..sampling.methods import METHODS, Method, Plain
from ..sampling.one_step import erase_once
from ..sampling.sampler import Start, remove

Remove = Callable[[Tensor, Tensor], Tensor]
"""(pictures [B, 3, H, W], masks [B, H, W]) -> pictures."""
RING = "ring median"
PAINT: dict[str, Remove] = {RING: ring_fill, "grey": grey_fill, "exemplar fill": exemplar_fill}
"""Fills that need no model: the median colour around the hole, mid-grey, and copies of the rest of the picture."""


def removers_without_adapters(guidance: float, steps: int, seed: int, model: Path = mini.FOLDER) -> dict[str, Remove]:
    """The mini model without adapters: plain, guided, and by each method that a training is made for."""
    base = load_mini(model)
    removers = {
        "mini": by_sampling(base, steps, seed, Plain()),
        "mini + CFG": by_sampling(base, steps, seed, Plain(guidance), facts.BACKGROUND),
    }
    for name, known in facts.METHODS.items():
        if known.recipe is not None:
            method = guided_by(METHODS[name], guidance)
            removers[f"mini + {known.title}"] = by_sampling(base, steps, seed, method, method.words)
    return removers


def removers_with_adapters(
    adapters: tuple[Path, ...], guidance: float, steps: int, seed: int, model: Path = mini.FOLDER
) -> Iterator[tuple[str, Remove]]:
    """Each training in the ways that its paper compares: alone, and by the method that it is made for."""
    for folder in adapters:
        recipe = recipe_of(folder)
        name = f"{folder.name} ({recipe})"
        if facts.TRAINED_FOR.get(recipe) == facts.ONE_STEP:
            yield name, in_one_call(load_eraser(folder), seed, model)
            continue
        adapted, text = with_adapters(load_mini(model), folder)
        yield name, by_sampling(adapted, steps, seed, Plain(), text)
        for key, known in facts.METHODS.items():
            # A method that guides to words has nothing to guide to where the training has no prompt.
            if known.recipe == recipe and (text or not METHODS[key].words):
                method = guided_by(METHODS[key], guidance)
                yield f"{name} + {known.title}", by_sampling(adapted, steps, seed, method, text)


def guided_by(method: Method, guidance: float) -> Method:
    """A method that guides to words, with this guidance; another one as it is."""
    return method.with_strength(guidance if method.words else None)


def by_sampling(base: Base, steps: int, seed: int, method: Method, text: str = "") -> Remove:
    """Sampling, pasted back."""
    return lambda picture, mask: erase(base, picture, mask, method, steps, seed, positive=text)


def in_one_call(adapter: one_step.OneStep, seed: int, model: Path = mini.FOLDER) -> Remove:
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

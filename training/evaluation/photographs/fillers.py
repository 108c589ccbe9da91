"""The fillers of a row's pictures: paint, a method on a loaded network, or the files that another program wrote."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ....adapters import layered
from ....adapters.methods import LAYERED_GUIDANCE, method_facts
from ....adapters.one_step import OneStep
from ....kernels.exemplar import exemplar_fill
from ...base_models.base import Base
from ...base_models.mini import is_mini
from ...data.sample import SUFFIXES
from ...images.files import read_image
from ...images.flat_fills import grey_fill, ring_fill
from ...images.opencv_fills import shift_map, telea
from ...paths import MINI, RANDOM_SDXL
from ...sampling.adapters import load_eraser
from ...sampling.crowd import take_apart
from ...sampling.methods import METHODS, Method, as_mini_bears
from ...sampling.removers import Sampling, erase_region, largest, opened
from ...settings import ONE_STEP, OWN_OPTIONS, RemoveConfig
from .contestants import ERASERS, Contestant, Made, Painted, Sampled
from .pictures import Picture, fitted

Filler = Callable[[Sequence[Picture], Sequence[Tensor], int], list[Tensor]]
"""(pictures, the mask [1, H, W] that each is given, seed) -> a filled picture [1, 3, H, W] each."""
PAINT: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "ring median": lambda picture, hole, seed: ring_fill(picture, hole),
    "grey": lambda picture, hole, seed: grey_fill(picture, hole),
    "Telea": lambda picture, hole, seed: telea(picture, hole),
    "shift map": lambda picture, hole, seed: shift_map(picture, hole),
    "draft": lambda picture, hole, seed: exemplar_fill(picture, hole, seed=seed),
}


class Fillers:
    """Makes the filler of any row. Of networks it holds one at a time: rows in their order share its load."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.held: tuple[str, str] | None = None
        self.network: Base | None = None
        self.learned = ""

    def of(self, row: Contestant) -> Filler:
        """The filler of a row.

        Raises:
            ValueError, OSError: the checkpoint or the adapters cannot be loaded, or do not go together.
        """
        if isinstance(row, Painted):
            return partial(paint, row.fill)
        if isinstance(row, Made):
            return partial(from_folder, row.folder)
        assert isinstance(row, Sampled)
        network, adapters, method = self.load(row.network), row.options.adapters, row.options.chosen_method()
        if method in ERASERS:
            assert adapters is not None
            if not network.inpaints:
                raise ValueError(f"{method} needs an inpainting model: give that version of the checkpoint.")
            if method == ONE_STEP:
                return partial(in_one_step, network, load_eraser(adapters), row.options)
            eraser = layered.load(adapters if adapters.is_file() else adapters / "layered.safetensors")
            return partial(by_layers, network, eraser, row.options)
        return partial(sampled, network, self.learned, row.options)

    def load(self, key: tuple[str, str]) -> Base:
        if self.network is None or key != self.held:
            self.release()
            base, adapters = key
            self.network, self.learned = opened(Path(base), Path(adapters) if adapters else None, self.device)
            self.held = key
        return self.network

    def release(self) -> None:
        """Give the held network's memory back."""
        self.network, self.held = None, None
        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()


def paint(name: str, pictures: Sequence[Picture], holes: Sequence[Tensor], seed: int) -> list[Tensor]:
    """Each picture by a fill that needs no model."""
    return [PAINT[name](picture.before, hole, seed) for picture, hole in zip(pictures, holes, strict=True)]


def from_folder(folder: Path, pictures: Sequence[Picture], holes: Sequence[Tensor], seed: int) -> list[Tensor]:
    """Reads what another program made of each picture, scaled where it is of another size."""
    return [
        fitted(read_image(found), (picture.before.shape[-2], picture.before.shape[-1]), found.name)
        for picture in pictures
        for found in [find(folder, picture.case.name, seed)]
    ]


def find(folder: Path, name: str, seed: int) -> Path:
    """The picture of a name in a folder, or in its folder of a seed.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several.
    """
    for place in (folder / str(seed), folder):
        found = sorted(path for path in place.glob("*") if path.stem == name and path.suffix.lower() in SUFFIXES)
        if len(found) > 1:
            raise ValueError(f"{place} holds {' and '.join(path.name for path in found)}: keep one.")
        if found:
            return found[0]
    raise FileNotFoundError(f"{folder} holds no {name}.png, nor {seed}/{name}.png.")


def sampled(
    network: Base, learned: str, options: RemoveConfig, pictures: Sequence[Picture], holes: Sequence[Tensor], seed: int
) -> list[Tensor]:
    """A method that samples, as `unclutter remove` runs it; pictures with other words are sampled apart."""
    start, denoise = options.start_and_denoise()
    around = options.surroundings()
    assert options.base is not None
    results = [picture.before for picture in pictures]
    words = [tuple(in_words(text, picture) for text in (options.prompt, options.negative)) for picture in pictures]
    for prompt, negative in dict.fromkeys(words):
        rows = [row for row, each in enumerate(words) if each == (prompt, negative)]
        sampler = Sampling(
            network,
            method_of(options),
            start=start,
            denoise=denoise,
            show_draft=options.show_draft,
            maximum=largest(options.base, network, around),
            context=around,
            feather=options.feather,
            positive=f"{learned} {prompt}".strip(),
            negative=negative,
            steps=options.steps_taken(),
        )
        chosen = [pictures[row].before for row in rows]
        for row, filled in zip(rows, sampler(chosen, [holes[row] for row in rows], [seed] * len(rows)), strict=True):
            results[row] = filled
    return results


def in_words(text: str, picture: Picture) -> str:
    """A prompt, with the picture's caption in its place.

    Raises:
        ValueError: the picture has none.
    """
    if "{caption}" in text and picture.case.caption is None:
        raise ValueError("It has no caption, which the prompt asks for.")
    return text.replace("{caption}", picture.case.caption or "")


def method_of(options: RemoveConfig) -> Method:
    """The method with its options; on the mini model as strong as that bears it, where no strength is given."""
    name = options.chosen_method()
    known = method_facts(name, options.recipe())
    assert known is not None and options.base is not None
    toy = options.base == MINI or (options.base != RANDOM_SDXL and is_mini(options.base))
    method = as_mini_bears(name, known) if toy else METHODS[name]
    given = {option: value for option in OWN_OPTIONS if (value := getattr(options, option)) is not None}
    return replace(method.with_strength(options.strength), **given)


def in_one_step(
    network: Base,
    eraser: OneStep,
    options: RemoveConfig,
    pictures: Sequence[Picture],
    holes: Sequence[Tensor],
    seed: int,
) -> list[Tensor]:
    """A one-step eraser, one picture after the other."""
    return [
        erase_region(
            network,
            picture.before,
            hole,
            eraser,
            context=options.surroundings(),
            feather=options.feather,
            strength=1.0 if options.strength is None else options.strength,
            seed=seed,
        )
        for picture, hole in zip(pictures, holes, strict=True)
    ]


def by_layers(
    network: Base,
    eraser: layered.Layered,
    options: RemoveConfig,
    pictures: Sequence[Picture],
    holes: Sequence[Tensor],
    seed: int,
) -> list[Tensor]:
    """The background of a layered eraser: with all that is marked gone, it is the one layer that is needed."""
    guidance = LAYERED_GUIDANCE if options.strength is None else options.strength
    return [
        take_apart(
            network,
            eraser,
            picture.before[0],
            hole,
            [0],
            grow=0,
            context=options.surroundings(),
            feather=options.feather,
            prompt=in_words(options.prompt, picture),
            negative=in_words(options.negative, picture),
            guidance=guidance,
            steps=options.steps_taken(),
            seed=seed,
        ).composed()[0][None]
        for picture, hole in zip(pictures, holes, strict=True)
    ]

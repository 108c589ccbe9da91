"""The ways to take what a mask marks out of a photo: a draft, sampling, or one step; each loads its model once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ...adapters import methods as facts
from ...adapters.one_step import OneStep
from ...kernels import seams
from ...kernels.exemplar import exemplar_fill
from ..base_models.base import Base
from ..base_models.load import load_base
from ..paths import MINI
from .adapters import load_eraser, with_adapters
from .methods import Method
from .one_step import erase_once, taken_by
from .sampler import remove

Remover = Callable[[Tensor, Tensor, Tensor | None, bool], Tensor]
"""(picture [1, 3, H, W] in 0..1, hole [1, H, W] of 0 and 1, what may not be copied [1, H, W] or None, whether its progress
bar stays) -> [1, 3, H, W]."""


def drafting(seed: int, device: str) -> Remover:
    """Copies of the picture's own surroundings, without a model."""

    def run(picture: Tensor, hole: Tensor, avoid: Tensor | None, keeps_bar: bool) -> Tensor:
        barred = None if avoid is None else avoid.to(device)
        return exemplar_fill(picture.to(device), hole.to(device), barred, seed, bar("draft", keeps_bar)).cpu()

    return run


def sampling(
    base: Path,
    adapters: Path | None,
    device: str,
    method: Method,
    *,
    start: facts.Start,
    denoise: float,
    show_draft: bool,
    context: float,
    feather: int,
    positive: str,
    negative: str,
    steps: int,
    seed: int,
) -> Remover:
    """A diffusion model, on the part of the picture around the hole.

    Args:
        show_draft: show an inpainting model the draft, where it would see a grey hole or the object.
        context: surroundings on each side, as a share of the object's longer side; infinite for the whole picture, at the
            size that the model was trained at.

    Raises:
        ValueError: the base is no inpainting model and cannot be shown anything, or nothing is there to guide.
    """
    network, learned = opened(base, adapters, device)
    sampler = Sampling(
        network,
        method,
        start=start,
        denoise=denoise,
        show_draft=show_draft,
        maximum=largest(base, network, context),
        context=context,
        feather=feather,
        positive=f"{learned} {positive}".strip(),
        negative=negative,
        steps=steps,
    )

    def run(picture: Tensor, hole: Tensor, avoid: Tensor | None, keeps_bar: bool) -> Tensor:
        return sampler([picture], [hole], [seed], [avoid], bar("removing", keeps_bar))[0]

    return run


def opened(base: Path, adapters: Path | None, device: str) -> tuple[Base, str]:
    """A base with what a training wrote put into it, and the prompt that was learned there, or an empty one."""
    network = load_base(base, device)
    return (network, "") if adapters is None else with_adapters(network, adapters)


def largest(base: Path, network: Base, context: float) -> int | None:
    """The longest side that the network is given; None for as long as it takes."""
    return 2 * network.native_size if base == MINI else network.native_size if math.isinf(context) else None


@dataclass(frozen=True)
class Sampling:
    """A method on a network, with all that decides what it makes of pictures: call it with some.

    Attributes:
        start: what is noised in the hole when sampling begins.
        show_draft: show an inpainting model the draft, where it would see a grey hole or the object.
        maximum: longest side the network is given; None for as long as it takes.
        context: surroundings on each side, as a share of the object's longer side.
        feather: width of the soft border in pixels.
        positive: the prompt; the method's own words where it is empty.

    Raises:
        ValueError: the base is no inpainting model and cannot be shown anything, or nothing is there to guide.
    """

    network: Base
    method: Method
    start: facts.Start = "picture"
    denoise: float = 1.0
    show_draft: bool = False
    maximum: int | None = None
    context: float = 0.5
    feather: int = 8
    positive: str = ""
    negative: str = ""
    steps: int = 50

    def __post_init__(self) -> None:
        if self.show_draft and not self.network.inpaints:
            raise ValueError("The base is no inpainting model and is shown nothing: leave --show-draft out.")
        if self.words == self.negative and self.method.guidance != 1:
            raise ValueError(
                f'prompt and negative are both "{self.words}", which leaves guidance nothing to go by: say in prompt what is '
                "to be there, or in negative what is not."
            )

    @property
    def words(self) -> str:
        return self.positive or self.method.words

    def __call__(
        self,
        pictures: Sequence[Tensor],
        holes: Sequence[Tensor],
        seeds: Sequence[int],
        avoid: Sequence[Tensor | None] | None = None,
        progress: Callable[[Iterable], Iterable] = iter,
    ) -> list[Tensor]:
        """Crop around the holes, remove, paste back. The cuts that come out at one size are sampled in one batch.

        Args:
            pictures: [1, 3, H, W] in 0..1, of any sizes.
            holes: [1, H, W] of 0 and 1, one for each picture.
            seeds: one for each picture, which gets the same noise as alone.
            avoid: [1, H, W] or None for each picture, what a draft may not copy.

        Returns:
            [1, 3, H, W] in 0..1 each, equal to its picture bit for bit outside the hole and its feather.
        """
        barred = avoid or [None] * len(pictures)
        drafts = [
            exemplar_fill(picture, hole, other, seed, bar("draft", False)) if self.start == "draft" else picture
            for picture, hole, seed, other in zip(pictures, holes, seeds, barred, strict=True)
        ]
        network = replace(self.network, condition_image="full") if self.show_draft else self.network
        least, multiple = network.native_size, network.multiple
        crops = [seams.plan_crop(hole, self.context, multiple, least, self.maximum) for hole in holes]
        results = list(pictures)
        for size in dict.fromkeys(crop.size for crop in crops):
            rows = [row for row, crop in enumerate(crops) if crop.size == size]

            def cut(whole: Sequence[Tensor], mode: str = "image", rows: list[int] = rows) -> Tensor:
                return torch.cat([seams.extract(whole[row], crops[row], mode) for row in rows])

            parts = remove(
                network,
                cut(drafts if self.show_draft else pictures),
                cut([hole[:, None] for hole in holes], "mask")[:, 0],
                self.method,
                positive=self.words,
                negative=self.negative,
                start=self.start if self.start in ("noise", "inversion") else cut(drafts),
                denoise=self.denoise,
                steps=self.steps,
                seed=[seeds[row] for row in rows],
                progress=progress,
            ).cpu()
            for row, part in zip(rows, parts, strict=True):
                results[row] = seams.paste_back(
                    pictures[row], part[None], crops[row], holes[row], feather_pixels=self.feather
                )
        return results


def erasing(
    base: Path, adapters: Path, device: str, *, context: float, feather: int, strength: float, seed: int
) -> Remover:
    """A one-step eraser, on the part of the picture around the hole."""
    eraser = load_eraser(adapters)
    network = load_base(base, device)
    if not network.inpaints:
        raise ValueError(
            f"The base takes {network.network.config['in_channels']} channels, and one-step needs an inpainting model: give "
            "that version of the checkpoint."
        )

    def run(picture: Tensor, hole: Tensor, avoid: Tensor | None, keeps_bar: bool) -> Tensor:
        return erase_region(
            network, picture, hole, eraser, context=context, feather=feather, strength=strength, seed=seed
        )

    return run


def bar(what: str, keeps_bar: bool) -> Callable[[Iterable], Iterable]:
    """A progress bar; one that does not stay is not drawn into a file either."""
    return lambda steps: tqdm(steps, desc=what, leave=keeps_bar, disable=False if keeps_bar else None)


def erase_region(
    base: Base,
    picture: Tensor,
    hole: Tensor,
    eraser: OneStep,
    *,
    context: float = 1.0,
    feather: int = 8,
    strength: float = 1.0,
    seed: int = 0,
) -> Tensor:
    """Crop around the hole to the size the eraser was trained at, erase in one step, paste back what it took.

    Args:
        picture: [1, 3, H, W] in 0..1.
        hole: [1, H, W] of 0 and 1.
        strength: of the alpha.

    Returns:
        [1, 3, H, W] in 0..1, equal to `picture` bit for bit outside the hole, where the alpha is over a half, and their
        feather.

    Raises:
        ValueError: the eraser was made for another network.
    """
    side = eraser.header.resolution or eraser.family.eraser_side
    crop = seams.plan_crop(hole, context=context, multiple=base.multiple, minimum=side, maximum=side)
    image, mask = seams.extract(picture, crop, "image"), seams.extract(hole[:, None], crop, "mask")[:, 0]
    erased = erase_once(base, eraser, image, mask, strength=strength, seed=seed)
    top, left, height, width = crop.boxes[0]
    taken = taken_by(erased.alpha, height, width).to(hole)
    taken = F.pad(taken, (left, hole.shape[2] - left - width, top, hole.shape[1] - top - height))
    return seams.paste_back(picture, erased.picture.cpu(), crop, hole.maximum(taken), feather_pixels=feather)

"""The ways to take what a mask marks out of a photo: a draft, sampling, or one step; each loads its model once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

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
from .sampler import Start, remove

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
        context: as for `remove_region`; infinite for the whole picture, at the size that the model was trained at.

    Raises:
        ValueError: the base is no inpainting model and cannot be shown anything, or nothing is there to guide.
    """
    network = load_base(base, device)
    if show_draft and not network.inpaints:
        raise ValueError("The base is no inpainting model and is shown nothing: leave --show-draft out.")
    maximum = 2 * network.native_size if base == MINI else network.native_size if math.isinf(context) else None
    if adapters is not None:
        network, learned = with_adapters(network, adapters)
        positive = f"{learned} {positive}".strip()
    positive = positive or method.words
    if positive == negative and method.guidance != 1:
        raise ValueError(
            f'prompt and negative are both "{positive}", which leaves guidance nothing to go by: say in prompt what is to be '
            "there, or in negative what is not."
        )

    def run(picture: Tensor, hole: Tensor, avoid: Tensor | None, keeps_bar: bool) -> Tensor:
        draft = exemplar_fill(picture, hole, avoid, seed, bar("draft", False)) if start == "draft" else picture
        begun: Start = start if start in ("noise", "inversion") else draft
        return remove_region(
            replace(network, condition_image="full") if show_draft else network,
            draft if show_draft else picture,
            hole,
            method,
            maximum=maximum,
            context=context,
            feather=feather,
            positive=positive,
            negative=negative,
            start=begun,
            denoise=denoise,
            steps=steps,
            seed=seed,
            progress=bar("removing", keeps_bar),
        )

    return run


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


def remove_region(
    base: Base,
    picture: Tensor,
    hole: Tensor,
    method: Method,
    *,
    maximum: int | None = None,
    context: float = 0.5,
    feather: int = 8,
    positive: str = "",
    negative: str = "",
    start: Start = "picture",
    denoise: float = 1.0,
    steps: int = 50,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Tensor:
    """Crop around the hole, remove, paste back.

    Args:
        picture: [1, 3, H, W] in 0..1.
        hole: [1, H, W] of 0 and 1.
        maximum: longest side the network is given; None for as long as it takes.
        start: what is noised in the hole when sampling begins; a picture is as large as `picture`.

    Returns:
        [1, 3, H, W] in 0..1, equal to `picture` bit for bit outside the hole and its feather.
    """
    crop = seams.plan_crop(hole, context=context, multiple=base.multiple, minimum=base.native_size, maximum=maximum)
    part = remove(
        base,
        seams.extract(picture, crop, "image"),
        seams.extract(hole[:, None], crop, "mask")[:, 0],
        method,
        positive=positive,
        negative=negative,
        start=seams.extract(start, crop, "image") if isinstance(start, Tensor) else start,
        denoise=denoise,
        steps=steps,
        seed=seed,
        progress=progress,
    )
    return seams.paste_back(picture, part.cpu(), crop, hole, feather_pixels=feather)


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

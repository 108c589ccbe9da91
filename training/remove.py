"""`unclutter remove`: a photo and a mask, or a folder of each."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from ..adapters.methods import LRNR
from ..kernels import regions
from .images.drawn_mask import read_drawn_mask
from .images.files import read_mask
from .images.photo import Photo, check_format, read_photo, write_photo
from .paths import MINI
from .remove_folder import Remove, remove_folder
from .sampling.methods import METHODS
from .sampling.removers import Remover, drafting, erasing, sampling
from .settings import DRAFT, ONE_STEP, OWN_OPTIONS, PREVIEW, RemoveConfig


@dataclass(frozen=True)
class Inputs:
    """A photo, the hole [1, H, W] in it, grown, what may not be copied [1, H, W] or None, and a line about the mask."""

    photo: Photo
    hole: Tensor
    avoid: Tensor | None
    line: str

    @property
    def share(self) -> float:
        return float(self.hole.mean())


def remove_photo(config: RemoveConfig) -> None:
    """Run the command.

    Raises:
        ValueError, OSError: bad values; or, after a folder was gone through, photos that failed.
    """
    config.check()
    console = Console(stderr=True)
    if config.image.is_dir():
        folders = (config.image, config.mask, config.avoid, config.out / PREVIEW if config.preview else config.out)
        remove_folder(*folders, config.deciding(), lambda: load_for_files(config, console), console)
        return
    inputs = read(config)
    check_format(config.out, inputs.photo)
    if config.preview:
        console.print(inputs.line, soft_wrap=True)
        write_photo(config.out, inputs.photo, in_red(inputs))
        console.print(f"Wrote {config.out}, with what would be removed in red.", soft_wrap=True)
        return
    remover = load(config, console)
    console.print(inputs.line, soft_wrap=True)
    result = remover(inputs.photo.picture, inputs.hole, inputs.avoid, True)
    write_photo(config.out, inputs.photo, result)
    toy = ", by the mini model, which knows drawn scenes and spoils photographs" if config.base == MINI else ""
    console.print(f"Wrote {config.out}{toy}.", soft_wrap=True)


def read(config: RemoveConfig) -> Inputs:
    """Read the files that the command names.

    Raises:
        ValueError, OSError: a file is missing or damaged, or the mask is none, or is empty, or covers everything.
    """
    photo = read_photo(config.image)
    size = photo.picture.shape[-2:]
    drawn = read_drawn_mask(config.mask, photo, config.image)
    marked = 1 - drawn.marked if config.invert else drawn.marked
    hole = regions.normalize_mask(marked, 1, *size)
    share = float(hole.mean())
    kept = ", inverted" if config.invert else ""
    line = f"{config.mask.name} marks {share:.1%} of {config.image.name}{f' by {drawn.reading}' if drawn.reading else ''}{kept}."
    if share > 0.5:
        line += " That is more than half: give --invert if it marks what is to stay, and look with --preview first."
    hole = regions.grow(regions.fill_holes(hole), percent=config.grow)
    try:
        hole = regions.normalize_mask(hole, 1, *size)
    except ValueError as error:
        raise ValueError(f"{line} {error}") from None
    barred = (
        None if config.avoid is None else regions.normalize_mask(read_mask(config.avoid), 1, *size, allow_empty=True)
    )
    return Inputs(photo, hole, barred, line)


def in_red(inputs: Inputs) -> Tensor:
    """The photo [1, 3, H, W] with its hole in red."""
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    return torch.where(inputs.hole[:, None] > 0, torch.lerp(inputs.photo.picture, red, 0.6), inputs.photo.picture)


def load_for_files(config: RemoveConfig, console: Console) -> Remove:
    """A function of the paths of a photo, its mask, what may not be copied and the result, which it writes."""
    remover = None if config.preview else load(config, console)

    def run(image: Path, mask: Path, avoid: Path | None, out: Path) -> float:
        inputs = read(replace(config, image=image, mask=mask, avoid=avoid))
        check_format(out, inputs.photo)
        if inputs.share > 0.5:
            console.print(inputs.line, soft_wrap=True)
        picture = inputs.photo.picture
        result = in_red(inputs) if remover is None else remover(picture, inputs.hole, inputs.avoid, False)
        write_photo(out, inputs.photo, result)
        return inputs.share

    return run


def load(config: RemoveConfig, console: Console) -> Remover:
    """Load what the method needs, and say what is not obvious about it."""
    name = config.chosen_method()
    if name == DRAFT:
        console.print(
            "This is a draft: copies of the photo's own surroundings, by no model that understands it; for one, give "
            "--base a checkpoint.",
            soft_wrap=True,
        )
        return drafting(config.seed, usable(config.device or "cpu"))
    assert config.base is not None
    device = usable(config.device)
    around = (1.0 if name == ONE_STEP else 0.5) if config.context is None else config.context
    around = math.inf if config.whole else around
    if name == ONE_STEP:
        assert config.adapters is not None
        return erasing(
            config.base,
            config.adapters,
            device,
            context=around,
            feather=config.feather,
            strength=1.0 if config.strength is None else config.strength,
            seed=config.seed,
        )
    given = {option: value for option in OWN_OPTIONS if (value := getattr(config, option)) is not None}
    method = replace(METHODS[name].with_strength(config.strength), **given)
    if config.recipe() == LRNR.recipe and method.hides_object:
        console.print(f"{name} hides the object's keys, which made LRNR worse (its Appendix E): masg suits it.")
    start, denoise = config.start_and_denoise()
    return sampling(
        config.base,
        config.adapters,
        device,
        method,
        start=start,
        denoise=denoise,
        show_draft=config.show_draft,
        context=around,
        feather=config.feather,
        positive=config.prompt,
        negative=config.negative,
        steps=config.steps,
        seed=config.seed,
    )


def usable(device: str | None) -> str:
    """The device, by default the GPU where there is one; a ValueError where PyTorch cannot use it."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # PyTorch asserts that it was built for the device
        reason = str(error).splitlines()[0]
        raise ValueError(f"The device {device} cannot be used ({reason}): give another, such as cpu.") from None
    return device

"""`unclutter remove`: a photo and a mask, or a folder of each."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from ..adapters.methods import LRNR
from ..kernels import regions
from .images.files import read_image, read_mask, read_metadata, write_image
from .paths import MINI
from .remove_folder import Remove, remove_folder
from .sampling.methods import METHODS
from .sampling.removers import Remover, drafting, erasing, sampling
from .settings import DRAFT, ONE_STEP, RemoveConfig


def remove_photo(config: RemoveConfig) -> None:
    """Run the command.

    Raises:
        ValueError, OSError: bad values; or, after a folder was gone through, photos that failed.
    """
    config.check()
    console = Console(stderr=True)
    if config.image.is_dir():
        folders = (config.image, config.mask, config.avoid, config.out)
        remove_folder(*folders, config.deciding(), lambda: load_for_files(config, console), console)
        return
    inputs = read(config.image, config.mask, config.avoid, config.grow)
    result = load(config, console)(*inputs, True)
    write_image(config.out, result, read_metadata(config.image))
    toy = ", by the mini model, which knows drawn scenes and spoils photographs" if config.base == MINI else ""
    console.print(f"Wrote {config.out}{toy}.", soft_wrap=True)


def read(image: Path, mask: Path, avoid: Path | None, grow: float) -> tuple[Tensor, Tensor, Tensor | None]:
    """The photo [1, 3, H, W], what is to be removed [1, H, W], grown, and what may not be copied [1, H, W].

    Raises:
        ValueError, OSError: a file is missing or damaged, or the mask is empty or covers everything.
    """
    picture = read_image(image)
    size = picture.shape[-2:]
    hole = regions.normalize_mask(read_mask(mask), 1, *size)
    hole = regions.grow(regions.fill_holes(hole), percent=grow)
    hole = regions.normalize_mask(hole, 1, *size)
    barred = None if avoid is None else regions.normalize_mask(read_mask(avoid), 1, *size, allow_empty=True)
    return picture, hole, barred


def load_for_files(config: RemoveConfig, console: Console) -> Remove:
    """A function of the paths of a photo, its mask and what may not be copied."""
    remover = load(config, console)
    return lambda photo, mask, avoid: remover(*read(photo, mask, avoid, config.grow), False)


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
    method = METHODS[name].with_strength(config.strength)
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

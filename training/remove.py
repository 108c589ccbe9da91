"""`unclutter remove`: a photo and a mask, or the masks of everyone in it; or a folder of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from ..adapters.methods import LAYERED_GUIDANCE, LRNR
from .images.photo import check_format, write_photo
from .paths import MINI
from .remove_folder import Marks, Remove, remove_folder
from .remove_inputs import Inputs, in_red, read_inputs
from .sampling.crowd import layering
from .sampling.methods import METHODS
from .sampling.removers import Remover, bar, drafting, erasing, sampling
from .settings import DRAFT, LAYERS, ONE_STEP, OWN_OPTIONS, PREVIEW, RemoveConfig

Run = Callable[[Inputs, bool], Tensor]
"""(a photo and what is to go, whether the progress bar stays) -> [1, 3, H, W]."""


def remove_photo(config: RemoveConfig) -> None:
    """Run the command.

    Raises:
        ValueError, OSError: bad values; or, after a folder was gone through, photos that failed.
    """
    config.check()
    console = Console(stderr=True)
    if config.image.is_dir():
        marks = Marks(config.instances, True) if config.instances else Marks(config.mask or config.image, False)
        out = config.out / PREVIEW if config.preview else config.out
        remove_folder(
            config.image, marks, config.avoid, out, config.deciding(), lambda: load_for_files(config, console), console
        )
        return
    inputs = read_inputs(config)
    check_format(config.out, inputs.photo)
    if config.preview:
        console.print(inputs.line, soft_wrap=True)
        write_photo(config.out, inputs.photo, in_red(inputs))
        console.print(f"Wrote {config.out}, with what would be removed in red.", soft_wrap=True)
        return
    run = load(config, console)
    console.print(inputs.line, soft_wrap=True)
    result = run(inputs, True)
    write_photo(config.out, inputs.photo, result)
    toy = ", by the mini model, which knows drawn scenes and spoils photographs" if config.base == MINI else ""
    console.print(f"Wrote {config.out}{toy}.", soft_wrap=True)


def load_for_files(config: RemoveConfig, console: Console) -> Remove:
    """A function of the paths of a photo, what marks what is to go, what may not be copied and the result, which it
    writes."""
    remover = None if config.preview else load(config, console)

    def run(image: Path, marks: Path, avoid: Path | None, out: Path) -> float:
        given = {"instances" if config.instances else "mask": marks}
        inputs = read_inputs(replace(config, image=image, avoid=avoid, **given))
        check_format(out, inputs.photo)
        if inputs.share > 0.5:
            console.print(inputs.line, soft_wrap=True)
        result = in_red(inputs) if remover is None else remover(inputs, False)
        write_photo(out, inputs.photo, result)
        return inputs.share

    return run


def load(config: RemoveConfig, console: Console) -> Run:
    """Load what the method needs, and say what is not obvious about it."""
    if config.chosen_method() == LAYERS:
        return load_layers(config)
    remover = load_remover(config, console)
    return lambda inputs, keeps_bar: remover(inputs.photo.picture, inputs.hole, inputs.avoid, keeps_bar)


def load_layers(config: RemoveConfig) -> Run:
    assert config.base is not None and config.adapters is not None
    leave = layering(
        config.base,
        config.adapters,
        usable(config.device),
        grow=config.grow,
        context=config.surroundings(),
        feather=config.feather,
        prompt=config.prompt,
        negative=config.negative,
        guidance=LAYERED_GUIDANCE if config.strength is None else config.strength,
        steps=config.steps_taken(),
        seed=config.seed,
    )
    return lambda inputs, keeps_bar: leave(
        inputs.photo.picture, inputs.people, inputs.gone, inputs.order, bar("layers", keeps_bar)
    )


def load_remover(config: RemoveConfig, console: Console) -> Remover:
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
    if name == ONE_STEP:
        assert config.adapters is not None
        return erasing(
            config.base,
            config.adapters,
            device,
            context=config.surroundings(),
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
        context=config.surroundings(),
        feather=config.feather,
        positive=config.prompt,
        negative=config.negative,
        steps=config.steps_taken(),
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

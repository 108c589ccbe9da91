"""`unclutter remove`: a photo and a mask, or a folder of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from torch import Tensor

from ..kernels import regions
from .base_models.load import MINI
from .images.files import check_writable, read_image, read_mask, read_metadata, write_image
from .remove_folder import Remove, remove_folder
from .sampling.adapters import recipe_of
from .sampling.removers import Name, Remover, StartName, drafting, erasing, sampling, with_strength

TRAINED_FOR: dict[str | None, Name] = {None: "attentive-eraser", "lrnr": "masg", "eradiff": "sra", "osor": "one-step"}
"""The method for adapters of each recipe, and for a base without any."""
STARTS: dict[str, dict[StartName, float]] = {
    "masg": {"draft": 0.4, "picture": 1.0, "noise": 1.0},
    "lrnr": {"draft": 0.8, "picture": 1.0, "noise": 1.0},
    "attentive-eraser": {"draft": 0.4, "picture": 0.8, "noise": 1.0},
    "sra": {"draft": 0.4, "picture": 1.0, "noise": 1.0},
    "plain": {"draft": 0.4, "picture": 1.0, "noise": 1.0},
}
"""How far up the noise schedule each method that samples begins, by its start, of which the first is the default; lrnr is masg
with LRNR's adapters. A picture is noised as by the authors, a draft as was best on drawn scenes (docs/benchmarks.md)."""
WITHOUT_MODEL = ("base", "adapters", "strength", "prompt", "negative", "start", "denoise")
"""Options of the methods that take a model."""


@dataclass(frozen=True)
class RemoveConfig:
    """Remove what a mask marks from a photo, or from every photo of a folder.

    Without a checkpoint (--base) the hole is filled with a draft: copies of the photo's own surroundings. With one, only
    the part around the mask is worked on, at its own scale (one-step: at the size it was trained at). All pixels outside
    the mask and its soft border stay as they were; one-step also takes shadow and reflection, and those pixels with them.

    A folder of photos takes a folder of masks and writes into a folder: a.jpg goes with a.png, a_mask.png or mask/a.png,
    and may lie in one folder with its mask. Photos that are finished are skipped when the command is run again; one
    that fails is told and does not stop the others; log.jsonl has a line for each.

    Attributes:
        image: The photo, or a folder of photos.
        mask: White (or transparent) where it is to be removed, of any size; or a folder of masks.
        out: The picture to write, with the photo's colour profile and EXIF data; a .png holds every pixel as it is. For
            a folder of photos a folder, in which each has the name of its photo.
        base: A diffusers folder or a .safetensors checkpoint: SD 1.5, SD 2, SDXL, or their inpainting versions; for
            one-step SDXL-inpainting, or a folder of FLUX.1 Fill. The word mini stands for the mini model, which knows
            drawn scenes only.
        adapters: Output folder of `unclutter train` on that base, or the file of a one-step eraser, OSOR's too. A
            removal prompt in it goes before `prompt`.
        method: The draft, masg (LRNR's guidance), attentive-eraser (AAS and SARG), sra (EraDiff's attention), plain
            inpainting or one-step (OSOR). By default the draft without a base; with one what the adapters were trained
            for, masg for LRNR, sra for EraDiff and one-step for OSOR; without any attentive-eraser.
        strength: Guidance in the mask (masg, 12.5), removal scale (attentive-eraser, 9), guidance (sra, plain: 1), or
            the factor of the alpha (one-step, 1).
        prompt: The background in words, or empty. Guidance goes from `negative` to it, so for masg it is "background"
            where nothing is given.
        negative: The object in words, or empty.
        steps: Sampling steps, where a method takes any.
        seed: Of the noise and of the draft; the same for every photo of a folder.
        grow: Grow each object of the mask by this percentage of its size. 5 to 10 costs nothing; a mask a little too
            small brings the object back.
        context: Surroundings the network sees, as a share of the object's size on each side. By default 0.5, and 1 for
            one-step, so that the shadow is among them.
        feather: Width of the soft border in pixels; a draft has none.
        device: "cpu", "cuda", ...; by default the GPU where there is one, and for a draft the CPU.
        start: The content of the hole that is noised when sampling begins: nothing (noise), the photo with the object
            (picture, the authors' way), or a draft of the background, which is the default: on 64 drawn scenes it beats
            the picture by 3.4 dB [2.6, 4.1] (attentive-eraser), 2.5 dB [2.2, 2.9] (sra), 8.6 dB [7.5, 9.6] (masg) and
            1.4 dB [0.7, 2.1] (LRNR).
        denoise: How far up the noise schedule sampling begins, above 0 to 1, as in ComfyUI's KSampler: less keeps more
            of the start. By default 0.4 for a draft (LRNR 0.8), 0.8 for the picture by attentive-eraser, else 1. Give
            more where the draft is wrong.
        avoid: White where a draft may copy nothing from, such as other objects of the same kind: a picture, or a folder
            of them, matched to the photos as the masks are.
        show_draft: Show an inpainting model the draft too, in place of a grey hole (SDXL inpainting) or of the photo (LRNR).
            On drawn scenes it beats the picture by 6.0 dB [5.2, 6.9] (sra) and 3.0 dB [2.3, 3.8] (LRNR); untried on
            photographs.
    """

    image: tyro.conf.Positional[Path]
    mask: tyro.conf.Positional[Path]
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    base: Path | None = None
    adapters: Path | None = None
    method: Name | None = None
    strength: float | None = None
    prompt: str = ""
    negative: str = ""
    steps: int = 50
    seed: int = 0
    grow: float = 7.5
    context: float | None = None
    feather: int = 8
    device: str | None = None
    start: StartName | None = None
    denoise: float | None = None
    avoid: Path | None = None
    show_draft: bool = False


def remove_photo(config: RemoveConfig) -> None:
    """Run the command.

    Raises:
        ValueError, OSError: bad values; or, after a folder was gone through, photos that failed.
    """
    console = Console(stderr=True)
    name = checked(config)
    if config.image.is_dir():
        folders = (config.image, config.mask, config.avoid, config.out)
        remove_folder(*folders, settings(config, name), lambda: load_for_files(config, name, console), console)
        return
    for path, what in ((config.mask, "mask"), (config.avoid, "avoid")):
        if path and path.is_dir():
            raise ValueError(f"{what} is the folder {path} for the one photo {config.image}: give a picture.")
    check_writable(config.out, config.image, config.mask)
    inputs = read(config.image, config.mask, config.avoid, config.grow)
    result = load(config, name, console)(*inputs, True)
    write_image(config.out, result, read_metadata(config.image))
    toy = ", by the mini model, which knows drawn scenes and spoils photographs" if config.base == MINI else ""
    console.print(f"Wrote {config.out}{toy}.", soft_wrap=True)


def checked(config: RemoveConfig) -> Name:
    """The method, after a look at every value that needs no file.

    Raises:
        ValueError: a value out of range, or values that do not go together.
    """
    for given, least in (("steps", 1), ("grow", -50), ("context", 0), ("feather", 0), ("strength", 0)):
        value = getattr(config, given)
        if value is not None and not least <= value < math.inf:
            raise ValueError(f"{given} is {value}, expected at least {least}, and finite.")
    if config.denoise is not None and not 0 < config.denoise <= 1:
        raise ValueError(f"denoise is {config.denoise}, expected a number above 0, up to 1.")
    name = method_for(config.method, config.base, config.adapters)
    if name == "draft" and (given := [option for option in WITHOUT_MODEL if getattr(config, option) not in (None, "")]):
        raise ValueError(
            f"A draft uses no model, so --{given[0]} means nothing to it: leave it out, or --method draft."
        )
    if name == "one-step" and (config.prompt or config.negative):
        raise ValueError("one-step knows only the prompt it was trained with: leave --prompt and --negative out.")
    if name == "one-step" and (config.start or config.denoise):
        raise ValueError("one-step begins from the picture, as it was trained: leave --start and --denoise out.")
    start, denoise = start_of(config, name) if name in STARTS else ("draft", 1.0)
    if start == "noise" and denoise < 1:
        raise ValueError(
            f"denoise is {denoise}, and noise holds nothing to keep: leave it out, or give another --start."
        )
    if config.show_draft and (name not in STARTS or start != "draft"):
        raise ValueError("show-draft is for methods that sample from a draft: leave it out, or give --start draft.")
    if config.avoid and (name == "one-step" or start != "draft"):
        raise ValueError("avoid is for drafts: leave it out, or give --method draft or --start draft.")
    return name


def method_for(method: Name | None, base: Path | None, adapters: Path | None) -> Name:
    """The method that was asked for, else the one that the base and the adapters call for.

    Raises:
        ValueError: they do not go together; the message says what does.
    """
    if method == "draft" or not (method or base or adapters):
        return "draft"
    recipe = None if adapters is None else recipe_of(adapters)
    if recipe not in TRAINED_FOR:
        raise ValueError(
            f"{adapters} holds a training of {recipe}, which takes a mask for each person: use it in ComfyUI, by Load "
            "Layered Eraser and Layered Sampler."
        )
    name = method or TRAINED_FOR[recipe]
    if name == "one-step" and recipe != "osor":
        raise ValueError(
            "one-step needs an eraser: give the output folder of `unclutter train osor` or a file of OSOR's as --adapters."
        )
    if recipe == "osor" and name != "one-step":
        raise ValueError(f"{adapters} holds a one-step eraser, and {name} samples: leave --method out, or --adapters.")
    if base is None:
        raise ValueError(
            f"{name} needs a model: give a checkpoint as --base, `--base mini` to try it on a drawn scene, or --method draft, "
            "which needs none."
        )
    return name


def start_of(config: RemoveConfig, name: Name) -> tuple[StartName, float]:
    """The start of a method that samples, and its denoise."""
    is_lrnr = name == "masg" and config.adapters and recipe_of(config.adapters) == "lrnr"
    starts = STARTS["lrnr" if is_lrnr else name]
    start = config.start or next(iter(starts))
    return start, starts[start] if config.denoise is None else config.denoise


def settings(config: RemoveConfig, name: Name) -> dict[str, object]:
    """All that decides a result but the photo and its mask."""
    paths = {"base": config.base, "adapters": config.adapters}
    kept: dict[str, object] = {
        key: str(path if path == MINI else path.resolve()) for key, path in paths.items() if path
    }
    names = ["seed", "grow"]
    if name != "draft":
        names += ["strength", "context", "feather"]
    if name in STARTS:
        kept |= dict(zip(("start", "denoise"), start_of(config, name), strict=True))
        names += ["prompt", "negative", "steps", "show_draft"]
    return {"method": name, **kept, **{key: getattr(config, key) for key in names}}


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


def load_for_files(config: RemoveConfig, name: Name, console: Console) -> Remove:
    """A function of the paths of a photo, its mask and what may not be copied."""
    remover = load(config, name, console)
    return lambda photo, mask, avoid: remover(*read(photo, mask, avoid, config.grow), False)


def load(config: RemoveConfig, name: Name, console: Console) -> Remover:
    """Load what the method needs, and say what is not obvious about it."""
    if name == "draft":
        console.print(
            "This is a draft: copies of the photo's own surroundings, by no model that understands it; for one, give "
            "--base a checkpoint.",
            soft_wrap=True,
        )
        return drafting(config.seed, usable(config.device or "cpu"))
    assert config.base is not None
    device = usable(config.device)
    around = (1.0 if name == "one-step" else 0.5) if config.context is None else config.context
    if name == "one-step":
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
    if config.adapters and recipe_of(config.adapters) == "lrnr" and name in ("sra", "attentive-eraser"):
        console.print(f"{name} hides the object's keys, which made LRNR worse (its Appendix E): masg suits it.")
    start, denoise = start_of(config, name)
    return sampling(
        config.base,
        config.adapters,
        device,
        with_strength(name, config.strength),
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

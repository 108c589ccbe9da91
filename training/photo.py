"""`unclutter remove`: one photo, one mask, one file out."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
import tyro
from rich.console import Console
from torch import Tensor
from tqdm import tqdm

from ..adapters.one_step import Backbone, OneStep
from ..kernels import regions, seams
from .adapt import load_eraser, recipe_of, with_adapters
from .checkpoints import load_checkpoint
from .onestep import erase_once
from .pictures import check_writable, read_image, read_mask, read_metadata, write_image
from .sampling import MASG, AttentiveEraser, Base, Method, Plain, SelfRectifying, load_mini, remove

Name = Literal["masg", "attentive-eraser", "sra", "plain", "one-step"]
TRAINED_FOR: dict[str | None, Name] = {None: "attentive-eraser", "lrnr": "masg", "eradiff": "sra", "osor": "one-step"}
"""The method for adapters of each recipe, and without any."""
SIDES: dict[Backbone, int] = {"unet": 512, "flux": 1024}
"""Of the pictures that OSOR's own erasers know, in pixels."""


def remove_photo(
    image: tyro.conf.Positional[Path],
    mask: tyro.conf.Positional[Path],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    base: Path | None = None,
    adapters: Path | None = None,
    method: Name | None = None,
    strength: float | None = None,
    prompt: str = "",
    negative: str = "",
    steps: int = 50,
    seed: int = 0,
    grow: float = 7.5,
    context: float | None = None,
    feather: int = 8,
    device: str | None = None,
) -> None:
    """Remove what a mask marks from a photo.

    Only the part around the mask is worked on, at its own scale (one-step: at the size it was trained at); all pixels
    outside the mask and its soft border stay as they were. One-step also takes shadow and reflection, and those pixels
    with them.

    Args:
        image: the photo.
        mask: white (or transparent) where it is to be removed; any size.
        out: the picture to write, with the photo's colour profile and EXIF data. A .png holds every pixel as it is.
        base: a diffusers folder or a .safetensors checkpoint: SD 1.5, SD 2, SDXL, or their inpainting versions; for
            one-step SDXL-inpainting, or a folder of FLUX.1 Fill. Without one the mini model is used, which knows drawn
            scenes only.
        adapters: output folder of `unclutter train` on that base, or the file of a one-step eraser, OSOR's too. A removal
            prompt in it goes before `prompt`.
        method: masg (LRNR's guidance), attentive-eraser (AAS and SARG), sra (EraDiff's attention), plain inpainting or
            one-step (OSOR). By default what the adapters were trained for, masg for LRNR, sra for EraDiff and one-step
            for OSOR; without any attentive-eraser.
        strength: guidance in the mask (masg, 12.5), removal scale (attentive-eraser, 9), guidance (sra, plain: 1), or what
            the alpha is multiplied by (one-step, 1).
        prompt: what is to be there: empty, or the background in words. Guidance goes from `negative` to it, so for masg
            it is "background" where nothing is given.
        negative: what is not to be there: empty, or the object in words.
        steps: sampling steps, where a method takes any.
        seed: of the noise.
        grow: grow each object of the mask by this percentage of its size. 5 to 10 costs nothing; a mask a little too
            small brings the object back.
        context: surroundings the network sees, as a share of the object's size on each side. By default 0.5, and 1 for
            one-step, so that the shadow is among them.
        feather: width of the soft border, in pixels.
        device: "cpu", "cuda", ...; by default the GPU where there is one.
    """
    console = Console(stderr=True)
    for given, value, least in (
        ("steps", steps, 1),
        ("grow", grow, -50),
        ("context", context, 0),
        ("feather", feather, 0),
        ("strength", strength, 0),
    ):
        if value is not None and not least <= value < math.inf:
            raise ValueError(f"{given} is {value}, expected at least {least}, and finite.")
    check_writable(out, image, mask)
    name = method_for(method, adapters)
    eraser = load_eraser(adapters) if adapters and name == "one-step" else None
    if eraser and (prompt or negative):
        raise ValueError("one-step knows only the prompt it was trained with: leave --prompt and --negative out.")
    device = usable(device)
    picture, metadata = read_image(image), read_metadata(image)
    hole = regions.normalize_mask(read_mask(mask), 1, *picture.shape[-2:])
    hole = regions.grow(regions.fill_holes(hole), percent=grow)
    hole = regions.normalize_mask(hole, 1, *picture.shape[-2:])
    if base is None:
        console.print("No --base given: the mini model fills the hole. It knows drawn 64×64 scenes, not photographs.")
        network = load_mini(device=device)
        maximum = 2 * network.native_size
    else:
        network, maximum = load_checkpoint(base, device), None
    around = (1.0 if eraser else 0.5) if context is None else context
    if eraser:
        alpha_strength = 1.0 if strength is None else strength
        result = erase_region(
            network, picture, hole, eraser, context=around, feather=feather, strength=alpha_strength, seed=seed
        )
    else:
        if adapters is not None:
            network, learned = with_adapters(network, adapters)
            prompt = f"{learned} {prompt}".strip()
            if recipe_of(adapters) == "lrnr" and name in ("sra", "attentive-eraser"):
                console.print(f"{name} hides the object's keys, which made LRNR worse (its Appendix E): masg suits it.")
        chosen = with_strength(name, strength)
        if isinstance(chosen, MASG):
            prompt = prompt or "background"
        if prompt == negative and chosen.guidance != 1:
            raise ValueError(
                f'prompt and negative are both "{prompt}", which leaves guidance nothing to go by: say in prompt what is to be '
                "there, or in negative what is not."
            )
        result = remove_region(
            network,
            picture,
            hole,
            chosen,
            maximum=maximum,
            context=around,
            feather=feather,
            positive=prompt,
            negative=negative,
            steps=steps,
            seed=seed,
        )
    write_image(out, result, metadata)
    console.print(f"Wrote {out}" + ("" if base else ", by the mini model: give --base a checkpoint for photographs."))


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
    steps: int = 50,
    seed: int = 0,
) -> Tensor:
    """Crop around the hole, remove, paste back.

    Args:
        picture: [1, 3, H, W] in 0..1.
        hole: [1, H, W] of 0 and 1.
        maximum: longest side the network is given; None for as long as it takes.

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
        steps=steps,
        seed=seed,
        progress=lambda timesteps: tqdm(timesteps, desc="removing"),
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
    if not base.inpaints:
        raise ValueError(
            f"The base takes {base.unet.config['in_channels']} channels, and one-step needs an inpainting model: give that "
            "version of the checkpoint."
        )
    side = int(eraser.metadata.get("unclutter.resolution", SIDES[eraser.backbone]))
    crop = seams.plan_crop(hole, context=context, multiple=base.multiple, minimum=side, maximum=side)
    image, mask = seams.extract(picture, crop, "image"), seams.extract(hole[:, None], crop, "mask")[:, 0]
    erased = erase_once(base, eraser, image, mask, strength=strength, seed=seed)
    top, left, height, width = crop.boxes[0]
    alpha = F.interpolate(erased.alpha[:, None].float(), (height, width), mode="bilinear")[:, 0]
    taken = F.pad((alpha > 0.5).to(hole), (left, hole.shape[2] - left - width, top, hole.shape[1] - top - height))
    return seams.paste_back(picture, erased.picture.cpu(), crop, hole.maximum(taken), feather_pixels=feather)


def usable(device: str | None) -> str:
    """The device, by default the GPU where there is one; a ValueError where PyTorch cannot use it."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # PyTorch asserts that it was built for the device
        reason = str(error).splitlines()[0]
        raise ValueError(f"The device {device} cannot be used ({reason}): give another, such as cpu.") from None
    return device


def method_for(method: Name | None, adapters: Path | None) -> Name:
    """The method that was asked for, else the one that the adapters were trained for.

    Raises:
        ValueError: they do not go together; the message says what does.
    """
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
    return name


def with_strength(method: Name, strength: float | None) -> Method:
    """The method by its name on the command line, with the papers' values unless `strength` says otherwise."""
    chosen, field = {
        "masg": (MASG(), "guidance"),
        "attentive-eraser": (AttentiveEraser(), "removal_scale"),
        "sra": (SelfRectifying(), "guidance"),
        "plain": (Plain(), "guidance"),
    }[method]
    return chosen if strength is None else replace(chosen, **{field: strength})

"""`unclutter remove`: one photo, one mask, one file out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console
from torch import Tensor
from tqdm import tqdm

from ..kernels import regions, seams
from .adapt import recipe_of, with_adapters
from .checkpoints import load_checkpoint
from .pictures import check_writable, read_image, read_mask, read_metadata, write_image
from .sampling import MASG, AttentiveEraser, Base, Method, Plain, SelfRectifying, load_mini, remove

Name = Literal["masg", "attentive-eraser", "sra", "plain"]
TRAINED_FOR: dict[str | None, Name] = {None: "attentive-eraser", "lrnr": "masg", "eradiff": "sra"}
"""The method for adapters of each recipe, and without any."""


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
    context: float = 0.5,
    feather: int = 8,
    device: str | None = None,
) -> None:
    """Remove what a mask marks from a photo.

    Only the part around the mask is worked on, at its own scale; all pixels outside the mask and its soft border stay
    as they were.

    Args:
        image: the photo.
        mask: white (or transparent) where it is to be removed; any size.
        out: the picture to write, with the photo's colour profile and EXIF data. A .png holds every pixel as it is.
        base: a diffusers folder or a .safetensors checkpoint: SD 1.5, SD 2, SDXL, or their inpainting versions.
            Without one the mini model is used, which knows drawn scenes only.
        adapters: output folder of `unclutter train` on that base; its removal prompt goes before `prompt`.
        method: masg (LRNR's guidance), attentive-eraser (AAS and SARG), sra (EraDiff's attention) or plain inpainting. By
            default what the adapters were trained for, masg for LRNR and sra for EraDiff; without any attentive-eraser.
        strength: guidance in the mask (masg, 12.5), removal scale (attentive-eraser, 9), or guidance (sra, plain: 1).
        prompt: what is to be there: empty, or the background in words. Guidance goes from `negative` to it, so for masg
            it is "background" where nothing is given.
        negative: what is not to be there: empty, or the object in words.
        steps: sampling steps.
        seed: of the noise.
        grow: grow each object of the mask by this percentage of its size. 5 to 10 costs nothing; a mask a little too
            small brings the object back.
        context: surroundings the network sees, as a share of the object's size on each side.
        feather: width of the soft border, in pixels.
        device: "cpu", "cuda", ...; by default the GPU where there is one.
    """
    console = Console(stderr=True)
    check_writable(out, image, mask)
    recipe = None if adapters is None else recipe_of(adapters)
    if recipe not in TRAINED_FOR:
        raise ValueError(f"{adapters} holds a training of {recipe}: use it in ComfyUI, by the nodes that load it.")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # PyTorch asserts that it was built for the device
        reason = str(error).splitlines()[0]
        raise ValueError(f"The device {device} cannot be used ({reason}): give another, such as cpu.") from None
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
    if adapters is not None:
        network, learned = with_adapters(network, adapters)
        prompt = f"{learned} {prompt}".strip()
    chosen = with_strength(method or TRAINED_FOR[recipe], strength)
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
        context=context,
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


def with_strength(method: Name, strength: float | None) -> Method:
    """The method by its name on the command line, with the papers' values unless `strength` says otherwise."""
    chosen, field = {
        "masg": (MASG(), "guidance"),
        "attentive-eraser": (AttentiveEraser(), "removal_scale"),
        "sra": (SelfRectifying(), "guidance"),
        "plain": (Plain(), "guidance"),
    }[method]
    return chosen if strength is None else replace(chosen, **{field: strength})

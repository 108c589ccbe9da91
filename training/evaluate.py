"""`unclutter evaluate`: does a training remove? Measured on drawn scenes whose true background is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..kernels.regions import grow
from .adapt import with_adapters
from .bench import report
from .demo import erase
from .pictures import contact_sheet
from .sampling import MASG, Base, Method, Plain, SelfRectifying, load_mini
from .scenes import Scenes, draw_scenes

SIZE, BATCH = 64, 20
SEED = 20_000
"""Scenes of trainings and of the demo come from other seeds."""


@dataclass(frozen=True)
class Result:
    """A way to remove, over all scenes.

    Attributes:
        success: share of holes whose fill is nearer (mean squared error) to the true background than to the erased object
            and to a flat patch of the colour of any object in the scene.
        psnr: dB inside the hole against the true background, mean over scenes.
        outside: largest change of any pixel outside the hole and its feather, 0..1.
    """

    name: str
    success: float
    psnr: float
    outside: float


def evaluate(
    adapters: tuple[Path, ...] = (),
    scenes: int = 200,
    steps: int = 20,
    guidance: float = 3.0,
    seed: int = 0,
    sheet: Path | None = None,
    markdown: bool = False,
) -> list[Result]:
    """Remove one object from each of many cluttered scenes with the mini model, without and with adapters.

    Args:
        adapters: output folders of `unclutter train` on the mini model.
        scenes: how many scenes.
        steps: sampling steps.
        guidance: MASG's scale in the hole at the start.
        seed: of the scenes and the noise.
        sheet: write a contact sheet of the first scenes.
        markdown: print a Markdown table.
    """
    if scenes < 1 or steps < 1:
        raise ValueError(f"scenes is {scenes} and steps is {steps}: both must be at least 1.")
    generator = torch.Generator().manual_seed(SEED + seed)
    batches = []
    for first in range(0, scenes, BATCH):
        drawn = draw_scenes(min(BATCH, scenes - first), SIZE, generator)
        batches.append((drawn, drawn.pick_object(generator)))
    results, shown = [], {}
    for name, base, method, text in tqdm(list(ways(adapters, guidance)), desc="methods"):
        fills = [erase_scene(base, drawn, index, method, text, steps, seed) for drawn, index in batches]
        results.append(measure(name, fills, batches))
        shown[name] = fills[0]
    table: list[dict[str, float | str]] = [
        {
            "method": result.name,
            "removed": f"{result.success:.1%}",
            "hole PSNR, dB": result.psnr,
            "largest change outside": f"{result.outside:.4f}",
        }
        for result in results
    ]
    report(f"{scenes} scenes, {steps} steps, seed {seed}, mini model", table, markdown)
    if sheet:
        drawn, index = batches[0]
        pictures = {"input": drawn.picture(), **shown, "truth": drawn.without(index)}
        rows = [[(name, x[row : row + 1]) for name, x in pictures.items()] for row in range(min(6, len(index)))]
        contact_sheet(sheet, rows, side=128)
    return results


def ways(adapters: tuple[Path, ...], guidance: float) -> Iterator[tuple[str, Base, Method, str]]:
    """Every base and adapter in the ways its paper compares."""
    masg = MASG(guidance=guidance)
    base = load_mini()
    yield "mini", base, Plain(), ""
    yield "mini + MASG", base, masg, "background"
    yield "mini + SRA", base, SelfRectifying(), ""
    for folder in adapters:
        recipe = json.loads((folder / "recipe.json").read_text())
        name = f"{folder.name} ({recipe['recipe']})"
        adapted, text = with_adapters(load_mini(), folder)
        yield name, adapted, Plain(), text
        if recipe["recipe"] == "lrnr" and text:
            yield f"{name} + MASG", adapted, masg, text
        if recipe["recipe"] == "eradiff":
            yield f"{name} + SRA", adapted, SelfRectifying(), text


def erase_scene(base: Base, drawn: Scenes, index: Tensor, method: Method, text: str, steps: int, seed: int) -> Tensor:
    return erase(base, drawn.picture(), holes(drawn, index), method, steps, seed, positive=text)


def holes(drawn: Scenes, index: Tensor) -> Tensor:
    """What an artist would mark: the object, and a pixel around it. [B, H, W] of 0 and 1."""
    return grow(drawn.instance_masks()[torch.arange(len(index)), index], pixels=1)


def measure(name: str, fills: list[Tensor], batches: list[tuple[Scenes, Tensor]]) -> Result:
    success, psnr, outside = [], [], 0.0
    for fill, (drawn, index) in zip(fills, batches, strict=True):
        picture, mask = drawn.picture(), holes(drawn, index)
        hole = mask[:, None]
        area = 3 * mask.sum(dim=(1, 2))

        def error(other: Tensor, fill: Tensor = fill, hole: Tensor = hole, area: Tensor = area) -> Tensor:
            return ((fill - other).square() * hole).sum(dim=(1, 2, 3)) / area

        to_truth = error(drawn.without(index))
        others = [error(picture)]
        for slot in range(drawn.alphas.shape[1]):
            alpha = drawn.alphas[:, slot, None]
            colour = (drawn.colours[:, slot] * alpha).sum(dim=(2, 3)) / alpha.sum(dim=(2, 3)).clamp(min=1e-6)
            absent = ~drawn.present[:, slot]
            others.append(error(colour[:, :, None, None]).masked_fill(absent, torch.inf))
        success.append(to_truth < torch.stack(others).amin(dim=0))
        psnr.append(-10 * to_truth.clamp(min=1e-10).log10())
        untouched = grow(mask, pixels=2)[:, None] == 0
        outside = max(outside, ((fill - picture).abs() * untouched).max().item())
    return Result(name, torch.cat(success).float().mean().item(), torch.cat(psnr).mean().item(), outside)

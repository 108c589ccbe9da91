"""`unclutter evaluate`: does a training remove? Measured on drawn scenes whose true background is known."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from ..adapters import one_step
from ..kernels.regions import grow
from ..kernels.scene_layers import Scenes
from ..kernels.scenes import draw_scenes
from .adapt import load_eraser, recipe_of, with_adapters
from .bench import report
from .corrupt import move, shrink
from .demo import erase
from .onestep import erase_once
from .pictures import contact_sheet
from .sampling import MASG, Base, Method, Plain, SelfRectifying, load_mini

SIZE, BATCH = 64, 20
SEED = 20_000
"""Scenes of trainings and of the demo come from other seeds."""

MaskKind = Literal["object", "effect", "eroded", "dilated", "shifted", "holed"]
Remove = Callable[[Tensor, Tensor], Tensor]
"""(pictures [B, 3, H, W], masks [B, H, W]) -> pictures."""


@dataclass(frozen=True)
class Result:
    """A way to remove, over all scenes, for one kind of mask.

    Attributes:
        success: share of objects in whose place the fill is nearer (mean squared error) to the true background than to
            the erased object and to a flat patch of the colour of any object in the scene.
        psnr: dB in the object's place against the true background, mean over scenes.
        effect_psnr: the same where the object has gone but for its shadow.
        outside: largest change of any pixel that neither object, shadow nor mask reaches, 0..1.
        time: of a picture, by that of the first way; the median of batches that take turns.
    """

    name: str
    mask: MaskKind
    success: float
    psnr: float
    effect_psnr: float
    outside: float
    time: float


@dataclass(frozen=True)
class Case:
    """A batch of scenes, one object of each to be removed: pictures [B, 3, H, W], masks [B, H, W] of 0 and 1."""

    drawn: Scenes
    picture: Tensor
    truth: Tensor
    place: Tensor
    effect: Tensor


def evaluate(
    adapters: tuple[Path, ...] = (),
    scenes: int = 200,
    steps: int = 20,
    guidance: float = 3.0,
    masks: tuple[MaskKind, ...] = ("object",),
    baselines: bool = True,
    seed: int = 0,
    sheet: Path | None = None,
    markdown: bool = False,
) -> list[Result]:
    """Remove one object from each of many cluttered scenes with the mini model, without and with adapters.

    Args:
        adapters: output folders of `unclutter train` on the mini model, or files of one-step erasers.
        scenes: how many scenes.
        steps: sampling steps, where a method takes any.
        guidance: scale of classifier-free guidance, and of MASG in the hole at the start.
        masks: what is marked: the object's outline and a pixel around it; the object with its shadow; or the outline
            eroded to 60 % of its area, dilated by four pixels, shifted by three, or with a hole in its middle.
        baselines: also the mini model without adapters.
        seed: of the scenes and the noise.
        sheet: write a contact sheet of the first scenes, with the first kind of mask.
        markdown: print a Markdown table.
    """
    if scenes < 1 or steps < 1:
        raise ValueError(f"scenes is {scenes} and steps is {steps}: both must be at least 1.")
    if not masks:
        raise ValueError("masks is empty, expected at least one kind of mask: object is the usual one.")
    generator = torch.Generator().manual_seed(SEED + seed)
    cases = [draw(min(BATCH, scenes - first), generator) for first in range(0, scenes, BATCH)]
    if not (adapters or baselines):
        raise ValueError("There is nothing to evaluate: give adapters, or leave --no-baselines out.")
    removers = {
        **(plain_ways(guidance, steps, seed) if baselines else {}),
        **dict(ways(adapters, guidance, steps, seed)),
    }
    results, shown = [], {}
    for mask in masks:
        given = [marked(mask, case) for case in cases]
        fills: dict[str, list[Tensor]] = {name: [] for name in removers}
        times: dict[str, list[float]] = {name: [] for name in removers}
        for case, hole in zip(tqdm(cases, desc=f"{mask} masks"), given, strict=True):
            for name, remove in removers.items():
                start = time.perf_counter()
                fills[name].append(remove(case.picture, hole))
                times[name].append(time.perf_counter() - start)
        first = next(iter(times.values()))
        for name in removers:
            ratio = statistics.median(own / base for own, base in zip(times[name], first, strict=True))
            results.append(measure(name, mask, fills[name], cases, given, ratio))
        shown = shown or {name: fill[0] for name, fill in fills.items()}
    table: list[dict[str, float | str]] = [
        {
            "method": result.name,
            **({"mask": result.mask} if len(masks) > 1 else {}),
            "removed": f"{result.success:.1%}",
            "hole PSNR, dB": result.psnr,
            "shadow PSNR, dB": result.effect_psnr,
            "largest change outside": f"{result.outside:.3f}",
            "time": result.time,
        }
        for result in results
    ]
    report(f"{scenes} scenes, {steps} steps, seed {seed}, mini model", table, markdown)
    if sheet:
        pictures = {"input": cases[0].picture, **shown, "truth": cases[0].truth}
        rows = [
            [(name, x[row : row + 1]) for name, x in pictures.items()] for row in range(min(6, len(cases[0].truth)))
        ]
        contact_sheet(sheet, rows, side=128)
    return results


def draw(count: int, generator: torch.Generator) -> Case:
    drawn = draw_scenes(count, SIZE, generator)
    index = drawn.pick_object(generator)
    instance = drawn.instance_masks()[torch.arange(count), index]
    return Case(drawn, drawn.picture(), drawn.without(index), grow(instance, pixels=1), drawn.effect_mask(index))


def marked(kind: MaskKind, case: Case) -> Tensor:
    """What the artist marks, [B, H, W] of 0 and 1."""
    if kind == "object":
        return case.place
    if kind == "effect":
        return torch.maximum(case.effect, case.place)
    if kind == "dilated":
        return grow(case.place, pixels=4)
    if kind == "shifted":
        return torch.stack([move(mask, 3, 3) for mask in case.place])
    if kind == "eroded":
        return torch.stack([shrink(mask, 0.6) for mask in case.place])
    return torch.stack([mask - shrink(mask, 0.2) for mask in case.place])


def plain_ways(guidance: float, steps: int, seed: int) -> dict[str, Remove]:
    """The mini model without adapters."""
    base = load_mini()
    return {
        "mini": sampled(base, steps, seed, Plain()),
        "mini + CFG": sampled(base, steps, seed, Plain(guidance), "background"),
        "mini + MASG": sampled(base, steps, seed, MASG(guidance=guidance), "background"),
        "mini + SRA": sampled(base, steps, seed, SelfRectifying()),
    }


def ways(adapters: tuple[Path, ...], guidance: float, steps: int, seed: int) -> Iterator[tuple[str, Remove]]:
    """Each training in the ways its paper compares."""

    masg = MASG(guidance=guidance)
    for folder in adapters:
        recipe = recipe_of(folder)
        name = f"{folder.name} ({recipe})"
        if recipe == "osor":
            yield name, once(load_eraser(folder), seed)
            continue
        adapted, text = with_adapters(load_mini(), folder)
        yield name, sampled(adapted, steps, seed, Plain(), text)
        if recipe == "lrnr" and text:
            yield f"{name} + MASG", sampled(adapted, steps, seed, masg, text)
        if recipe == "eradiff":
            yield f"{name} + SRA", sampled(adapted, steps, seed, SelfRectifying(), text)


def sampled(base: Base, steps: int, seed: int, method: Method, text: str = "") -> Remove:
    """Sampling, pasted back."""
    return lambda picture, mask: erase(base, picture, mask, method, steps, seed, positive=text)


def once(adapter: one_step.OneStep, seed: int) -> Remove:
    """One call of the network; what it leaves alone has been through the VAE."""
    base = load_mini()
    return lambda picture, mask: erase_once(base, adapter, picture, mask, seed=seed).picture


def measure(
    name: str, mask: MaskKind, fills: list[Tensor], cases: list[Case], given: list[Tensor], ratio: float
) -> Result:
    success, psnr, effect_psnr, outside = [], [], [], 0.0
    for fill, case, hole in zip(fills, cases, given, strict=True):
        to_truth = error(fill, case.truth, case.place)
        others = [error(fill, case.picture, case.place)]
        for slot in range(case.drawn.alphas.shape[1]):
            alpha = case.drawn.alphas[:, slot, None]
            colour = (case.drawn.colours[:, slot] * alpha).sum(dim=(2, 3)) / alpha.sum(dim=(2, 3)).clamp(min=1e-6)
            absent = ~case.drawn.present[:, slot]
            others.append(error(fill, colour[:, :, None, None], case.place).masked_fill(absent, torch.inf))
        success.append(to_truth < torch.stack(others).amin(dim=0))
        psnr.append(decibels(to_truth))
        shadow = case.effect * (1 - case.place)
        effect_psnr.append(decibels(error(fill, case.truth, shadow))[shadow.sum(dim=(1, 2)) > 0])
        reached = torch.maximum(torch.maximum(case.effect, case.place), hole)
        untouched = grow(reached, pixels=2)[:, None] == 0
        outside = max(outside, ((fill - case.picture).abs() * untouched).max().item())
    share, place, shadow = (torch.cat(values).float().mean().item() for values in (success, psnr, effect_psnr))
    return Result(name, mask, share, place, shadow, outside, ratio)


def error(fill: Tensor, other: Tensor, region: Tensor) -> Tensor:
    """Mean squared error in a region [B, H, W], [B]."""
    area = 3 * region.sum(dim=(1, 2)).clamp(min=1)
    return ((fill - other).square() * region[:, None]).sum(dim=(1, 2, 3)) / area


def decibels(error: Tensor) -> Tensor:
    return -10 * error.clamp(min=1e-10).log10()

"""`unclutter evaluate crowds`: any of three objects that stand before one another removed, each layer's truth known."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ...adapters import layered
from ...adapters.methods import LAYERS, LRNR, ONE_STEP, TRAINED_FOR
from ...kernels.layers import recompose, visible_masks
from ...kernels.scene_layers import Scenes
from ...kernels.scenes import CROWD, draw_scenes
from ..base_models.mini import load_mini
from ..images.sheets import contact_sheet
from ..paths import recipe_of
from ..sampling.adapters import load_eraser, with_adapters
from ..sampling.layered import erase_layers
from ..sampling.methods import MASG, Plain
from .cases import SEED
from .measures import decibels, error
from .mini_removers import Remove, by_sampling, in_one_call
from .report import report
from .settings import CrowdsConfig

SUBSETS = [frozenset(chosen) for count in range(1, CROWD + 1) for chosen in itertools.combinations(range(CROWD), count)]
"""The seven subsets of three objects that may be removed."""
FEATHER = 4
"""That of Compose Layers by default."""
EraseAll = Callable[[Tensor, Tensor], dict[frozenset[int], Tensor]]
"""(pictures [B, 3, H, W], masks [B, N, H, W]) -> pictures without each of `SUBSETS`."""


@dataclass(frozen=True)
class CrowdResult:
    """A way to remove, over all scenes and all subsets of their objects.

    Attributes:
        psnr: dB against the truth where an object has gone, mean over scenes and subsets.
        completed: the same where a kept object was hidden by a removed one.
        unlike: the same in scenes whose objects are no look-alikes, so that to redraw who went completes nobody; NaN where
            there are none.
        leakage: mean change of a kept object where it was seen all along, 0..1.
        time: for all subsets of a picture, by that of the first way.
    """

    name: str
    psnr: float
    completed: float
    unlike: float
    leakage: float
    time: float


def evaluate_crowds(config: CrowdsConfig) -> list[CrowdResult]:
    """Remove every subset of three overlapping objects with the mini model: by layers, and one object after the other."""
    config.check()
    drawn = draw_scenes(
        config.scenes, load_mini().native_size, torch.Generator().manual_seed(SEED + config.seed), crowd=True
    )
    picture, masks = drawn.picture(), (drawn.alphas[:, :CROWD] > 0.5).float()
    truth = {gone: drawn.picture(kept_of(drawn, gone)) for gone in SUBSETS}
    results, fills = [], {}
    first = 0.0
    for name, erase_all in tqdm(
        list(erasers(config.adapters, drawn, config.guidance, config.steps, config.seed)), desc="methods"
    ):
        start = time.perf_counter()
        fills = erase_all(picture, masks)
        spent = time.perf_counter() - start
        first = first or spent
        results.append(measure(name, fills, truth, picture, masks, drawn.look_alikes(), spent / first))
    table: list[dict[str, float | str]] = [
        {
            "method": result.name,
            "hole PSNR, dB": result.psnr,
            "completed PSNR, dB": result.completed,
            "of unlike objects": result.unlike,
            "leakage": f"{result.leakage:.4f}",
            "time": result.time,
        }
        for result in results
    ]
    report(
        f"{config.scenes} crowds, {len(SUBSETS)} subsets, {config.steps} steps, seed {config.seed}, mini model",
        table,
        config.markdown,
    )
    if config.sheet:
        rows = []
        for row in range(min(6, config.scenes)):
            shown = {"input": picture} | {"without " + numbers(gone): fill for gone, fill in fills.items()}
            rows.append([(name, x[row : row + 1]) for name, x in shown.items()])
        contact_sheet(config.sheet, rows, side=128)
    return results


def erasers(
    adapters: tuple[Path, ...], drawn: Scenes, guidance: float, steps: int, seed: int
) -> Iterator[tuple[str, EraseAll]]:
    yield "mini, one after the other", in_turn(by_sampling(load_mini(), steps, seed, Plain()))
    for folder in adapters:
        recipe = recipe_of(folder)
        name = f"{folder.name} ({recipe})"
        suited = TRAINED_FOR.get(recipe)
        if suited == LAYERS:
            adapter = layered.load(folder / "layered.safetensors")
            yield f"{name}, one sampling", in_layers(adapter, guidance, steps, seed)
            if adapter.morphology:
                bodies = drawn.pose(), drawn.parsing()
                yield f"{name}, with pose and parsing", in_layers(adapter, guidance, steps, seed, *bodies)
        elif suited == ONE_STEP:
            yield f"{name}, one after the other", in_turn(in_one_call(load_eraser(folder), seed))
        else:
            base, text = with_adapters(load_mini(), folder)
            method = MASG(guidance=LRNR.mini_strength) if text else Plain()
            yield f"{name}, one after the other", in_turn(by_sampling(base, steps, seed, method, text))


def in_turn(remove: Remove) -> EraseAll:
    """Removes what is seen of the objects of a subset one by one, from front to back; what subsets share is done once."""

    def run(picture: Tensor, masks: Tensor) -> dict[frozenset[int], Tensor]:
        done = {frozenset(): picture}
        for gone in SUBSETS:
            last = min(gone)
            standing = masks.clone()
            standing[:, list(gone - {last})] = 0
            visible = torch.stack([visible_masks(objects)[last] for objects in standing])
            done[gone] = remove(done[gone - {last}], visible)
        return {gone: done[gone] for gone in SUBSETS}

    return run


def in_layers(
    adapter: layered.Layered,
    guidance: float,
    steps: int,
    seed: int,
    pose: Tensor | None = None,
    parsing: Tensor | None = None,
) -> EraseAll:
    """All layers by one sampling; a subset is then only composed.

    Args:
        pose: [B, 3, H, W] of the pictures.
        parsing: [B, H, W], their labels.
    """
    base = load_mini()

    def run(picture: Tensor, masks: Tensor) -> dict[frozenset[int], Tensor]:
        found = {gone: torch.empty_like(picture) for gone in SUBSETS}
        for row, (image, objects) in enumerate(zip(picture, masks, strict=True)):
            layers, background = erase_layers(
                base,
                adapter,
                image,
                objects,
                pose=None if pose is None else pose[row],
                parsing=None if parsing is None else parsing[row],
                guidance=(guidance, guidance),
                steps=steps,
                seed=seed,
            )
            for gone in SUBSETS:
                found[gone][row], _ = recompose(image, background, objects, objects, layers, gone, None, FEATHER)
        return found

    return run


def measure(
    name: str,
    fills: dict[frozenset[int], Tensor],
    truth: dict[frozenset[int], Tensor],
    picture: Tensor,
    masks: Tensor,
    alike: Tensor,
    ratio: float,
) -> CrowdResult:
    psnr, completed, unlike, leakage = [], [], [], []
    visible = torch.stack([visible_masks(objects) for objects in masks])
    for gone, fill in fills.items():
        kept = [index for index in range(CROWD) if index not in gone]
        left = masks.clone()
        left[:, list(gone)] = 0
        standing = torch.stack([visible_masks(objects) for objects in left])
        empty = masks[:, list(gone)].amax(dim=1) * (1 - standing.sum(dim=1).clamp(max=1))
        psnr.append(decibels(error(fill, truth[gone], empty)))
        if not kept:
            continue
        revealed = (standing - visible)[:, kept].clamp(min=0).amax(dim=1)
        there, found = revealed.sum(dim=(1, 2)) > 0, decibels(error(fill, truth[gone], revealed))
        completed.append(found[there])
        unlike.append(found[there & ~alike])
        kept_visible = visible[:, kept].amax(dim=1)[:, None]
        leakage.append(((fill - picture).abs() * kept_visible).sum() / (3 * kept_visible.sum()))
    hole, hidden, of_unlike = (torch.cat(found).mean().item() for found in (psnr, completed, unlike))
    return CrowdResult(name, hole, hidden, of_unlike, torch.stack(leakage).mean().item(), ratio)


def kept_of(drawn: Scenes, gone: frozenset[int]) -> Tensor:
    slots = torch.arange(drawn.present.shape[1])
    return drawn.present & ~torch.isin(slots, torch.tensor(sorted(gone)))


def numbers(gone: frozenset[int]) -> str:
    return ", ".join(str(index + 1) for index in sorted(gone))

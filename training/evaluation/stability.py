"""`unclutter evaluate stability`: how much the fill changes with the seed, by method and start (Attentive Eraser, Figure 5 and
the consensus of Table 1, here in pixels and not in CLIP's features)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from ...adapters.methods import ATTENTIVE_ERASER
from ..base_models.mini import load_mini
from ..sampling.methods import Method, Plain, mini_methods
from ..sampling.sampler import Start
from .cases import Case, draw
from .measures import bootstrap_interval, decibels, error
from .mini_removers import erase
from .report import report
from .settings import StabilityConfig

BATCH = 32
SEED = 50_000
"""Scenes of trainings, of the demo and of the other evaluations come from other seeds."""


@dataclass(frozen=True)
class Stability:
    """One method from one start, over all scenes.

    Attributes:
        spread: how far a fill lies from the mean fill of all seeds, root of the mean square in the hole, in levels of 255;
            mean over scenes.
        low, high: its 95 % bootstrap interval.
        hole_db: PSNR in the hole against the true background, mean over scenes and seeds.
    """

    way: str
    spread: float
    low: float
    high: float
    hole_db: float


def evaluate_stability(config: StabilityConfig) -> list[Stability]:
    """Remove the same objects with several seeds, by plain inpainting and by Attentive Eraser from each start."""
    config.check()
    generator = torch.Generator().manual_seed(SEED + config.seed)
    cases = [draw(min(BATCH, config.scenes - first), generator) for first in range(0, config.scenes, BATCH)]
    plain, eraser = Plain(), mini_methods()["attentive-eraser"]
    above = ATTENTIVE_ERASER.denoise["picture"]
    ways: dict[str, tuple[Method, Start, float]] = {
        f"plain inpainting from the picture, denoise {above:g}": (plain, "picture", above),
        f"Attentive Eraser from the picture, denoise {above:g} (SIP)": (eraser, "picture", above),
        "Attentive Eraser from noise": (eraser, "noise", 1.0),
        "Attentive Eraser by inversion (DIP)": (eraser, "inversion", 1.0),
    }
    results = [measure(name, way, cases, config) for name, way in ways.items()]
    rows: list[dict[str, float | str]] = [
        {
            "": result.way,
            "spread over seeds, of 255": f"{result.spread:.2f} [{result.low:.2f}, {result.high:.2f}]",
            "hole PSNR, dB": result.hole_db,
        }
        for result in results
    ]
    title = f"{config.scenes} scenes, {config.seeds} seeds, {config.steps} steps, mini model"
    report(title, rows, config.markdown)
    return results


def measure(name: str, way: tuple[Method, Start, float], cases: list[Case], config: StabilityConfig) -> Stability:
    method, start, denoise = way
    base, spreads, found = load_mini(), [], []
    for case in tqdm(cases, desc=name, leave=False):
        fills = torch.stack(
            [
                erase(base, case.picture, case.place, method, config.steps, seed, "", start=start, denoise=denoise)
                for seed in range(config.seeds)
            ]
        )
        spreads.append(spread(fills, case.place))
        found += [decibels(error(fill, case.truth, case.place)) for fill in fills]
    per_scene = 255 * torch.cat(spreads)
    low, high = bootstrap_interval(per_scene)
    return Stability(name, per_scene.mean().item(), low, high, torch.cat(found).mean().item())


def spread(fills: Tensor, hole: Tensor) -> Tensor:
    """The root of the variance over seeds, its mean taken over the hole: fills [S, B, 3, H, W], hole [B, H, W] -> [B]."""
    variance = fills.var(dim=0, correction=0).mean(dim=1)
    return ((variance * hole).sum(dim=(1, 2)) / hole.sum(dim=(1, 2))).sqrt()

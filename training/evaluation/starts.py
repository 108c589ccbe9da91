"""`unclutter evaluate starts`: noise, the picture or a draft as the beginning of each method, on drawn scenes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from ...adapters.methods import LRNR
from ...adapters.methods import METHODS as FACTS
from ...kernels.exemplar import exemplar_fill
from ..base_models.base import Base
from ..base_models.mini import load_mini
from ..images.sheets import contact_sheet
from ..sampling.adapters import with_mini_lrnr
from ..sampling.sampler import Start
from .cases import Case, draw
from .demo import METHODS
from .measures import bootstrap_interval, decibels, error
from .mini_removers import erase
from .report import report
from .settings import StartsConfig

BATCH = 32
SEED = 30_000
"""Scenes of trainings, of the demo and of `unclutter evaluate` come from other seeds."""


@dataclass(frozen=True)
class Row:
    """One beginning of one method, over all scenes.

    Attributes:
        start: "draft, shown too": an inpainting model is shown the draft in place of its usual condition image; "draft
            alone": the draft without any sampling.
        hole_db: PSNR in the hole against the true background, mean over scenes.
        nearer_truth: share of fills nearer (mean squared error) to the true background than to the erased object.
        gain_db: mean difference of `hole_db` to the authors' way on the same scenes.
        gain_low, gain_high: the 95 % bootstrap interval of that mean.
    """

    method: str
    start: str
    denoise: float
    scenes: int
    hole_db: float
    nearer_truth: float
    gain_db: float
    gain_low: float
    gain_high: float


def evaluate_starts(config: StartsConfig) -> list[Row]:
    """Compare noise, the noised picture and a noised draft as the start of each method, on the mini model."""
    config.check()
    generator = torch.Generator().manual_seed(SEED + config.seed)
    cases = [draw(min(BATCH, config.scenes - first), generator) for first in range(0, config.scenes, BATCH)]
    drafts = [exemplar_fill(case.picture, case.place, seed=config.seed) for case in tqdm(cases, desc="draft")]
    kinds = ("draft", "draft, shown too") if config.shown else ("draft",)
    table, columns = [], [("input", cases[0].picture), ("draft", drafts[0])]
    for method in config.methods:
        # How far up the schedule the method's authors begin, from the noised picture.
        authors = (LRNR if method == "lrnr" else FACTS[method]).denoise["picture"]
        base, text = with_mini_lrnr() if method == "lrnr" else (load_mini(), METHODS[method].words)
        begins = dict.fromkeys([("picture", authors), ("noise", 1.0)])
        begins |= dict.fromkeys((kind, value) for kind in kinds for value in config.denoise)
        fills = {begin: filled(base, method, text, begin, cases, drafts, config.steps, config.seed) for begin in begins}
        table += [row(method, begin, fills[begin], fills["picture", authors], cases) for begin in begins]
        table.append(row(method, ("draft alone", 0.0), drafts, fills["picture", authors], cases))
        best = max(begins, key=lambda begin: hole_decibels(fills[begin], cases).mean().item())
        columns.append((method, fills["picture", authors][0]))
        columns.append((f"from {best[0]} {best[1]:g}", fills[best][0]))
    show(table, f"{config.scenes} scenes, {config.steps} steps, seed {config.seed}, mini model", config.markdown)
    if config.rows:
        config.rows.write_text("".join(json.dumps(asdict(each)) + "\n" for each in table))
    if config.sheet:
        columns.append(("truth", cases[0].truth))
        count = min(6, len(cases[0].truth))
        contact_sheet(config.sheet, [[(name, x[at : at + 1]) for name, x in columns] for at in range(count)], 128)
    return table


def filled(
    base: Base,
    method: str,
    text: str,
    begin: tuple[str, float],
    cases: list[Case],
    drafts: list[Tensor],
    steps: int,
    seed: int,
) -> list[Tensor]:
    """The fills of all scenes, pasted back, for one (start, denoise)."""
    kind, denoise = begin
    fills = []
    for case, draft in zip(tqdm(cases, desc=f"{method}, {kind} {denoise:g}"), drafts, strict=True):
        picture = case.picture
        start: Start = draft if kind == "draft" else "noise" if kind == "noise" else "picture"
        if kind == "draft, shown too":
            base, picture = replace(base, condition_image="full"), draft
        fill = erase(base, picture, case.place, METHODS[method], steps, seed, text, start=start, denoise=denoise)
        fills.append(fill)
    return fills


def row(method: str, begin: tuple[str, float], fills: list[Tensor], authors: list[Tensor], cases: list[Case]) -> Row:
    own = hole_decibels(fills, cases)
    gain = own - hole_decibels(authors, cases)
    low, high = bootstrap_interval(gain)
    nearer = torch.cat(
        [
            error(x, case.truth, case.place) < error(x, case.picture, case.place)
            for x, case in zip(fills, cases, strict=True)
        ]
    )
    mean = (own.mean().item(), nearer.float().mean().item(), gain.mean().item())
    return Row(method, *begin, len(own), *mean, low, high)


def hole_decibels(fills: list[Tensor], cases: list[Case]) -> Tensor:
    """PSNR in the hole of each scene, [scenes]."""
    return decibels(torch.cat([error(x, case.truth, case.place) for x, case in zip(fills, cases, strict=True)]))


def show(table: list[Row], title: str, markdown: bool) -> None:
    """Print the table; a gain whose interval holds 0 is called noise."""
    lines: list[dict[str, float | str]] = [
        {
            "method": row.method,
            "start": row.start,
            "denoise": f"{row.denoise:g}" if row.denoise else "",
            "hole PSNR, dB": f"{row.hole_db:.2f}",
            "nearer the truth than the object": f"{row.nearer_truth:.1%}",
            "gain over the authors' way, dB": f"{row.gain_db:+.2f} [{row.gain_low:+.2f}, {row.gain_high:+.2f}]"
            + (", noise" if row.gain_low <= 0 <= row.gain_high and row.gain_low < row.gain_high else ""),
        }
        for row in table
    ]
    report(title, lines, markdown)

"""`unclutter evaluate starts`: noise, the picture or a draft as the beginning of each method, on drawn scenes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from ...kernels.exemplar import exemplar_fill
from ..base_models.base import Base
from ..base_models.mini import load_mini
from ..images.sheets import contact_sheet
from ..sampling.adapters import with_mini_lrnr
from ..sampling.sampler import Start
from .cases import Case, draw
from .demo import BACKGROUND, METHODS
from .measures import bootstrap_interval, decibels, error
from .report import report
from .ways import erase

BATCH = 32
SEED = 30_000
"""Scenes of trainings, of the demo and of `unclutter evaluate` come from other seeds."""

Name = Literal["plain", "attentive-eraser", "sra", "masg", "lrnr"]
AUTHORS: dict[Name, float] = {"plain": 1.0, "attentive-eraser": 0.8, "sra": 1.0, "masg": 1.0, "lrnr": 1.0}
"""How far up the schedule each method's authors begin, from the noised picture."""


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


def evaluate_starts(
    methods: tuple[Name, ...] = ("attentive-eraser", "sra", "masg", "lrnr"),
    scenes: int = 96,
    denoise: tuple[float, ...] = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    steps: int = 8,
    shown: bool = True,
    seed: int = 0,
    sheet: Path | None = None,
    rows: Path | None = None,
    markdown: bool = False,
) -> list[Row]:
    """Compare noise, the noised picture and a noised draft as the start of each method, on the mini model.

    Args:
        methods: plain inpainting, Attentive Eraser, SRA, MASG, and LRNR with the adapters that come with the pack.
        scenes: how many drawn scenes, the same for all.
        denoise: how far up the noise schedule the draft is noised, above 0 to 1; the picture is as far as by the authors.
        steps: sampling steps; they stay as many at every `denoise`.
        shown: also with a model that is shown the draft, in place of the picture with a grey hole or (LRNR) the picture.
        seed: of the scenes and of the noise.
        sheet: write a contact sheet of the first six scenes.
        rows: write the numbers as one JSON object a line.
        markdown: print a Markdown table.
    """
    if scenes < 2 or steps < 1:
        raise ValueError(f"scenes is {scenes} and steps is {steps}: expected at least 2 scenes and 1 step.")
    if wrong := [value for value in denoise if not 0 < value <= 1]:
        raise ValueError(f"denoise is {wrong[0]}: expected values above 0, up to 1.")
    generator = torch.Generator().manual_seed(SEED + seed)
    cases = [draw(min(BATCH, scenes - first), generator) for first in range(0, scenes, BATCH)]
    drafts = [exemplar_fill(case.picture, case.place, seed=seed) for case in tqdm(cases, desc="draft")]
    kinds = ("draft", "draft, shown too") if shown else ("draft",)
    table, columns = [], [("input", cases[0].picture), ("draft", drafts[0])]
    for method in methods:
        base, text = with_mini_lrnr() if method == "lrnr" else (load_mini(), BACKGROUND if method == "masg" else "")
        ways = dict.fromkeys([("picture", AUTHORS[method]), ("noise", 1.0)])
        ways |= dict.fromkeys((kind, value) for kind in kinds for value in denoise)
        fills = {way: filled(base, method, text, way, cases, drafts, steps, seed) for way in ways}
        table += [row(method, way, fills[way], fills["picture", AUTHORS[method]], cases) for way in fills]
        table.append(row(method, ("draft alone", 0.0), drafts, fills["picture", AUTHORS[method]], cases))
        best = max(ways, key=lambda way: hole_decibels(fills[way], cases).mean().item())
        columns.append((method, fills["picture", AUTHORS[method]][0]))
        columns.append((f"from {best[0]} {best[1]:g}", fills[best][0]))
    show(table, f"{scenes} scenes, {steps} steps, seed {seed}, mini model", markdown)
    if rows:
        rows.write_text("".join(json.dumps(asdict(each)) + "\n" for each in table))
    if sheet:
        columns.append(("truth", cases[0].truth))
        count = min(6, len(cases[0].truth))
        contact_sheet(sheet, [[(name, x[at : at + 1]) for name, x in columns] for at in range(count)], 128)
    return table


def filled(
    base: Base,
    method: Name,
    text: str,
    way: tuple[str, float],
    cases: list[Case],
    drafts: list[Tensor],
    steps: int,
    seed: int,
) -> list[Tensor]:
    """The fills of all scenes, pasted back, for one (start, denoise)."""
    kind, denoise = way
    fills = []
    for case, draft in zip(tqdm(cases, desc=f"{method}, {kind} {denoise:g}"), drafts, strict=True):
        picture = case.picture
        start: Start = draft if kind == "draft" else "noise" if kind == "noise" else "picture"
        if kind == "draft, shown too":
            base, picture = replace(base, condition_image="full"), draft
        fill = erase(base, picture, case.place, METHODS[method], steps, seed, text, start=start, denoise=denoise)
        fills.append(fill)
    return fills


def row(method: str, way: tuple[str, float], fills: list[Tensor], authors: list[Tensor], cases: list[Case]) -> Row:
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
    return Row(method, *way, len(own), *mean, low, high)


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

"""`unclutter evaluate`: does a training remove? Measured on drawn scenes whose true background is known."""

from __future__ import annotations

import json as json_format
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ...kernels.regions import grow
from ...kernels.vocabulary import Difficulty
from ..base_models.mini import load_mini
from ..images.sheets import contact_sheet
from .cases import SEED, Case, draw, marked
from .judge import Judge, load_judge, stands
from .measures import NOISE, bootstrap_interval, decibels, error, mcnemar, rate_interval
from .mini_removers import PAINT, RING, removers_with_adapters, removers_without_adapters
from .report import report
from .settings import EvaluateConfig, MaskKind

BATCH = 20


@dataclass(frozen=True, eq=False)
class Result:
    """A way to remove, on N scenes, for one kind of mask.

    Attributes:
        removed: [N] bool, whether the judge sees no object in the place.
        hole: [N], dB in the object's place against the true background.
        shadow: [M], the same where the object has gone but for its shadow, of the scenes where there is such a region.
        outside: largest change of any pixel that neither object, shadow nor mask reaches, 0..1.
        time: of a picture, by that of the first method after the paint; the median of batches that take turns.
    """

    name: str
    mask: MaskKind
    removed: Tensor
    hole: Tensor
    shadow: Tensor
    outside: float
    time: float


def evaluate(config: EvaluateConfig) -> list[Result]:
    """Remove one object from each of many cluttered scenes with the mini model, without and with adapters."""
    config.check()
    removers = {
        **PAINT,
        **(
            removers_without_adapters(config.guidance, config.steps, config.seed, config.model)
            if config.baselines
            else {}
        ),
        **dict(removers_with_adapters(config.adapters, config.guidance, config.steps, config.seed, config.model)),
    }
    judge, size = load_judge(), load_mini(config.model).native_size
    generator = torch.Generator().manual_seed(SEED + config.seed)
    cases = [
        draw(min(BATCH, config.scenes - first), generator, size, config.difficulty)
        for first in range(0, config.scenes, BATCH)
    ]
    results, shown = [], {}
    for mask in config.masks:
        given = [marked(mask, case) for case in cases]
        fills: dict[str, list[Tensor]] = {name: [] for name in removers}
        times: dict[str, list[float]] = {name: [] for name in removers}
        for case, hole in zip(tqdm(cases, desc=f"{mask} masks"), given, strict=True):
            for name, remove in removers.items():
                start = time.perf_counter()
                fills[name].append(remove(case.picture, hole))
                times[name].append(time.perf_counter() - start)
        first = times[next((name for name in removers if name not in PAINT), RING)]
        for name in removers:
            ratio = statistics.median(own / base for own, base in zip(times[name], first, strict=True))
            results.append(measure(name, mask, fills[name], cases, given, ratio, judge))
        shown = shown or {name: fill[0] for name, fill in fills.items()}
    title = f"{config.scenes} scenes ({config.difficulty}, {size} pixels), {config.steps} steps, seed {config.seed}, mini model"
    report(title, table(results, several=len(config.masks) > 1), config.markdown)
    missed, alarms = judge_errors(judge, cases)
    print(
        f"The judge misses {missed:.1%} of these {config.scenes} objects where they stand, and sees one in {alarms:.1%} of their "
        f"places where they are gone. {legend(results)}"
    )
    if config.json is not None:
        write_rows(config.json, results, config.difficulty, (missed + alarms) / 2)
    if config.sheet:
        pictures = {"input": cases[0].picture, **shown, "truth": cases[0].truth}
        count = min(6, len(cases[0].truth))
        contact_sheet(
            config.sheet, [[(name, x[at : at + 1]) for name, x in pictures.items()] for at in range(count)], 160
        )
    return results


def measure(
    name: str, mask: MaskKind, fills: list[Tensor], cases: list[Case], given: list[Tensor], ratio: float, judge: Judge
) -> Result:
    removed, hole, shadow, outside = [], [], [], 0.0
    for fill, case, marking in zip(fills, cases, given, strict=True):
        removed.append(~stands(judge, fill, case.ground))
        hole.append(decibels(error(fill, case.truth, case.place)))
        shade = case.effect * (1 - case.place)
        shadow.append(decibels(error(fill, case.truth, shade))[shade.sum(dim=(1, 2)) > 0])
        reached = torch.maximum(torch.maximum(case.effect, case.place), marking)
        untouched = grow(reached, pixels=2)[:, None] == 0
        outside = max(outside, ((fill - case.picture).abs() * untouched).max().item())
    return Result(name, mask, torch.cat(removed), torch.cat(hole), torch.cat(shadow), outside, ratio)


def judge_errors(judge: Judge, cases: list[Case]) -> tuple[float, float]:
    """Shares of the objects that it misses in the scenes themselves, and of places where it sees one in the truth."""
    missed = torch.cat([~stands(judge, case.picture, case.ground) for case in cases])
    alarms = torch.cat([stands(judge, case.truth, case.ground) for case in cases])
    return missed.float().mean().item(), alarms.float().mean().item()


def table(results: list[Result], several: bool) -> list[dict[str, float | str]]:
    """A line for each result; paint is compared by its decibels alone, methods by how often they remove, too."""
    lines: list[dict[str, float | str]] = []
    for result in results:
        rate = result.removed.float().mean().item()
        low, high = rate_interval(int(result.removed.sum()), len(result.removed))
        gain, least, most = gain_over_ring(result, results)
        noise = ", within noise" if least <= 0 <= most and result.name != RING else ""
        first = reference(result, results)
        chance = mcnemar(result.removed, first.removed)
        lines.append(
            {
                "method": result.name,
                **({"mask": result.mask} if several else {}),
                "removed": f"{rate:.1%} ({low:.0%} to {high:.0%})",
                f"p against {first.name}": "–"
                if result is first
                else ("< 0.001" if chance < 0.001 else f"{chance:.3f}") + (", within noise" if chance >= NOISE else ""),
                "hole PSNR, dB": result.hole.mean().item(),
                "gain over the ring, dB": "–"
                if result.name == RING
                else f"{gain:+.2f} ({least:+.2f} to {most:+.2f}){noise}",
                "shadow PSNR, dB": result.shadow.mean().item(),
                "largest change outside, of 1": f"{result.outside:.3f}",
                "time, ratio": result.time,
            }
        )
    return lines


def legend(results: list[Result]) -> str:
    return (
        "Removed: the judge sees no object in its place (95 % interval, Wilson). p: McNemar's exact test of how often "
        f"{reference(results[0], results).name} and the method remove, on the same scenes. Gain: paired, with its 95 % "
        "bootstrap interval. No interval holds the chance of another training."
    )


def reference(result: Result, results: list[Result]) -> Result:
    """The first method that is no paint, or the ring where there is none, for the same kind of mask."""
    same = [other for other in results if other.mask == result.mask]
    return next((other for other in same if other.name not in PAINT), same[0])


def gain_over_ring(result: Result, results: list[Result]) -> tuple[float, float, float]:
    """Mean difference in the hole's decibels to the ring's on the same scenes, and its 95 % interval."""
    (ring,) = [other for other in results if other.name == RING and other.mask == result.mask]
    gains = result.hole - ring.hole
    return gains.mean().item(), *bootstrap_interval(gains)


def write_rows(path: Path, results: list[Result], difficulty: Difficulty, judge_error: float) -> None:
    """Write one JSON object a line: `removed` and `judge_error` are shares in 0..1, the rest is dB."""
    lines = []
    for result in results:
        gain, low, high = gain_over_ring(result, results)
        row = {
            "method": result.name,
            "difficulty": difficulty,
            "mask": result.mask,
            "scenes": len(result.hole),
            "hole_db": result.hole.mean().item(),
            "gain_over_ring_db": gain,
            "gain_low": low,
            "gain_high": high,
            "shadow_db": result.shadow.mean().item(),
            "removed": result.removed.float().mean().item(),
            "judge_error": judge_error,
        }
        lines.append(json_format.dumps(row))
    path.write_text("\n".join(lines) + "\n")

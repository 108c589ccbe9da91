"""`unclutter bench draft`: the draft beside the fills without weights that others ship, in quality and in time."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from tqdm import tqdm

from ...kernels.exemplar import exemplar_fill
from ...kernels.regions import around, drop_small, fill_holes, grow
from ..evaluation.measures import bootstrap_interval, decibels, error
from ..evaluation.report import report
from ..images.files import read_image, read_mask
from ..images.opencv_fills import pixels, shift_map, telea
from ..images.sheets import contact_sheet
from .settings import SAMPLES, DraftBenchConfig
from .timing import machine

SHARE, LONGEST = 0.05, 1024
Fill = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A picture [1, 3, H, W] with a hole [1, H, W], and the true picture where it is known."""

    name: str
    image: Tensor
    mask: Tensor
    truth: Tensor | None


def bench_draft(config: DraftBenchConfig) -> list[dict]:
    """The draft against OpenCV's Telea and SHIFTMAP, on scikit-image's sample pictures."""
    cases = [*sample_cases(config.samples, config.seed), *(photo_cases(config.photos) if config.photos else [])]
    fills = rivals(config.slow)
    rows, ratios, sheets = [], [], []
    for case in tqdm(cases, desc="pictures"):
        results, seconds = {}, {}
        for name, fill in fills.items():
            start = time.perf_counter()
            results[name] = torch.where(case.mask[:, None] > 0, fill(case.image, case.mask), case.image)
            seconds[name] = time.perf_counter() - start
        ratios.append({name: seconds[name] / seconds["SHIFTMAP"] for name in fills})
        sheets.append(panels(case, results))
        if case.truth is not None:
            row = {name: decibels(error(result, case.truth, case.mask)).item() for name, result in results.items()}
            rows.append({"picture": case.name, "hole": f"{case.mask.mean():.0%}", **row})
    report(f"{machine('cpu')}; PSNR of the hole in dB", [*rows, *summary(rows, ratios, list(fills))], config.markdown)
    if config.sheet:
        contact_sheet(config.sheet, sheets, 240)
    return rows


def rivals(slow: bool = False) -> dict[str, Fill]:
    """The fills that are compared, each from pictures [1, 3, H, W] and masks [1, H, W]."""

    def object_remove(image: Tensor, mask: Tensor) -> Tensor:
        from object_remove import EngineTier, RemoveObjectJob

        job = RemoveObjectJob(pixels(image), device="cpu")
        filled = np.asarray(job.run(mask[0].numpy() > 0, tier=EngineTier.AUTO).image, dtype=np.float32)
        return rearrange(torch.from_numpy(filled), "h w c -> 1 c h w")

    fills: dict[str, Fill] = {"draft": exemplar_fill, "SHIFTMAP": shift_map, "Telea": telea}
    return fills | ({"object-remove": object_remove} if slow else {})


def sample_cases(names: tuple[str, ...], seed: int) -> list[Case]:
    """Sample pictures by name, each with a hole of its own."""
    import skimage.data

    cases = []
    for name in names:
        (path,) = Path(skimage.data.__file__).parent.glob(f"{name}.*")
        image = read_image(path)
        shrink = min(1, LONGEST / max(image.shape[-2:]))
        if shrink < 1:
            image = F.interpolate(image, scale_factor=shrink, mode="area")
        height, width = image.shape[-2:]
        hole = round_hole(height, width, SAMPLES.index(name) + len(SAMPLES) * seed)
        cases.append(Case(name, image, hole, image))
    return cases


def photo_cases(folder: Path) -> list[Case]:
    """The pictures of a folder, named as `bench_draft` says.

    Raises:
        ValueError: there are none.
    """
    cases = []
    for path in sorted(folder.glob("*_mask.png")):
        (picture,) = (each for each in folder.glob(f"{path.stem.removesuffix('_mask')}.*"))
        cases.append(Case(picture.stem, read_image(picture), grow((read_mask(path) > 0.5).float(), pixels=4), None))
    for path in sorted(folder.glob("*_before.*")):
        before, after = read_image(path), read_image(path.with_name(path.name.replace("_before", "_after")))
        after = F.interpolate(after, before.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)
        differs = F.avg_pool2d((before - after).abs().amax(1), 5, 1, 2) > 0.12
        mask = grow(fill_holes(drop_small(grow(differs.float(), pixels=-2), round(0.003 * differs.numel()))), pixels=7)
        cases.append(Case(path.stem.removesuffix("_before"), before, mask, after))
    if not cases:
        raise ValueError(f"{folder} has no NAME_mask.png and no NAME_before.* with NAME_after.*: give such a folder.")
    return cases


def round_hole(height: int, width: int, seed: int) -> Tensor:
    """A lobed blob of about `SHARE` of the picture near its middle: [1, height, width] of 0 and 1."""
    chance = np.random.default_rng(seed)
    top, left = chance.uniform(0.35, 0.65, 2) * (height, width)
    rows, columns = np.arange(height)[:, None] - top, np.arange(width) - left
    angle = np.arctan2(rows, columns)
    lobes = (chance.normal(0, 0.12) * np.cos(k * angle + chance.uniform(0, 2 * math.pi)) for k in (2, 3, 4))
    radius = math.sqrt(SHARE * height * width / math.pi) * (1 + sum(lobes))
    return torch.from_numpy((np.hypot(rows, columns) < radius).astype(np.float32))[None]


def panels(case: Case, results: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    """The surroundings of the hole: what came, each fill, and the truth."""
    here = (..., *around(case.mask[0], 40))
    magenta = torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    marked = torch.where(case.mask[:, None] > 0, magenta, case.image)
    shown = {case.name: marked, **results, **({} if case.truth is None else {"truth": case.truth})}
    return [(name, image[here]) for name, image in shown.items()]


def summary(rows: list[dict], ratios: list[dict[str, float]], fills: list[str]) -> list[dict]:
    """The mean PSNR, the gain over SHIFTMAP with its interval, how many pictures gain, and the times."""

    def over(name: str) -> Tensor:
        return torch.tensor([row[name] - row["SHIFTMAP"] for row in rows])

    def gain(name: str) -> str:
        low, high = bootstrap_interval(over(name))
        return f"{over(name).mean():+.1f} ({low:+.1f} to {high:+.1f})"

    def median(name: str) -> float:
        return statistics.median(ratio[name] for ratio in ratios)

    lines: dict[str, Callable[[str], float | str]] = {
        "mean": lambda name: statistics.mean(row[name] for row in rows),
        "over SHIFTMAP, dB (95 %)": gain,
        "at least SHIFTMAP's": lambda name: f"{int((over(name) >= 0).sum())} of {len(rows)}",
        "times SHIFTMAP's": median,
    }
    return [{"picture": line, **{name: value(name) for name in fills}} for line, value in lines.items()]

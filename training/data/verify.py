"""`unclutter data verify`: removal pairs, and masks of the object and its effects, out of noisy edits (OSOR's SAVP).

A pair passes if what the edit changed is in few places (`differences.py`) and where the instruction's object is
(`grounding.py`). Its mask is what changed there together with the object, a little grown: shadows and reflections change,
too. Pairs whose effects are large beside the object go to phase 2 of OSOR, which trains with the object's mask alone.
"""

from __future__ import annotations

import functools
import json
import os
import pickle
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...adapters.writing import write_text
from .differences import (
    REASONS,
    Corners,
    Rejection,
    bounding_box,
    changed_mask,
    grow_area,
    heat_map,
    main_regions,
    match_boxes,
    regions_in,
    split_effect,
)
from .edits import Edit, list_edits, read_edit
from .grounding import BoxesFromFile, Detector, GroundingDINO, MasksFromFolder, SegmentAnything, Segmenter
from .settings import VerifyConfig
from .verified import is_done, read_report, write_pair, write_report, write_sets, write_sheet
from .workers import worker_pool

CORPUS = 680_088
"""Edits in the corpus that the paper went through (Table 7)."""


def verify_pairs(config: VerifyConfig) -> None:
    """Verify all edits; what a run that was stopped has done is kept.

    Raises:
        ValueError: the list of edits cannot be read, or the output holds a set of other settings.
        OSError: a folder or file is not there.
    """
    edits = list_edits(config.edits.absolute())
    done = {entry["name"]: entry for entry in read_report(config.output / "report.jsonl")}
    done = {edit.name: done[edit.name] for edit in edits if is_done(config.output, done.get(edit.name))}
    todo = [edit for edit in edits if edit.name not in done]
    if todo:
        try_grounding(config)
    config.output.mkdir(parents=True, exist_ok=True)
    note_settings(config)
    write_report(config.output, done.values())
    run = run_ray if config.engine == "ray" else run_local
    start = time.monotonic()
    with (
        tqdm(total=len(edits), initial=len(done), unit="pair", desc="SAVP") as progress,
        (config.output / "report.jsonl").open("a", encoding="utf-8") as report,
    ):
        for entry in run(config, todo):
            done[entry["name"]] = entry
            report.write(json.dumps(entry) + "\n")
            report.flush()
            progress.update()
    seconds = time.monotonic() - start
    entries = [done[edit.name] for edit in edits]
    write_report(config.output, entries)
    write_sets(config.output, entries)
    write_sheet(config.output, edits, entries, config.constants, config.size_tolerance)
    summarize(config, entries, len(todo), seconds)


def verify(config: VerifyConfig, edit: Edit) -> dict:
    """Verify one edit and write its pictures if it passes.

    Returns:
        its line of the report: name, instruction, accepted, reason and detail of a rejection (else null), size (width and
        height, null if it cannot be read), the boxes that were kept, effect_ratio (null without a segmenter), phase2, and
        the files, relative to the output.
    """
    entry = {"name": edit.name, "instruction": edit.instruction, "accepted": False, "reason": None, "detail": None}
    entry |= {"size": None, "boxes": [], "effect_ratio": None, "phase2": False, "files": {}}
    try:
        shot, background = read_edit(edit, config.size_tolerance)
        entry["size"] = [shot.shape[-1], shot.shape[-2]]
        changed = changed_mask(heat_map(shot, background, config.constants), config.constants)
        kept, mask, core = find_masks(config, edit, shot, changed)
    except Rejection as rejection:
        return entry | {"reason": rejection.reason, "detail": str(rejection)}
    ratio = None if core is None else round(split_effect(mask, core, config.constants)[1], 4)
    phase2 = ratio is not None and ratio > config.constants.effect_threshold
    files = write_pair(config.output, "phase2/" if phase2 else "", edit, background, mask, core)
    boxes = [[round(side, 1) for side in box] for box in kept]
    return entry | {"accepted": True, "boxes": boxes, "effect_ratio": ratio, "phase2": phase2, "files": files}


def find_masks(
    config: VerifyConfig, edit: Edit, shot: Tensor, changed: np.ndarray
) -> tuple[list[Corners], np.ndarray, np.ndarray | None]:
    """The boxes that are kept, the effect-aware mask, and the object's own (None without a segmenter).

    Raises:
        Rejection: the pair must not train a removal.
    """
    constants, (detector, segmenter) = config.constants, grounding(config)
    kept: list[Corners] = [region.box for region in main_regions(changed, constants)]
    if detector is not None:
        found = sorted(detector.boxes(edit.name, shot, edit.instruction), key=lambda pair: -pair[1])
        named = [box for box, score in found[: constants.max_boxes] if score >= constants.min_score]
        kept = match_boxes(kept, named, constants)
    fused = regions_in(changed, kept, constants)
    if segmenter is not None:
        fused |= segmenter.masks(edit.name, shot, kept).any(axis=0)
    mask = grow_area(fused, constants.dilation)
    if mask.all():
        raise Rejection("overflow", "the whole picture changed")
    core = None if segmenter is None else segmenter.masks(edit.name, shot, [bounding_box(mask)])[0]
    return kept, mask, core


@functools.lru_cache(maxsize=1)
def grounding(config: VerifyConfig) -> tuple[Detector | None, Segmenter | None]:
    """The detector and the segmenter that the options ask for; networks are loaded once a process."""
    detector = BoxesFromFile(config.boxes) if config.boxes else None
    if config.detector:
        detector = GroundingDINO(config.detector, device_of(config))
    segmenter = MasksFromFolder(config.masks) if config.masks else None
    if config.segmenter:
        segmenter = SegmentAnything(config.segmenter, device_of(config))
    return detector, segmenter


def device_of(config: VerifyConfig) -> str:
    return config.device or ("cuda" if torch.cuda.is_available() else "cpu")


def try_grounding(config: VerifyConfig) -> None:
    """Load networks and files once, before anything is written; where other processes will use them, only to see."""
    if config.engine == "local" and count_workers(config) == 1:
        grounding(config)
    else:
        grounding(replace(config, device="cpu"))
        grounding.cache_clear()


def run_local(config: VerifyConfig, edits: list[Edit]) -> Iterator[dict]:
    workers, job = count_workers(config), functools.partial(verify, config)
    if workers == 1:
        threads = torch.get_num_threads()
        # Sums over several threads may round otherwise than those of the processes below.
        torch.set_num_threads(1)
        try:
            yield from map(job, edits)
        finally:
            torch.set_num_threads(threads)
        return
    with worker_pool(workers) as pool:
        yield from pool.map(job, edits, chunksize=max(1, min(16, len(edits) // (4 * workers))))


def run_ray(config: VerifyConfig, edits: list[Edit]) -> Iterator[dict]:
    """As `run_local`, in Ray's actors: one a GPU where networks run on GPUs, else one a core."""
    try:
        import ray
        import ray.data
    except ModuleNotFoundError:
        raise ValueError("The engine ray needs Ray Data: install the pack with its scale extra.") from None
    if not edits:
        return
    ray.init(ignore_reinit_error=True)
    # Ray's actors may run in other folders.
    paths = {name: getattr(config, name) for name in ("output", "boxes", "masks")}
    config = replace(config, **{name: path.absolute() for name, path in paths.items() if path})
    gpus = int(device_of(config).startswith("cuda") and bool(config.detector or config.segmenter))
    workers = config.workers or max(1, int(ray.cluster_resources().get("GPU" if gpus else "CPU", 1)))
    # Small blocks: what a block holds is done again after a stop.
    rows = ray.data.from_items(
        [{"edit": pickle.dumps(edit)} for edit in edits], override_num_blocks=-(-len(edits) // 16)
    )
    entries = rows.map(
        RayVerifier,
        fn_constructor_args=(config,),
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=gpus,
    )
    for row in entries.iter_rows():
        yield json.loads(row["entry"])


class RayVerifier:
    def __init__(self, config: VerifyConfig) -> None:
        torch.set_num_threads(1)
        self.config = config

    def __call__(self, row: dict) -> dict:
        return {"entry": json.dumps(verify(self.config, pickle.loads(row["edit"])))}


def count_workers(config: VerifyConfig) -> int:
    return config.workers or (1 if config.detector or config.segmenter else os.cpu_count() or 1)


def note_settings(config: VerifyConfig) -> None:
    free = {"output": None, "device": None, "engine": None, "workers": None}
    settings = json.loads(json.dumps({**asdict(config), **free}, default=str))
    note = config.output / "verify.json"
    if note.exists() and json.loads(note.read_text()) != settings:
        raise ValueError(f"{config.output} holds a set made with other settings (verify.json): give another folder.")
    write_text(note, json.dumps(settings, indent=2) + "\n")


def summarize(config: VerifyConfig, entries: list[dict], new: int, seconds: float) -> None:
    accepted = [entry for entry in entries if entry["accepted"]]
    effects = sum(entry["phase2"] for entry in accepted)
    print(f"{len(accepted)} of {len(entries)} pairs passed, {effects} of them for phase 2: {config.output}")
    counts = Counter(entry["reason"] for entry in entries if not entry["accepted"])
    for reason in filter(counts.__getitem__, REASONS):
        print(f"  {reason}: {counts[reason]} rejected")
    if not (config.detector or config.boxes):
        print("No detector and no boxes: the difference alone decided, no pair was compared with its instruction.")
    if not (config.segmenter or config.masks):
        print("No segmenter and no masks: the object is not told from its effects, mask and effect_mask are the same.")
    areas = [entry["size"][0] * entry["size"][1] for entry in entries if entry["size"]]
    if new and areas:
        rate = new / max(seconds, 1e-9)
        means = "through Ray" if config.engine == "ray" else f"{count_workers(config)} at a time"
        print(
            f"{new} new in {seconds:.1f} s, {rate:.2f} pairs a second, {means}. At this rate the {CORPUS:,} edits of the paper's "
            f"corpus take {CORPUS / rate / 3600:,.0f} hours here, if their pictures are like these: "
            f"{sum(areas) / len(areas) / 1e6:.1f} megapixels in the mean, {1 - len(accepted) / len(entries):.0%} rejected."
        )

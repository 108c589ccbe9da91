"""The log of the mini model's training, and fills of scenes that it never sees."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

from ...kernels.regions import grow
from ...kernels.scenes import draw_scenes
from ..base_models.mini import load_mini
from ..evaluation.measures import decibels, error
from ..images.flat_fills import ring_fill
from ..images.sheets import contact_sheet
from ..sampling.methods import Plain
from ..sampling.sampler import remove
from .config import MiniConfig

SCENES, STEPS = 12, 10
SEED = 30_000
"""Trainings, the demo and `unclutter evaluate` draw other scenes."""


class Log:
    """One JSON object a line: the step, the pictures seen, and the loss, or how well unseen holes are filled.

    Args:
        step: of the state that a training goes on from; later lines are of steps that are made again, and go.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text().splitlines() if step and path.is_file() else []
        entries = [json.loads(line) for line in before if line.endswith("}")]
        kept = [entry for entry in entries if entry.get("step", 0) <= step]
        self.file = path.open("w")
        self.seconds = kept[-1]["seconds"] if kept else 0.0
        self.start = time.monotonic()
        for entry in kept:
            self.file.write(json.dumps(entry) + "\n")
        self.file.flush()

    def write(self, **entry: object) -> None:
        seconds = self.seconds + time.monotonic() - self.start
        self.file.write(json.dumps({"seconds": round(seconds, 1), **entry}) + "\n")
        self.file.flush()


@torch.inference_mode()
def fill_unseen(config: MiniConfig, step: int, device: torch.device) -> dict[str, float]:
    """Fill an object's place in unseen scenes of every difficulty with the weights in `config.output`, and draw a sheet.

    Returns:
        PSNR in the hole against the scene without the object, and that of the median colour around it: dB, means over
        the scenes.
    """
    base = load_mini(config.output, str(device))
    rows, filled, flat = [], [], []
    for difficulty in config.difficulties:
        generator = torch.Generator().manual_seed(SEED)
        drawn = draw_scenes(SCENES, config.size, generator, difficulty=difficulty)
        index = drawn.pick_object(generator)
        hole = grow(drawn.instance_masks()[torch.arange(SCENES), index], pixels=config.size / 64)
        picture, truth = drawn.picture(), drawn.without(index)
        made = remove(base, picture, hole, Plain(), steps=STEPS).cpu()
        fill = torch.where(hole[:, None] > 0, made, picture)
        filled.append(decibels(error(fill, truth, hole)))
        flat.append(decibels(error(ring_fill(picture, hole), truth, hole)))
        shown = {"input": picture, "fill": fill, "truth": truth}
        rows += [[(f"{name}, {difficulty}", x[row : row + 1]) for name, x in shown.items()] for row in range(4)]
    folder = config.output / "samples"
    folder.mkdir(exist_ok=True)
    contact_sheet(folder / f"step_{step:06}.png", rows)
    return {"hole_db": torch.cat(filled).mean().item(), "ring_db": torch.cat(flat).mean().item()}

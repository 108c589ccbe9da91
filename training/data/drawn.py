"""`unclutter data drawn`: pairs of drawn scenes, with and without one of their objects, for the mini model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from ...adapters import mini
from ...kernels.scene_layers import EFFECT, Scenes
from ...kernels.scenes import Difficulty, draw_scenes
from ..images.files import write_image
from .generate import keep_settings
from .sample import Sample, write_manifest

BATCH = 16


def draw_pairs(
    output: tyro.conf.Positional[Path],
    count: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000,
    size: int = mini.SIZE,
    seed: int = 0,
    crowd: bool = False,
    difficulty: Difficulty = mini.DIFFICULTY,
) -> None:
    """Write scenes in which one of several objects, mostly look-alikes, is there in the source and gone in the target.

    With `crowd`, three objects stand before one another, all gone in the target; instance_masks/ tells them apart, pose/
    draws their skeletons, the hidden limbs too, and parsing/ labels their parts 1 to 4 (for `train mild`).

    Args:
        output: folder that receives source/, target/, mask/, effect_mask/, manifest.jsonl and settings.json.
        count: pairs.
        size: side of the pictures in pixels; by default that of the mini model in the pack.
        seed: the same seed draws the same pairs.
        crowd: draw crowds; people, where the difficulty is not objects.
        difficulty: of the scenes, as in the node Example Scene; by default that of the mini model in the pack.

    Raises:
        ValueError: the output holds another set, which is left as it is.
    """
    if count < 1 or size < 16:
        raise ValueError(f"count is {count} and size {size}, expected at least 1 pair of 16 pixels.")
    keep_settings(output, {"command": "drawn", "size": size, "seed": seed, "crowd": crowd, "difficulty": difficulty})
    generator = torch.Generator().manual_seed(seed)
    samples, layers = [], {}
    progress = tqdm(total=count, desc="drawing", unit="pair")
    for first in range(0, count, BATCH):
        scenes = draw_scenes(BATCH, size, generator, crowd, difficulty)
        layers = crowds(scenes) if crowd else removals(scenes, scenes.pick_object(generator))
        for row in range(min(BATCH, count - first)):
            name = f"{first + row:06}"
            files = {kind: output / kind / f"{name}.png" for kind in layers}
            for kind, picture in layers.items():
                write_image(files[kind], picture[row : row + 1].expand(-1, 3, -1, -1))
            samples.append(Sample(name=name, prompt=scenes.ground_caption(row), **files))
            progress.update()
    progress.close()
    write_manifest(output, samples)
    print(f"{count} pairs of {size}x{size} pixels in {output}: {', '.join(layers)} and manifest.jsonl.")


def removals(scenes: Scenes, index: Tensor) -> dict[str, Tensor]:
    """Pairs without object index[b]: pictures and masks [B, 1 or 3, H, W] by their folder."""
    return {
        "source": scenes.picture(),
        "target": scenes.without(index),
        "mask": scenes.instance_masks()[torch.arange(len(index)), index][:, None],
        "effect_mask": scenes.effect_mask(index)[:, None],
    }


def crowds(scenes: Scenes) -> dict[str, Tensor]:
    """Pairs without any object; a pixel of instance_masks is the number of the object it shows, one of parsing the label
    of its part, of 255."""
    picture, instances = scenes.picture(), scenes.instance_masks()
    numbers = torch.arange(1, instances.shape[1] + 1, device=instances.device)[:, None, None]
    return {
        "source": picture,
        "target": scenes.base,
        "mask": instances.amax(dim=1, keepdim=True),
        "effect_mask": ((picture - scenes.base).abs().amax(dim=1, keepdim=True) > EFFECT).float(),
        "instance_masks": (instances * numbers).sum(dim=1, keepdim=True) / 255,
        "pose": scenes.pose(),
        "parsing": scenes.parsing()[:, None] / 255,
    }

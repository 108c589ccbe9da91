"""`unclutter data drawn`: pairs of drawn scenes, with and without one of their objects, for the mini model."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from ...kernels.scene_layers import EFFECT, Scenes
from ...kernels.scenes import draw_scenes
from ..images.files import write_image
from .generate import keep_settings
from .sample import Sample, write_manifest
from .settings import DrawnConfig

BATCH = 16


def draw_pairs(config: DrawnConfig) -> None:
    """Write scenes in which one of several objects, mostly look-alikes, is there in the source and gone in the target.

    Raises:
        ValueError: the output holds another set, which is left as it is.
    """
    config.check()
    keep_settings(
        config.output,
        {
            "command": "drawn",
            "size": config.size,
            "seed": config.seed,
            "crowd": config.crowd,
            "difficulty": config.difficulty,
        },
    )
    generator = torch.Generator().manual_seed(config.seed)
    samples, layers = [], {}
    progress = tqdm(total=config.count, desc="drawing", unit="pair")
    for first in range(0, config.count, BATCH):
        scenes = draw_scenes(BATCH, config.size, generator, config.crowd, config.difficulty)
        layers = crowds(scenes) if config.crowd else removals(scenes, scenes.pick_object(generator))
        for row in range(min(BATCH, config.count - first)):
            name = f"{first + row:06}"
            files = {kind: config.output / kind / f"{name}.png" for kind in layers}
            for kind, picture in layers.items():
                write_image(files[kind], picture[row : row + 1].expand(-1, 3, -1, -1))
            samples.append(Sample(name=name, prompt=scenes.ground_caption(row), **files))
            progress.update()
    progress.close()
    write_manifest(config.output, samples)
    print(
        f"{config.count} pairs of {config.size}x{config.size} pixels in {config.output}: {', '.join(layers)} and manifest.jsonl."
    )


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

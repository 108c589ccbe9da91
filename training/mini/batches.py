"""Drawn scenes with holes as the mini model's network is trained on them."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels import seeds
from ...kernels.regions import latent_mask
from ...kernels.scene_layers import Scenes
from ...kernels.scenes import draw_scenes
from ..images.holes import random_masks
from .config import MiniConfig
from .vae import Encode


@dataclass(frozen=True)
class Batch:
    """Latents [B, C, h, w] of pictures, holes [B, 1, h, w] of 0 and 1, latents of the pictures with a grey hole, captions."""

    latents: Tensor
    holes: Tensor
    masked: Tensor
    captions: list[str]


def training_batch(config: MiniConfig, encode: Encode, draw: int, device: torch.device) -> Batch:
    """The scenes of draw number `draw`, always the same ones: a resumed training sees what an uninterrupted one does."""
    generator = seeds.generator(config.seed, draw + 1, device=device)
    words = random.Random(seeds.derived(config.seed, draw))
    difficulty = config.difficulties[draw % len(config.difficulties)]
    scenes = draw_scenes(config.batch, config.size, generator, difficulty=difficulty)
    picture, index = 2 * scenes.picture() - 1, scenes.pick_object(generator)
    holes, of_object = draw_holes(config, scenes, index, generator)
    with torch.no_grad():
        latents, masked = encode(torch.cat([picture, picture * (1 - holes[:, None])])).chunk(2)
    captions = [
        draw_caption(words, config, scenes, row, int(index[row]), bool(of_object[row])) for row in range(config.batch)
    ]
    return Batch(latents, latent_mask(holes, *latents.shape[-2:], pooling="max"), masked, captions)


def draw_holes(config: MiniConfig, scenes: Scenes, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Holes [B, H, W] in {0, 1}, and which of them are object `index` ([B] bool)."""
    rows = torch.arange(len(index), device=index.device)
    kind = torch.rand(len(index), generator=generator, device=index.device)
    width = 2 * round(config.size / 64) + 1
    shaped = F.max_pool2d(scenes.instance_masks()[rows, index][:, None], width, stride=1, padding=width // 2)[:, 0]
    # The next scene's object: its place and shape, whatever lies there in this one.
    shaped = torch.where((kind < config.object_masks)[:, None, None], shaped, shaped.roll(1, dims=0))
    random_hole = kind >= config.object_masks + config.empty_masks
    holes = torch.where(random_hole[:, None, None], random_masks(len(index), config.size, generator), shaped)
    return holes, kind < config.object_masks


def draw_caption(words: random.Random, config: MiniConfig, scenes: Scenes, row: int, slot: int, of_object: bool) -> str:
    """A caption of the whole scene, or of what lies in the hole, or none."""
    if words.random() < config.empty_caption:
        return ""
    if words.random() < 0.5:
        return scenes.caption(row)
    return scenes.object_caption(row, slot) if of_object else scenes.ground_caption(row)

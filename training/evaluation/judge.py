"""The judge: a small segmentation network that says whether an object stands in a hole, whatever its colour.

It learns on drawn scenes, from pictures whose holes are left, repainted, blurred, made noisy or refilled with another
object, and is told where objects really are. A fill of the right colour in which an object stands is no removal, and one
of the wrong colour in which none stands is one: how well it matches the truth is another measure.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ...adapters import mini as mini_files
from ...kernels.regions import grow
from ...kernels.scene_layers import Scenes
from ...kernels.scenes import draw_scenes
from ...kernels.vocabulary import Difficulty
from ..images.flat_fills import ring_fill
from ..images.holes import random_masks
from .settings import JudgeConfig

PART = "judge"
STRIDE = 4
"""Pixels a cell of its map covers."""
STANDS = 0.25
"""An object stands in a hole where at least this share of the hole's own ground shows one."""
EVIDENCE = 0.5
"""A cell shows an object from this probability on."""


class Judge(nn.Module):
    """Probabilities of objects, as logits [B, 1, H/4, W/4], from pictures [B, 3, H, W] in 0..1; H and W multiples of 16.

    Args:
        width: channels of the finest level, a multiple of 16.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.stem = nn.Sequential(_step(3, width // 2, 2), _step(width // 2, width, 2), _step(width, width))
        self.middle = nn.Sequential(_step(width, 2 * width, 2), _step(2 * width, 2 * width))
        self.coarse = nn.Sequential(
            _step(2 * width, 3 * width, 2), _step(3 * width, 3 * width), _step(3 * width, 3 * width)
        )
        self.up_middle = _step(5 * width, 2 * width)
        self.up_fine = _step(3 * width, width)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, picture: Tensor) -> Tensor:
        fine = self.stem(2 * picture - 1)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = self.up_middle(torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], dim=1))
        return self.head(self.up_fine(torch.cat([F.interpolate(middle, scale_factor=2.0), fine], dim=1)))


def _step(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.SiLU())


@torch.inference_mode()
def stands(judge: Judge, picture: Tensor, ground: Tensor) -> Tensor:
    """Whether an object stands in the hole of each picture: [B] bool.

    Args:
        picture: [B, 3, H, W] in 0..1.
        ground: [B, H, W] of 0 and 1, the part of the hole where no other object of the scene is.
    """
    evidence = (judge(picture.clamp(0, 1)).sigmoid() >= EVIDENCE).float()
    evidence = F.interpolate(evidence, picture.shape[-2:])[:, 0]
    return (evidence * ground).sum(dim=(1, 2)) >= STANDS * ground.sum(dim=(1, 2))


def own_ground(drawn: Scenes, index: Tensor) -> Tensor:
    """The place of object `index[b]` ([B]), but for where another object is or would come to light: [B, H, W] of 0 and 1.

    Of an object before which or behind which others stand nearly everywhere, all of its visible part.
    """
    slots = torch.arange(drawn.present.shape[1], device=index.device)
    others = (drawn.alphas * (slots != index[:, None])[..., None, None]).amax(dim=1) > 0.5
    rows = torch.arange(len(index), device=index.device)
    visible = drawn.instance_masks()[rows, index]
    own = visible * ~others
    return torch.where((own.sum(dim=(1, 2)) < 16)[:, None, None], visible, own)


def load_judge(path: Path = mini_files.FOLDER) -> Judge:
    """The judge that comes with the pack, or that of another folder.

    Raises:
        FileNotFoundError, ValueError: there is none, or the file is none.
    """
    weights, structure, _ = mini_files.load_part(path, PART)
    judge = Judge(structure["width"])
    judge.load_state_dict(weights)
    return judge.eval().requires_grad_(False)


KINDS: tuple[tuple[Difficulty, int], ...] = (("smooth", 128), ("texture", 128), ("clutter", 128), ("objects", 64))
"""Difficulties that it learns, with the size in pixels of each."""


def train_judge(config: JudgeConfig) -> None:
    """Train the judge on drawn scenes, measure it on others, and write it to the output folder."""
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator(device).manual_seed(40_000 + config.seed)
    judge = Judge(config.width).to(device)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=config.learning_rate, weight_decay=0.01, fused=True)
    start, share = time.monotonic(), 0.0
    config.output.mkdir(parents=True, exist_ok=True)
    for step in (progress := tqdm(range(config.steps), desc="judge")):
        share = max(step / config.steps, (time.monotonic() - start) / 60 / config.minutes)
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * share))
        difficulty, size = KINDS[step % len(KINDS)]
        picture, truth = judged_pictures(config.batch, difficulty, size, generator)
        wanted = F.avg_pool2d(truth[:, None], STRIDE)
        loss = F.binary_cross_entropy_with_logits(judge(picture), wanted)
        loss.backward()
        nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0:
            progress.set_postfix(loss=f"{loss.item():.4f}")
    weights = {name: value.half() for name, value in judge.state_dict().items()}
    mini_files.save(config.output, PART, weights, {"class": "Judge", "width": config.width})
    judge = load_judge(config.output)
    for difficulty, size in KINDS:
        missed, alarms = own_errors(judge, 200, difficulty, size)
        print(
            f"{difficulty}: misses {missed:.1%} of 200 objects that stand, sees one in {alarms:.1%} of 200 empty places"
        )
    print(f"Wrote {config.output / f'{PART}.safetensors'}.")


def own_errors(judge: Judge, count: int, difficulty: Difficulty, size: int, seed: int = 45_000) -> tuple[float, float]:
    """The judge's errors on scenes whose truth is known: shares of objects missed, and of empty places judged occupied."""
    generator = torch.Generator().manual_seed(seed)
    missed = alarms = 0
    for first in range(0, count, 20):
        drawn = draw_scenes(min(20, count - first), size, generator, difficulty=difficulty)
        index = drawn.pick_object(generator)
        ground = own_ground(drawn, index)
        missed += int((~stands(judge, drawn.picture(), ground)).sum())
        alarms += int(stands(judge, drawn.without(index), ground).sum())
    return missed / count, alarms / count


def judged_pictures(batch: int, difficulty: Difficulty, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures [B, 3, H, W] with holes filled in all kinds of ways, and where objects are in them, [B, H, W] in 0..1.

    Half of the holes hold an object: that of the scene, one in another colour, or one of another scene. The others hold
    the true ground, that of another scene, or paint. Both are also blurred, made noisy, or mixed with what is around.
    """
    device = generator.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    drawn = draw_scenes(batch, size, generator, difficulty=difficulty)
    index, rows = drawn.pick_object(generator), torch.arange(batch, device=device)
    picture, truth = drawn.picture(), drawn.without(index)
    objects, others = drawn.alphas.amax(dim=1), drawn.alphas.clone()
    others[rows, index] = 0
    left = others.amax(dim=1)
    hole = grow(drawn.instance_masks()[rows, index], pixels=size / 64)
    anywhere = random_masks(batch, size, generator)
    hole = torch.where(uniform(batch, 1, 1) < 0.75, hole, anywhere)

    order = uniform(batch, 3).argsort(dim=1)
    recoloured = (picture.gather(1, order[..., None, None].expand_as(picture)) * (0.5 + uniform(batch, 1, 1, 1))).clamp(
        0, 1
    )
    turned = truth.flip(-1).roll(1, dims=0)
    paint = ring_fill(picture, hole)
    grey = torch.lerp(paint, uniform(batch, 3, 1, 1).expand_as(paint), uniform(batch, 1, 1, 1))
    choice = torch.randint(8, (batch, 1, 1, 1), generator=generator, device=device)
    fill, inside = truth, left
    for number, (other, where) in enumerate(
        [
            (picture, objects),
            (recoloured, objects),
            (recoloured, objects),
            (picture.roll(1, dims=0), objects.roll(1, dims=0)),
            (truth, left),
            (paint, torch.zeros_like(left)),
            (grey, torch.zeros_like(left)),
            (turned, left.flip(-1).roll(1, dims=0)),
        ]
    ):
        fill, inside = torch.where(choice == number, other, fill), torch.where(choice[:, 0] == number, where, inside)
    blurred = F.interpolate(F.avg_pool2d(fill, 4), size=(size, size), mode="bilinear")
    fill = torch.lerp(fill, blurred, uniform(batch, 1, 1, 1) * (uniform(batch, 1, 1, 1) < 0.4))
    grain = torch.randn(batch, 3, size // 4, size // 4, generator=generator, device=device)
    grain = F.interpolate(grain, size=(size, size), mode="bilinear") + 0.5 * torch.randn(
        batch, 3, size, size, generator=generator, device=device
    )
    noisy = fill + 0.15 * grain * uniform(batch, 1, 1, 1) * (uniform(batch, 1, 1, 1) < 0.5)
    result = torch.where(hole[:, None] > 0, noisy, picture).clamp(0, 1)
    return result, torch.where(hole > 0, inside, objects)

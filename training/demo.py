"""`unclutter demo`: every method on drawn scenes whose true background is known."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from rich.console import Console
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from ..kernels import seams
from ..kernels.regions import feather, grow
from ..kernels.scenes import draw_scenes
from .adapt import with_mini_lrnr
from .comfyui import PACK, ComfyServer
from .pictures import check_writable, contact_sheet, write_image
from .sampling import MASG, AttentiveEraser, Base, Method, Plain, SelfRectifying, load_mini, remove

METHODS: dict[str, Method] = {
    "plain": Plain(),
    "masg": MASG(guidance=6.0),
    "attentive-eraser": AttentiveEraser(removal_scale=3.0),
    "sra": SelfRectifying(),
    "lrnr": MASG(guidance=3.0),
}
"""Guidance as strong as the mini model bears; on SDXL the papers' 12.5 and 9 are the defaults."""
BACKGROUND = "background"
"""What MASG asks for where no removal prompt is learned."""
GRAPHS = {
    "plain": "sra_mini",
    "masg": "masg_mini",
    "attentive-eraser": "attentive_eraser_mini",
    "sra": "sra_mini",
    "lrnr": "lrnr_mini",
}
"""The shipped workflow of each method; plain inpainting is one without its method."""
FEATHER = 1


@dataclass(frozen=True)
class Score:
    """What a method did to a batch of holes, against the truth.

    Attributes:
        hole_psnr: dB inside the hole against the scene in which the object never was.
        redrawn: share of fills nearer to the erased object than to the true background (squared error in the hole).
        outside: largest change of any pixel outside the hole and its soft border, 0..1.
    """

    hole_psnr: float
    redrawn: float
    outside: float


def demo(
    out: Path = Path("unclutter_demo.png"),
    scenes: int = 8,
    steps: int = 20,
    seed: int = 0,
    comfyui: Path | None = None,
) -> dict[str, Score]:
    """Remove one of many look-alikes from drawn scenes with every method, on the mini model, and compare.

    Args:
        out: the contact sheet to write.
        scenes: how many scenes are measured; the sheet shows the first four.
        steps: sampling steps.
        seed: of the scenes and of the noise.
        comfyui: a ComfyUI folder: run its server, and the shipped workflows in it, instead of diffusers.
    """
    check_writable(out)
    if scenes < 1 or steps < 1:
        raise ValueError(f"scenes is {scenes} and steps is {steps}: both must be at least 1.")
    console = Console()
    console.print("The mini model knows drawn scenes only: this shows how the methods behave, not what SDXL does.")
    generator = torch.Generator().manual_seed(10_000 + seed)  # training drew with other seeds
    base = load_mini()
    ways = {name: (base, BACKGROUND if name == "masg" else "") for name in METHODS}
    try:
        ways["lrnr"] = with_mini_lrnr()
    except ValueError as error:
        del ways["lrnr"]
        console.print(f"lrnr is left out: {error}")
    size = base.native_size
    drawn = draw_scenes(scenes, size, generator)
    index = drawn.pick_object(generator)
    # To 8 bits, as ComfyUI is given the scenes in files: what is compared then is the same in both hosts.
    picture, truth = ((scene.clamp(0, 1) * 255).round() / 255 for scene in (drawn.picture(), drawn.without(index)))
    mask = grow(drawn.instance_masks()[torch.arange(scenes), index], pixels=size / 64)
    if comfyui is None:
        results = {
            name: erase(network, picture, mask, METHODS[name], steps, seed, text, name)
            for name, (network, text) in ways.items()
        }
    else:
        results = run_graphs(comfyui, list(ways), picture, mask, steps, seed)

    table = Table("method", "hole PSNR, dB", "redrawn", "largest change outside")
    scores = {name: score(result, picture, truth, mask) for name, result in results.items()}
    for name, row in scores.items():
        table.add_row(name, f"{row.hole_psnr:.2f}", f"{row.redrawn:.0%}", f"{row.outside:.4f}")
    shown = {"input": picture, "mask": mask[:, None].expand(-1, 3, -1, -1), **results, "truth": truth}
    contact_sheet(out, [[(name, x[row : row + 1]) for name, x in shown.items()] for row in range(min(scenes, 4))])
    console.print(table)
    console.print(f"{scenes} scenes, {steps} steps, seed {seed}. Contact sheet: {out}")
    return scores


def erase(
    base: Base, picture: Tensor, mask: Tensor, method: Method, steps: int, seed: int, positive: str, name: str = ""
) -> Tensor:
    """The removal as an artist would have it: sampled, then pasted back over the untouched picture."""

    def progress(timesteps: Iterable) -> Iterable:
        return tqdm(timesteps, desc=name, disable=not name)

    result = remove(base, picture, mask, method, positive=positive, steps=steps, seed=seed, progress=progress)
    height, width = picture.shape[-2:]
    whole = seams.Crop((seams.Box(0, 0, height, width),) * len(picture), (height, width))
    return seams.paste_back(picture, result, whole, mask, feather_pixels=FEATHER)


def run_graphs(
    comfyui: Path, methods: list[str], picture: Tensor, mask: Tensor, steps: int, seed: int
) -> dict[str, Tensor]:
    """The shipped workflow of each method in a server of that ComfyUI, one scene after the other."""
    results = {}
    with tempfile.TemporaryDirectory() as folder, ComfyServer(comfyui, Path(folder)) as server:
        files = []
        for row in range(len(picture)):
            scene, hole = Path(folder) / f"scene_{row}.png", Path(folder) / f"hole_{row}.png"
            write_image(scene, picture[row : row + 1])
            write_image(hole, mask[row].expand(1, 3, -1, -1))
            files.append((server.upload(scene), server.upload(hole)))
        for name in methods:
            graph = json.loads((PACK / "workflows" / "api" / f"{GRAPHS[name]}.json").read_text())
            if name == "plain":
                (sampler,) = [node["inputs"] for node in graph.values() if node["class_type"] == "KSampler"]
                sampler["model"] = graph[sampler["model"][0]]["inputs"]["model"]
            fills = []
            for scene, hole in tqdm(files, desc=name):
                (saved,) = [key for key, node in graph.items() if node["class_type"] == "SaveImage"]
                fills.append(server.images(server.post(with_inputs(graph, scene, hole, steps, seed)), saved))
            results[name] = rearrange(torch.cat(fills), "b h w c -> b c h w")
    return results


def with_inputs(graph: dict, scene: str, hole: str, steps: int, seed: int) -> dict:
    """A graph in API format with these pictures, as the mask is: not grown, and feathered as in `erase`."""
    values = {
        "LoadImage": {"image": scene},
        "LoadImageMask": {"image": hole, "channel": "red"},
        "UnclutterPrepareMask": {"grow_percent": 0.0, "grow_pixels": 0},
        "UnclutterPasteBack": {"feather": FEATHER},
        "KSampler": {"steps": steps, "seed": seed},
        "BasicScheduler": {"steps": steps},
        "RandomNoise": {"noise_seed": seed},
    }
    return {
        key: {**node, "inputs": {**node["inputs"], **values.get(node["class_type"], {})}} for key, node in graph.items()
    }


def score(result: Tensor, picture: Tensor, truth: Tensor, mask: Tensor) -> Score:
    """Compare fills [B, 3, H, W] with the scene without the object; mask [B, H, W] of 0 and 1."""
    hole = mask[:, None]
    area = 3 * mask.sum(dim=(1, 2))
    to_truth = ((result - truth).square() * hole).sum(dim=(1, 2, 3)) / area
    to_object = ((result - picture).square() * hole).sum(dim=(1, 2, 3)) / area
    outside = (result - picture).abs() * (feather(mask, FEATHER) == 0)[:, None]
    psnr = -10 * to_truth.clamp(min=1e-10).log10()
    return Score(psnr.mean().item(), (to_object < to_truth).float().mean().item(), outside.max().item())

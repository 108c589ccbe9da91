"""`unclutter demo`: photographs and their drafts, and every method on drawn scenes whose true background is known."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from rich.console import Console
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from ...adapters import layered, mini, one_step, photos
from ...kernels.exemplar import exemplar_fill
from ...kernels.layers import recompose
from ...kernels.regions import feather, grow
from ...kernels.scenes import CROWD, draw_scenes
from ..base_models.mini import load_mini
from ..comfyui_server import PACK, ComfyServer
from ..images.files import write_image
from ..images.sheets import write_page
from ..sampling.adapters import with_mini_lrnr
from ..sampling.layered import erase_layers
from ..sampling.methods import mini_methods
from ..sampling.one_step import erase_once, taken_by
from .judge import load_judge, own_ground, stands
from .measures import decibels, error
from .mini_removers import FEATHER, erase, paste_whole
from .settings import DemoConfig

METHODS = mini_methods()
"""Methods of the demo, as strong as the mini model bears them."""
GRAPHS = {
    "plain": "sra_mini",
    "masg": "masg_mini",
    "attentive-eraser": "attentive_eraser_mini",
    "sra": "sra_mini",
    "lrnr": "lrnr_mini",
}
"""The shipped workflow of each method; plain inpainting is one without its method."""
WIDTH = 1232
"""Of the page, in pixels."""
PHOTOGRAPHS = {
    "rocket": "for an empty sky",
    "camera": "for a skyline without the tower",
}
"""The shipped photographs, and what one would use their drafts for."""
ADAPTERS = mini.FOLDER / "loras"


@dataclass(frozen=True)
class Score:
    """Scores of a method on a batch of holes, against the truth.

    Attributes:
        hole_psnr: dB inside the hole against the scene in which the object never was.
        removed: share of objects in whose place the judge sees none, as in `unclutter evaluate`.
        outside: largest change of any pixel outside the hole and its soft border, 0..1.
    """

    hole_psnr: float
    removed: float
    outside: float


def demo(config: DemoConfig) -> dict[str, Score]:
    """Fill photographs with drafts, then remove one of many look-alikes from drawn scenes with every method, and compare."""
    config.check()
    console = Console()
    console.print(
        f"{config.out} will show photographs with a draft each, made without a model, and {config.scenes} drawn scenes from which the mini "
        "model, which knows no photographs, erases an object with every method.",
        soft_wrap=True,
    )
    pictures = photographs()
    generator = torch.Generator().manual_seed(10_000 + config.seed)  # training drew with other seeds
    size = load_mini().native_size
    drawn = draw_scenes(config.scenes, size, generator, difficulty=mini.DIFFICULTY)
    index = drawn.pick_object(generator)
    # To 8 bits, as ComfyUI is given the scenes in files: what is compared then is the same in both hosts.
    picture, truth = ((scene.clamp(0, 1) * 255).round() / 255 for scene in (drawn.picture(), drawn.without(index)))
    mask = grow(drawn.instance_masks()[torch.arange(config.scenes), index], pixels=size / 64)
    if config.comfyui is None:
        results, reached = run_methods(picture, mask, config.steps, config.seed, console)
    else:
        results, reached = run_graphs(config.comfyui, list(METHODS), picture, mask, config.steps, config.seed), {}

    table = Table("method", "hole PSNR, dB", "removed", "largest change outside, of 1")
    ground = own_ground(drawn, index)
    scores = {name: score(result, picture, truth, mask, ground, reached.get(name)) for name, result in results.items()}
    for name, row in scores.items():
        table.add_row(name, f"{row.hole_psnr:.2f}", f"{row.removed:.0%}", f"{row.outside:.4f}")
    shown = {"input": picture, "mask": mask[:, None].expand(-1, 3, -1, -1), **results, "truth": truth}
    rows = [[(name, x[row : row + 1]) for name, x in shown.items()] for row in range(min(config.scenes, 3))]
    blocks = [
        ("Photographs, without a model: the hole is filled with copies of its surroundings, in seconds", pictures),
        ("Drawn scenes, by the mini model: a wind tunnel for the methods, no claim about photographs", rows),
    ]
    if config.comfyui is None and (row := layers(size, config.steps, config.seed, console)):
        blocks.append(("Drawn scenes, in layers: every subset from one sampling (MILD)", [row]))
    write_page(config.out, blocks, WIDTH)
    console.print(table)
    console.print(
        f"{config.scenes} scenes, {config.steps} steps, seed {config.seed}. Pictures: {config.out}", soft_wrap=True
    )
    return scores


def photographs() -> list[list[tuple[str, Tensor]]]:
    """Rows of the shipped photographs, their masks, drafts, and what such a draft is for."""
    rows = []
    for name, use in tqdm(PHOTOGRAPHS.items(), desc="photographs"):
        photo = photos.load(name)
        draft = exemplar_fill(photo.image, photo.mask)
        mask = photo.mask[:, None].expand(-1, 3, -1, -1)
        rows.append([("photograph", photo.image), ("mask", mask), (f"draft: {use}", draft)])
    return rows


def run_methods(
    picture: Tensor, mask: Tensor, steps: int, seed: int, console: Console
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every method in diffusers, and where one that takes shadows too has reached, [B, H, W] of 0 and 1."""
    base = load_mini()
    models = {name: (base, method.words) for name, method in METHODS.items()}
    try:
        models["lrnr"] = with_mini_lrnr()
    except ValueError as error:
        del models["lrnr"]
        console.print(f"lrnr is left out: {error}")
    results = {
        name: erase(network, picture, mask, METHODS[name], steps, seed, text, name)
        for name, (network, text) in models.items()
    }
    try:
        erased = erase_once(base, one_step.load(ADAPTERS / "unclutter-mini-osor.safetensors"), picture, mask, seed=seed)
    except ValueError as error:
        console.print(f"one-step is left out: {error}")
        return results, {}
    taken = mask.maximum(taken_by(erased.alpha, *mask.shape[-2:]).to(mask))
    results["one-step"] = paste_whole(picture, erased.picture, taken)
    return results, {"one-step": taken}


def layers(size: int, steps: int, seed: int, console: Console) -> list[tuple[str, Tensor]]:
    """A crowd of three, and the rest of it without each subset of them; empty where no adapter fits."""
    drawn = draw_scenes(1, size, torch.Generator().manual_seed(10_000 + seed), crowd=True)
    (picture,), (masks,) = drawn.picture(), drawn.instance_masks()[:, :CROWD]
    try:
        adapter = layered.load(ADAPTERS / "unclutter-mini-mild.safetensors")
        parts, background = erase_layers(load_mini(), adapter, picture, masks, guidance=(1, 1), steps=steps, seed=seed)
    except ValueError as error:
        console.print(f"layers are left out: {error}")
        return []
    row = [("input", picture[None])]
    for gone in ({0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}, {0, 1, 2}):
        left, _ = recompose(picture, background, masks, masks, parts, gone, None, 2)
        row.append(("without " + ", ".join(str(index + 1) for index in sorted(gone)), left[None]))
    return row


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


def score(
    result: Tensor, picture: Tensor, truth: Tensor, mask: Tensor, ground: Tensor, reached: Tensor | None = None
) -> Score:
    """Compare fills [B, 3, H, W] with the scene without the object; mask [B, H, W] of 0 and 1.

    Args:
        ground: [B, H, W] of 0 and 1, the part of the object's place where no other object is (`judge.own_ground`).
        reached: [B, H, W], all that the method may have changed, where that is more than the mask.
    """
    outside = (result - picture).abs() * (feather(mask if reached is None else reached, FEATHER) == 0)[:, None]
    removed = ~stands(load_judge(), result, ground)
    psnr = decibels(error(result, truth, mask))
    return Score(psnr.mean().item(), removed.float().mean().item(), outside.max().item())

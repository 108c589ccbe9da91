"""Times of whole forward passes in ComfyUI through one block of each kind, at the real width of a family, with removal by
attention and without: `python -m unclutter.tools.bench_blocks [--families NAME ...]`.

`unclutter bench attention --families` measures the operator by itself; this is the operator with all that is around it
(hooks, wrapper, the network's own layers), as *Attentive Eraser* at removal strength 1 runs it in every block. Needs a
ComfyUI (COMFYUI_PATH).
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any, Literal

import torch
import tyro
from tqdm import tqdm

from unclutter.tools.comfy_page import comfyui_path
from unclutter.training.bench.timing import machine
from unclutter.training.evaluation.report import report

FLUX2 = {
    "image_model": "flux2",
    "in_channels": 128,
    "out_channels": 128,
    "patch_size": 1,
    "vec_in_dim": None,
    "mlp_ratio": 3.0,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [32, 32, 32, 32],
    "theta": 2000,
    "qkv_bias": False,
    "ops_bias": False,
    "txt_ids_dims": [3],
    "global_modulation": True,
    "mlp_silu_act": True,
    "default_ref_method": "index",
    "ref_index_scale": 10.0,
}
KLEIN = {**FLUX2, "hidden_size": 3072, "num_heads": 24, "context_in_dim": 7680, "guidance_embed": False}
DEV = {**FLUX2, "hidden_size": 6144, "num_heads": 48, "context_in_dim": 15360, "guidance_embed": True}
QWEN = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 1}
ZIMAGE = {
    "image_model": "lumina2",
    "dim": 3840,
    "patch_size": 2,
    "in_channels": 16,
    "cap_feat_dim": 2560,
    "n_layers": 1,
    "n_refiner_layers": 1,
    "n_heads": 30,
    "n_kv_heads": 30,
    "qk_norm": True,
    "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512],
    "rope_theta": 256.0,
    "ffn_dim_multiplier": 8 / 3,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}
FAMILIES: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "FLUX.2 Klein 4B": ("Flux2", KLEIN, 7680, 512),
    "FLUX.2 dev": ("Flux2", DEV, 15360, 512),
    "Qwen-Image": ("QwenImage", QWEN, 3584, 256),
    "Z-Image": ("ZImage", ZIMAGE, 2560, 128),
}
"""The class of `comfy.supported_models`, its network with one block of each kind, width and tokens of its text."""


@dataclass(frozen=True)
class Config:
    """Whole forward passes by one block of each kind, with AAS in all of them, over passes without it."""

    families: tuple[str, ...] = ("FLUX.2 Klein 4B", "Qwen-Image", "Z-Image")
    """Of these, and FLUX.2 dev (6 GB of memory in bf16)."""
    masked: tuple[float, ...] = (0.1, 0.3, 0.6)
    """Shares of the picture in the mask."""
    size: int = 1024
    """Side of the picture in pixels."""
    repeats: int = 5
    """Rounds in which every way is timed once."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of the network."""
    markdown: bool = False
    """Print a Markdown table."""


def bench_blocks(config: Config) -> list[dict[str, float | str]]:
    sys.path.insert(0, str(comfyui_path()))
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
    rows: list[dict[str, float | str]] = []
    for name in config.families:
        model, latent, conditioning = build(name, config)
        ways = {"plain": model, **{f"{share:.0%} masked": erased(model, share, config.size) for share in config.masked}}
        rounds = []
        for _ in tqdm(range(config.repeats + 1), desc=name):
            rounds.append([seconds(way, latent, conditioning) for way in ways.values()])
        measured = rounds[1:]  # the first is slower for everybody
        row: dict[str, float | str] = {"family": name, "plain, s": statistics.median(times[0] for times in measured)}
        for index, way in enumerate(ways):
            if index:
                quotients = sorted(times[index] / times[0] for times in measured)
                row[way] = statistics.median(quotients)
                row[f"{way}, from and to"] = f"{quotients[0]:.2f} to {quotients[-1]:.2f}"
        rows.append(row)
        del model, ways
    report(
        f"{machine('cpu' if args.cpu else 'cuda')}, {config.dtype}, {config.size}×{config.size}", rows, config.markdown
    )
    return rows


def build(name: str, config: Config) -> tuple[Any, torch.Tensor, list]:
    """A model of random weights, a latent of the size that is asked for, and a text."""
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models

    family, network, width, tokens = FAMILIES[name]
    known = getattr(comfy.supported_models, family)(dict(network))
    known.set_inference_dtype(getattr(torch, config.dtype), None)
    device = comfy.model_management.get_torch_device()
    model = known.get_model({}, "", device=device).eval()
    for parameter in model.diffusion_model.parameters():
        parameter.requires_grad_(False)
        parameter.data = torch.randn(parameter.shape, dtype=parameter.dtype, device=device).mul_(0.02)
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=device)
    side = config.size // (16 if family == "Flux2" else 8)
    frame = [1] if model.latent_format.latent_dimensions == 3 else []
    latent = torch.zeros(1, model.latent_format.latent_channels, *frame, side, side)
    return patcher, latent, [[torch.randn(1, tokens, width), {}]]


def erased(model: Any, share: float, size: int) -> Any:
    """The model behind Attentive Eraser, with a mask of this share of the picture."""
    from unclutter.nodes.attention import AttentiveEraser

    mask = torch.zeros(1, size, size)
    mask[:, : round(share * size)] = 1
    return AttentiveEraser.execute(model, mask, 1.0, 1.0, 0.0, "all", 0.0, 1.0).args[0]


def seconds(model: Any, latent: torch.Tensor, conditioning: list) -> float:
    """Of one step of one call, as a sampler node makes it. On a CPU they are of its own time, which other work on the machine
    disturbs less."""
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conditioning, conditioning)
    guider.set_cfg(1.0)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 1)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    start = clock()
    guider.sample(noise, latent, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=0)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


if __name__ == "__main__":
    with torch.inference_mode():
        bench_blocks(tyro.cli(Config))

"""`unclutter bench train`: what a training step costs, beside the step of diffusers' own LoRA example."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from peft import LoraConfig
from torch import Tensor
from tqdm import tqdm

from ..base_models.base import Base
from ..base_models.load import load_base
from ..evaluation.report import report
from ..recipes.eradiff import EraDiff
from ..recipes.eradiff_settings import EraDiffRecipe
from ..recipes.lrnr import LRNR
from ..recipes.lrnr_settings import LRNRRecipe
from ..recipes.objective import Objective
from .settings import TrainBenchConfig
from .timing import machine, machine_defaults

NOWHERE = Path("unused")


@dataclass
class Step:
    """One way to train: a step to time, and what it holds on to."""

    run: Callable[[], Any]
    parameters: int


def bench_train(config: TrainBenchConfig) -> list[dict[str, float | str]]:
    """Steps per second and peak memory of LRNR and EraDiff, and of diffusers' text-to-image LoRA example on the same network."""
    device = config.device
    device, weights = machine_defaults(device, config.dtype)
    # The one picture here comes again at every step: kept, its encoding would cost nothing.
    settings: dict[str, Any] = {
        "batch": config.batch,
        "micro_batch": config.batch,
        "lora_rank": config.rank,
        "latent_cache": 0.0,
    }
    trainings: dict[str, Callable[[Base, Tensor, Tensor], Step]] = {
        "diffusers' example": lambda base, picture, mask: example_step(base, config.rank, picture),
        "LRNR": lambda base, picture, mask: objective_step(
            LRNR(base, LRNRRecipe(NOWHERE, NOWHERE, enhancers=(), **settings)), picture, mask
        ),
        "EraDiff": lambda base, picture, mask: objective_step(
            EraDiff(base, EraDiffRecipe(NOWHERE, NOWHERE, **settings)), picture, mask
        ),
    }
    rows: list[dict[str, float | str]] = []
    for name, build in trainings.items():
        network = load_base(config.base, device, weights)
        if config.gradient_checkpointing:
            network.network.enable_gradient_checkpointing()
            network.network.train()
        side = config.size or network.native_size
        generator = torch.Generator().manual_seed(0)
        picture = torch.rand(config.batch, 3, side, side, generator=generator).to(device)
        mask = torch.zeros(config.batch, side, side, device=device)
        mask[:, side // 4 : side // 2, side // 4 : side // 2] = 1
        with torch.autocast(device, weights, enabled=weights != torch.float32):
            step = build(network, picture, mask)
            rows.append(
                {"step": name, **measure(step, partial(forward, network, picture), config.repeats, device, name)}
            )
        del network, step
    for row in rows:
        row["time of the example"] = float(row["forward passes"]) / float(rows[0]["forward passes"])
    checkpointing = ", gradient checkpointing" if config.gradient_checkpointing else ""
    title = f"{machine(device)}, {weights}, {config.base}, {side}×{side} pixels, batch {config.batch}, rank {config.rank}{checkpointing}"
    report(title, rows, config.markdown)
    return rows


def objective_step(objective: Objective, picture: Tensor, mask: Tensor) -> Step:
    """A recipe's step as the loop takes it, data and logs left out."""
    optimizer = torch.optim.AdamW(objective.parameter_groups())
    parameters = list(objective.trained().values())
    batch = {"source": picture, "target": picture.flip(0), "mask": mask, "effect_mask": mask}

    def run() -> None:
        generators = [torch.Generator().manual_seed(row) for row in range(len(picture))]
        objective(batch, generators).mean().backward()
        update(optimizer, parameters)

    return Step(run, sum(parameter.numel() for parameter in parameters))


def example_step(base: Base, rank: int, picture: Tensor) -> Step:
    """A step with the settings of diffusers' text-to-image LoRA example: ε-MSE on noisy latents and a caption."""
    targets = ["to_k", "to_q", "to_v", "to_out.0"]
    base.network.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=targets))
    parameters = [parameter for parameter in base.network.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.data = parameter.data.float()
    optimizer = torch.optim.AdamW(parameters)
    noising = DDPMScheduler(**base.schedule)
    captions = (f"photo {number}" for number in itertools.count())  # each new, so that it is encoded

    def run() -> None:
        with torch.no_grad():
            latent = base.encode(2 * picture - 1)
            text = base.texts.encode([next(captions) for _ in picture], (picture.shape[-2], picture.shape[-1]))
        noise = torch.randn_like(latent)
        timesteps = torch.randint(0, noising.config["num_train_timesteps"], (len(latent),), device=latent.device)
        noisy = noising.add_noise(latent, noise, timesteps)
        x = torch.cat([noisy, latent[:, :1] * 0, latent * 0], dim=1)
        out = base.network(x, timesteps, text.context.to(x.dtype), added_cond_kwargs=text.extra or None).sample
        F.mse_loss(out.float(), noise).backward()
        update(optimizer, parameters)

    return Step(run, sum(parameter.numel() for parameter in parameters))


def update(optimizer: torch.optim.Optimizer, parameters: list) -> None:
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def forward(base: Base, picture: Tensor) -> None:
    """The network alone, on noise of this picture's size."""
    channels, factor = base.network.config["in_channels"], base.native_size // base.network.config["sample_size"]
    height, width = picture.shape[-2] // factor, picture.shape[-1] // factor
    text = base.texts.encode([""] * len(picture), (picture.shape[-2], picture.shape[-1]))
    x = picture.new_zeros(len(picture), channels, height, width).to(base.network.dtype)
    base.network(x, 400, text.context.to(x.dtype), added_cond_kwargs=text.extra or None)


def measure(step: Step, yardstick: Callable[[], None], repeats: int, device: str, name: str) -> dict[str, float | str]:
    on_gpu = device.startswith("cuda")

    def clock(call: Callable[[], Any]) -> float:
        start = time.perf_counter()
        call()
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    times = []
    for index in tqdm(range(repeats + 2), desc=name):
        if on_gpu and index == 2:
            torch.cuda.reset_peak_memory_stats()
        times.append((clock(step.run), clock(yardstick)))
    times = times[2:]  # the first warm up
    return {
        "trained, M": step.parameters / 1e6,
        "steps/s": 1 / statistics.median(whole for whole, _ in times),
        "forward passes": statistics.median(whole / bare for whole, bare in times),
        "peak memory, GiB": f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if on_gpu else "–",
    }

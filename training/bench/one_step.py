"""`unclutter bench onestep`: what erasing in one step costs, beside its parts and beside sampling (OSOR)."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ...adapters.methods import ONE_STEP_PROMPT as PROMPT
from ...adapters.methods import ONE_STEP_TIMESTEP as TIMESTEP
from ...kernels.regions import latent_mask
from ..base_models.base import Base
from ..base_models.load import load_base
from ..evaluation.report import report
from ..sampling.methods import Plain
from ..sampling.one_step import run_once, with_rows
from ..sampling.sampler import remove
from .settings import OneStepBenchConfig
from .timing import machine, machine_defaults, ratios

STEPS, GUIDANCE = 25, 7.0
"""Of the sampling to compare with."""


def bench_onestep(config: OneStepBenchConfig) -> list[dict[str, float | str]]:
    """One-step erasing of one picture, against its parts, and against 25 steps at cfg 7 of the same network."""
    config.check()
    device = config.device
    device, weights = machine_defaults(device, config.dtype)
    plain = load_base(config.base, device, weights)
    side = config.size or plain.native_size
    if side % plain.multiple:
        raise ValueError(f"size is {side}: it must be a multiple of {plain.multiple}.")
    eraser = with_alpha(plain)
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    mask = torch.zeros(1, side, side, device=device)
    mask[:, side // 4 : side // 2, side // 4 : side // 2] = 1
    with torch.inference_mode():
        shot = plain.encode(2 * image - 1)
    hole = latent_mask(mask, *shot.shape[-2:], pooling="max").to(shot)

    def encode() -> Tensor:
        return plain.encode(2 * image - 1)

    def call() -> Tensor:
        return eraser.inpaint(shot, hole, shot, TIMESTEP, plain.texts.encode([PROMPT], (side, side)))

    def decode() -> Tensor:
        return plain.decode(shot)

    def parts() -> Tensor:
        encode()
        call()
        return decode()

    def erase(base: Base) -> Tensor:
        return run_once(base, image, mask).picture

    shares = ratios(
        {"parts": parts, "VAE encode": encode, "one call": call, "VAE decode": decode, "whole": partial(erase, eraser)},
        config.repeats,
        device,
    )
    without_vae = {"encode": lambda _: shot, "decode": lambda latent: latent}
    sampling = {
        "one step": partial(erase, replace(eraser, **without_vae)),
        "steps": partial(
            remove, replace(plain, **without_vae), image, mask, Plain(GUIDANCE), positive="background", steps=STEPS
        ),
    }
    rows: list[dict[str, float | str]] = [
        {
            **{name: share for name, share in shares.items() if name != "parts"},
            "sampling faster": ratios(sampling, config.repeats, device)["steps"],
        }
    ]
    report(f"{machine(device)}, {weights}, {config.base}, {side}×{side} pixels", rows, config.markdown)
    return rows


def with_alpha(base: Base) -> Base:
    """The base with a row for the alpha in its last layer, and otherwise the same weights."""
    unet = copy.deepcopy(base.network, {id(weight): weight for weight in base.network.parameters()})
    last = with_rows(unet.conv_out, unet.config["out_channels"] + 1)
    unet.conv_out = last.to(unet.device, unet.dtype)
    return replace(base, network=unet)

"""`unclutter bench layers`: what the rows of a layered eraser cost in one call of the network (MILD)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ...adapters.layered import Layered
from ...kernels.lowrank import BACKGROUND, PERSON
from ..base_models.base import Base
from ..base_models.load import load_base
from ..evaluation.report import report
from ..sampling.layered import fresh_adapter
from ..sampling.layered_network import LayeredNetwork
from .settings import LayersBenchConfig
from .timing import machine, machine_defaults, ratios


def bench_layers(config: LayersBenchConfig) -> list[dict[str, float | str]]:
    """The network with a row for each person and one for the background, against the same network without MILD."""
    config.check()
    device = config.device
    device, weights = machine_defaults(device, config.dtype)
    model = load_base(config.base, device, weights)
    side = config.size or model.native_size
    full = fresh_adapter(model.network, config.rank)
    # Biases of zero would cost nothing.
    full = replace(full, sma={layer: torch.tensor([-0.1, 0.1]) for layer in full.sma})
    adapters = {
        "LoRAs": replace(full, sma={}, morphology={}),
        "LoRAs, SMA": replace(full, morphology={}),
        "LoRAs, SMA, HMG": full,
    }
    rows: list[dict[str, float | str]] = []
    for name, adapter in adapters.items():
        plain, layered = calls(model, adapter, config.people, side)

        def separate(plain: Callable[[int], Tensor] = plain) -> Tensor:
            return torch.cat([plain(1) for _ in range(config.people + 1)])

        def compare(first: Callable[[], Tensor], second: Callable[[], Tensor]) -> float:
            return ratios({"first": first, "second": second}, config.repeats, device)["second"]

        everyone = partial(layered, config.people + 1)
        rows.append(
            {
                "adapter": name,
                "faster than separate": compare(everyone, separate),
                "time of a plain batch": compare(partial(plain, config.people + 1), everyone),
                "background alone": compare(partial(plain, 1), partial(layered, 1)),
            }
        )
    title = (
        f"{machine(device)}, {weights}, {config.base}, {side}×{side} pixels, {config.people} people, rank {config.rank}"
    )
    report(title, rows, config.markdown)
    return rows


def calls(
    base: Base, adapter: Layered, people: int, side: int
) -> tuple[Callable[[int], Tensor], Callable[[int], Tensor]]:
    """The plain network and the layered one, on their last n of `people` + 1 rows."""
    unet = base.network
    # The same weights, other attention processors.
    network = LayeredNetwork(copy.deepcopy(unet, {id(weight): weight for weight in unet.parameters()}), adapter)
    network.to(unet.device)
    count, factor = people + 1, base.native_size // unet.config["sample_size"]
    x = torch.randn(count, unet.config["in_channels"], side // factor, side // factor).to(unet.device, unet.dtype)
    text = base.texts.encode([""] * count, (side, side))
    context = text.context.to(unet.device, unet.dtype)
    branches = torch.tensor([PERSON] * people + [BACKGROUND])
    masks = torch.zeros(count, *x.shape[-2:], device=unet.device)
    timestep = torch.tensor(500, device=unet.device)
    masks[:, : x.shape[-2] // 2, : x.shape[-1] // 2] = 1
    tokens = None
    if network.morphology is not None:
        tokens = torch.zeros(count, network.morphology.count, network.morphology.width).to(context)

    def extra(rows: slice) -> dict[str, Tensor]:
        return {name: value[rows] for name, value in text.extra.items()}

    def plain(number: int) -> Tensor:
        rows = slice(count - number, None)
        return unet(x[rows], timestep, context[rows], added_cond_kwargs=extra(rows) or None).sample

    def layered(number: int) -> Tensor:
        rows = slice(count - number, None)
        # The background alone has no tokens, as in `erase_layers`.
        given = None if number == 1 or tokens is None else tokens[rows]
        return network(x[rows], timestep, context[rows], branches[rows], masks[rows], given, extra(rows))

    return plain, layered

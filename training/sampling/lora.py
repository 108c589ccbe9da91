"""LoRAs on a diffusers network: each can be taken off again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ...adapters.lora import LoraPair, foreign_modules

NAME = "unclutter"


def put_on(network: Any, pairs: Mapping[str, LoraPair], strength: float = 1.0, merged: bool = False) -> None:
    """Put a LoRA on a network of diffusers that has none yet.

    Args:
        pairs: by the path of the module in the network; each adds strength · alpha / r · up @ down.
        merged: add the update to the weights, so that sampling takes no longer than without; `take_off` then leaves
            their rounding behind. Else it is computed beside them, and they stay as they are.

    Raises:
        ValueError: the LoRA was made for another network.
    """
    check_fits(network, pairs)
    state, alphas = {}, {}
    for module, pair in pairs.items():
        # The scale goes into a factor and alpha is the rank, so that modules of different ranks cannot mix up theirs.
        rank = len(pair.down)
        state[f"lora.{module}.lora_A.weight"] = pair.down.float()
        state[f"lora.{module}.lora_B.weight"] = strength * pair.alpha / rank * pair.up.float()
        alphas[f"lora.{module}.alpha"] = float(rank)
    network.load_lora_adapter(state, prefix="lora", network_alphas=alphas, adapter_name=NAME)
    if merged:
        network.fuse_lora()


def take_off(network: Any) -> None:
    """Take the LoRA of `put_on` off, so that the network has its own layers again."""
    if any(getattr(module, "merged", False) for module in network.modules()):
        network.unfuse_lora()
    network.delete_adapters(NAME)
    network.unload_lora()


def check_fits(network: nn.Module, pairs: Mapping[str, LoraPair], title: str = "LoRA") -> None:
    """Raises ValueError unless each module of a LoRA is in the network, and at its size; the message counts them."""
    shapes = {name.removesuffix(".weight"): value.shape for name, value in network.named_parameters()}
    foreign = foreign_modules(pairs, shapes)
    if foreign or not pairs:
        raise ValueError(
            f"{len(pairs) - len(foreign)} of the {title}'s {len(pairs)} modules fit this network, expected all"
            f"{f' ({foreign[0]} does not)' if foreign else ''}: it was made for another model."
        )

"""LoRA files: ours, and those that other trainers write.

ComfyUI applies kohya's keys in full and drops the attention keys of diffusers and peft without an error, so kohya's
are what `save` writes unless told otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, tensor

from .files import check_numbers, json_value, read_safetensors, write_safetensors
from .header import WithHeader
from .names import Style, module_of

FACTORS = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".alpha": "alpha",
}
"""How the two factors and the alpha of a module are spelled: diffusers, peft, older diffusers (both), kohya."""
HEADER = "lora_adapter_metadata"
"""The key under which diffusers keeps peft's config, the alpha in it."""


@dataclass(frozen=True)
class LoraPair:
    """One module's update: strength · alpha / r · up @ down.

    Attributes:
        down: [r, in], or [r, in, k, k] of a convolution.
        up: [out, r], or [out, r, 1, 1].
        alpha: equal to r for a scale of 1.
    """

    down: Tensor
    up: Tensor
    alpha: float

    def changes(self, shape: Sequence[int] | None) -> bool:
        """Whether it is for a weight of this shape, [out, in] or [out, in, k, k]; None stands for no such weight."""
        return bool(shape) and shape[0] == len(self.up) and math.prod(shape[1:]) == self.down[0].numel()


def foreign_modules(pairs: Mapping[str, LoraPair], shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """The modules of a LoRA that a network whose weights have these shapes does not have, or has at another size.

    Args:
        pairs, shapes: by the same paths of modules.
    """
    return [module for module, pair in pairs.items() if not pair.changes(shapes.get(module))]


@dataclass(frozen=True)
class Lora(WithHeader):
    """A LoRA by module, e.g. `unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q`.

    Attributes:
        pairs: by part (unet, text_encoder, text_encoder_2) and diffusers' path of the module in it.
        metadata: the file's header.
    """

    pairs: dict[str, LoraPair]
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        return max(pair.down.shape[0] for pair in self.pairs.values())

    @property
    def of_network(self) -> dict[str, LoraPair]:
        """The pairs of the diffusion network, by the path of the module in it."""
        return {key.removeprefix("unet."): pair for key, pair in self.pairs.items() if key.startswith("unet.")}


def load(path: Path) -> Lora:
    """Read a LoRA in kohya's, diffusers', peft's or ComfyUI's keys, or a mixture of them.

    The alpha is the file's own where it has one, else that of peft's config, in diffusers' header or in the
    adapter_config.json that peft writes beside its file; where there is neither, the scale is 1.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no safetensors file, or holds no LoRA, or half of one; the message counts tensors.
    """
    tensors, metadata = read_safetensors(path)
    config = peft_config(path, metadata.pop(HEADER, None))
    found: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for key, value in tensors.items():
        if (place := factor_of(key)) is None:
            unknown.append(key)
        else:
            found.setdefault(place[0], {})[place[1]] = value
    check_numbers(path.name, tensors)
    pairs = {
        module: make_pair(
            path.name, module, factors, lambda rank, module=module: configured_alpha(config, module, rank)
        )
        for module, factors in found.items()
    }
    if not pairs or unknown:
        raise ValueError(
            f"{path.name}: {len(tensors) - len(unknown)} of {len(tensors)} tensors are LoRA factors of the SD family"
            f"{f', {unknown[0]} is not' if unknown else ''}; expected all of them, in kohya's, diffusers' or peft's keys."
        )
    return Lora(pairs, metadata)


def factor_of(key: str) -> tuple[str, str] | None:
    """The module and the factor ("down", "up", "alpha") of a file's key; None where it is no LoRA's of the SD family."""
    suffix = next((suffix for suffix in FACTORS if key.endswith(suffix)), None)
    module = module_of(key[: -len(suffix)]) if suffix else None
    return None if suffix is None or module is None else (module, FACTORS[suffix])


def is_of_sd(keys: Iterable[str]) -> bool:
    """Whether all keys of a file are a LoRA's of the SD family, so that `load` reads it."""
    return all(factor_of(key) for key in keys)


def make_pair(
    name: str, module: str, factors: Mapping[str, Tensor], alpha: Callable[[int], float] | None = None
) -> LoraPair:
    """The pair of a module, from its factors "down", "up" and, where the file has one, "alpha"; else `alpha` of the rank,
    by default the rank itself.

    Raises:
        ValueError: a factor is missing, or they are no factors of one rank; `name` is the file's.
    """
    if not {"down", "up"} <= factors.keys():
        raise ValueError(
            f"{name} holds {' and '.join(sorted(factors))} of {module}, expected both factors: the file is incomplete, get "
            "it again."
        )
    down, up = factors["down"], factors["up"]
    if not (down.is_floating_point() and up.is_floating_point()) or 0 in (*down.shape, *up.shape):
        raise ValueError(
            f"{name} has factors of {list(down.shape)} {down.dtype} and {list(up.shape)} {up.dtype} in {module}, expected "
            "floats: the file is damaged, or quantised in a way that nothing here reads; get another."
        )
    if down.ndim not in (2, 4) or up.ndim != down.ndim or up.shape[1] != down.shape[0]:
        raise ValueError(
            f"{name} has factors of {list(down.shape)} and {list(up.shape)} in {module}, expected [r, in] and [out, r], one "
            "rank: the file is damaged, get it again."
        )
    rank = len(down)
    if "alpha" not in factors:
        return LoraPair(down, up, float(rank if alpha is None else alpha(rank)))
    if factors["alpha"].numel() != 1:
        raise ValueError(
            f"{name} has an alpha of {list(factors['alpha'].shape)} in {module}, expected one number: the file is damaged, get "
            "it again."
        )
    return LoraPair(down, up, float(factors["alpha"]))


def save(path: Path, lora: Lora, style: Style = "kohya") -> None:
    """Write a LoRA, all of it or nothing.

    kohya's keys carry the alpha; diffusers' know none, so it goes into `up`.
    """
    header = {"format": "pt", "modelspec.sai_model_spec": "1.0.0", "unclutter.kind": "lora", **lora.metadata}
    write_safetensors(path, to_kohya(lora) if style == "kohya" else to_diffusers(lora), header)


def to_kohya(lora: Lora) -> dict[str, Tensor]:
    """The tensors under kohya's keys, of which ComfyUI takes all."""
    two_encoders = any(module.startswith("text_encoder_2.") for module in lora.pairs)
    tensors = {}
    for module, pair in lora.pairs.items():
        name = kohya_name(module, two_encoders)
        tensors |= {
            f"{name}.lora_down.weight": pair.down,
            f"{name}.lora_up.weight": pair.up,
            f"{name}.alpha": tensor(pair.alpha),
        }
    return tensors


def to_diffusers(lora: Lora) -> dict[str, Tensor]:
    tensors = {}
    for module, pair in lora.pairs.items():
        scale = pair.alpha / pair.down.shape[0]
        tensors |= {f"{module}.lora_A.weight": pair.down, f"{module}.lora_B.weight": pair.up * scale}
    return tensors


def peft_config(path: Path, header: str | None) -> dict[str, Any]:
    """peft's config of a LoRA, its keys with or without the part (`unet.lora_alpha`); empty where there is none."""
    beside, what = path.with_name("adapter_config.json"), f"peft's config in the header of {path.name}"
    if header is None and path.name.startswith("adapter_model") and beside.is_file():
        header, what = beside.read_text("utf-8", errors="replace"), str(beside)
    config = json_value(header or "{}", dict, what)
    for key, value in config.items():
        own = key.rpartition(".")[2]
        number = own == "lora_alpha" and not isinstance(value, (int, float, type(None)))
        pattern = own == "alpha_pattern" and not (
            value is None
            or (isinstance(value, dict) and all(isinstance(alpha, (int, float)) for alpha in value.values()))
        )
        if number or pattern:
            raise ValueError(f"{what} has {key} = {str(value)[:40]!r}, expected numbers: get the file again.")
    return config


def configured_alpha(config: dict[str, Any], module: str, rank: int) -> float:
    part, _, path = module.partition(".")
    own = {key.removeprefix(f"{part}."): value for key, value in config.items() if key.startswith(f"{part}.")} or config
    patterns = own.get("alpha_pattern") or {}
    try:
        alpha = next((value for name, value in patterns.items() if re.match(rf"(.*\.)?({name})$", path)), None)
    except re.error as error:
        raise ValueError(f"peft's config has an alpha_pattern that is none ({error}): get the file again.") from None
    if alpha is None:
        alpha = rank if own.get("lora_alpha") is None else own["lora_alpha"]
    # Rank-stabilised LoRA scales by alpha / sqrt(rank).
    return alpha * math.sqrt(rank) if own.get("use_rslora") else float(alpha)


def kohya_name(module: str, two_encoders: bool) -> str:
    part, _, path = module.partition(".")
    encoder = "lora_te1" if two_encoders else "lora_te"
    prefix = {"unet": "lora_unet", "text_encoder": encoder, "text_encoder_2": "lora_te2"}[part]
    return f"{prefix}_{path.replace('.', '_')}"

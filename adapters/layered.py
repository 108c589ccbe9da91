"""Layered erasers on disk (MILD): two LoRAs, biases of spatially modulated attention, encoders of human morphology.

```
fg.MODULE.lora_down.weight  fg.MODULE.lora_up.weight  fg.MODULE.alpha      of all instances; the same under bg.
sma.LAYER                                                                  [2] for each self-attention layer
hmg.*                                                                      the state of kernels.morphology
```
MODULE and LAYER are diffusers' paths in the network, e.g. `mid_block.attentions.0.transformer_blocks.0.attn1.to_q`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, tensor

from ..kernels.lowrank import LowRank, stack_branches
from ..kernels.morphology import HumanMorphology, morphology_from_state
from .files import check_choice, check_numbers, check_whole_numbers, read_safetensors, write_safetensors
from .header import WithHeader
from .lora import LoraPair, foreign_modules, make_pair

KIND = "layered"
FACTORS = ("lora_down.weight", "lora_up.weight", "alpha")


@dataclass(frozen=True)
class Layered(WithHeader):
    """A layered eraser.

    Attributes:
        foreground, background: the LoRA of each branch by module. A pair's scale alpha / r is the learned α of Eq. 1.
        sma: δ of background and of object queries by self-attention layer, [2] each (`kernels.attention.sma`); layers
            that are not named attend plainly.
        morphology: `state_dict` of `kernels.morphology.HumanMorphology`; empty where the eraser was trained without.
        metadata: the file's header.
    """

    foreground: dict[str, LoraPair]
    background: dict[str, LoraPair]
    sma: dict[str, Tensor] = field(default_factory=dict)
    morphology: dict[str, Tensor] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        return max(len(pair.down) for pair in (*self.foreground.values(), *self.background.values()))

    def projections(self) -> dict[str, LowRank]:
        """Both branches of each module, foreground first (`kernels.lowrank.PERSON`, `BACKGROUND`)."""
        return {
            module: stack_branches(
                [
                    (pair.down, pair.up, pair.alpha / len(pair.down)) if (pair := branch.get(module)) else None
                    for branch in (self.foreground, self.background)
                ]
            )
            for module in {**self.foreground, **self.background}
        }

    def fitting(self, shapes: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
        """How many of the LoRAs fit a network whose projections have these (out, in) by their paths, and how many there are."""
        branches = (self.foreground, self.background)
        count = sum(map(len, branches))
        return count - sum(len(foreign_modules(branch, shapes)) for branch in branches), count

    def morphology_module(self) -> HumanMorphology | None:
        return morphology_from_state(self.morphology) if self.morphology else None


def load(path: Path) -> Layered:
    """Read a layered eraser.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no safetensors file, or no layered eraser, or a part of one.
    """
    tensors, metadata = read_safetensors(path)
    parts: dict[str, dict[str, Tensor]] = {"fg": {}, "bg": {}, "sma": {}, "hmg": {}}
    unknown = []
    for key, value in tensors.items():
        part, _, rest = key.partition(".")
        if part in parts and rest:
            parts[part][rest] = value
        else:
            unknown.append(key)
    if unknown or not (parts["fg"] and parts["bg"]):
        raise ValueError(
            f"{path.name}: {len(tensors) - len(unknown)} of {len(tensors)} tensors are those of a layered eraser"
            f"{f', {unknown[0]} is not' if unknown else ''}; expected LoRAs under fg. and bg.: give a file that "
            "`unclutter train mild` wrote."
        )
    if wrong := [layer for layer, value in parts["sma"].items() if value.shape != (2,)]:
        raise ValueError(
            f"{path.name} has {list(parts['sma'][wrong[0]].shape)} for sma.{wrong[0]}, expected [2]: get it again."
        )
    check_numbers(path.name, tensors)
    check_choice(path, metadata, "unclutter.mask_pooling", ("max", "nearest"))
    check_whole_numbers(path, metadata, {"unclutter.resolution": (16, 8192)})
    if parts["hmg"]:
        try:
            morphology_from_state(parts["hmg"])
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from None
    pairs = [_pairs(path, branch, parts[branch]) for branch in ("fg", "bg")]
    return Layered(pairs[0], pairs[1], parts["sma"], parts["hmg"], metadata)


def save(path: Path, layered: Layered) -> None:
    """Write a layered eraser, all of it or nothing."""
    tensors = {f"sma.{layer}": value for layer, value in layered.sma.items()}
    tensors |= {f"hmg.{key}": value for key, value in layered.morphology.items()}
    for branch, pairs in (("fg", layered.foreground), ("bg", layered.background)):
        for module, pair in pairs.items():
            for name, value in zip(FACTORS, (pair.down, pair.up, tensor(pair.alpha)), strict=True):
                tensors[f"{branch}.{module}.{name}"] = value
    header = {"format": "pt", "modelspec.sai_model_spec": "1.0.0", "unclutter.kind": KIND, **layered.metadata}
    write_safetensors(path, tensors, header)


def _pairs(path: Path, branch: str, tensors: Mapping[str, Tensor]) -> dict[str, LoraPair]:
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name = next((name for name in FACTORS if key.endswith(f".{name}")), None)
        if name is None:
            raise ValueError(
                f"{path.name} has {branch}.{key}, expected names that end in {', '.join(FACTORS)}: the file is damaged, get it "
                "again."
            )
        found.setdefault(key.removesuffix(f".{name}"), {})[name] = value
    if missing := [module for module, factors in found.items() if len(factors) < len(FACTORS)]:
        lacking = next(name for name in FACTORS if name not in found[missing[0]])
        raise ValueError(
            f"{path.name} lacks {branch}.{missing[0]}.{lacking}, expected both factors and alpha: the file is incomplete, get "
            "it again."
        )
    pairs = {}
    for module, factors in found.items():
        named: dict[str, Tensor] = dict(zip(("down", "up", "alpha"), (factors[name] for name in FACTORS), strict=True))
        pairs[module] = make_pair(path.name, f"{branch}.{module}", named)
        if pairs[module].down.ndim != 2:
            raise ValueError(
                f"{path.name} has factors of a convolution in {branch}.{module}, expected [r, in] and [out, r]: get another."
            )
    return pairs

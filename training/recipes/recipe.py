"""Settings that every training has, and presets of them on the command line."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import tyro

from ..paths import check_checkpoint, check_pairs


@dataclass(frozen=True)
class Recipe:
    """Settings that all recipes share; the papers' values are the defaults where they state one."""

    data: Path
    """Folder of pairs: a manifest.jsonl, source/ target/ mask/ folders, or webdataset shards (docs/training.md)."""
    output: Path
    """Folder that receives the adapters, their settings, checkpoints, samples and logs. One training a folder."""
    base: Path | None = None
    """Inpainting checkpoint to adapt: a diffusers folder or a single .safetensors file of SD 1.5, SD 2 or SDXL, or the output
    of `unclutter train mini`. None: the mini model in the pack."""
    size: int | None = None
    """Side of the training pictures in pixels; other aspect ratios keep this area. None: what the base was trained on."""
    steps: int = 1000
    """Optimizer steps. LRNR trained 1,000."""
    batch: int = 8
    """Pictures an optimizer step sees, over all processes."""
    micro_batch: int = 1
    """Pictures a forward pass holds, in one process. batch / micro_batch / processes passes make a step."""
    lora_rank: int = 32
    """Rank of the LoRA on to_q, to_k and to_v. LRNR: 32."""
    lora_alpha: float | None = None
    """Scale of the LoRA is alpha / rank. None: alpha = rank."""
    learning_rate: float = 5e-4
    """Of the LoRA (AdamW, constant). LRNR: 5e-4."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Precision that the frozen network computes in; adapters stay in fp32. bf16 on any GPU that has it."""
    gradient_checkpointing: bool = False
    """Compute activations twice and keep them once: SDXL at 1024 pixels on a 24 GB GPU needs it."""
    mask_pooling: Literal["nearest", "max"] = "nearest"
    """How the mask becomes the network's mask channel; nearest as inpainting bases were trained. Sample with the same."""
    dilation: tuple[float, float] = (0.0, 0.1)
    """Masks are grown by a share of their object's size drawn from this range (LRNR, Appendix L)."""
    workers: int = 2
    """Processes that load pictures. The order and the pictures do not depend on their number."""
    latent_cache: float = 1.0
    """Gigabytes of memory for the latents of pictures that come again; each process has its own. 0: none."""
    seed: int = 0
    save_every: int = 100
    """Optimizer steps between checkpoints."""
    sample_every: int = 100
    """Optimizer steps between sample sheets; 0 for none."""
    resume: bool = False
    """Continue the training that lies in `output`."""
    may_change = frozenset({"steps", "workers", "save_every", "sample_every", "micro_batch", "latent_cache"})
    """Settings that may change when a training is resumed."""
    synthesis = False
    """Whether pairs are made on the fly of pictures and masks alone; no setting but where a recipe makes it one."""

    def __post_init__(self) -> None:
        self.check_range("steps", "batch", "micro_batch", "lora_rank", "save_every", least=1)
        self.check_range("size", least=8)
        self.check_range("workers", "latent_cache", "sample_every", least=0)
        self.check_positive("learning_rate", "lora_alpha")
        if self.batch % self.micro_batch:
            raise ValueError(f"batch is {self.batch}, expected a multiple of micro_batch, which is {self.micro_batch}.")
        if not 0 <= self.dilation[0] <= self.dilation[1] < math.inf:
            raise ValueError(f"dilation is {self.dilation}, expected two shares of at least 0, the smaller first.")

    def check_range(self, *names: str, least: float, most: float = math.inf) -> None:
        """Raises ValueError where a setting is not in least..most, or not finite; None, which stands for a default, may be."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not (least <= value <= most and value < math.inf):
                expected = f"at least {least}" if most == math.inf else f"{least} to {most}"
                raise ValueError(f"{name} is {value}, expected {expected}.")

    def check_positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}, expected a positive number.")

    def check(self) -> None:
        """Raises FileNotFoundError where the data or the base model is not there."""
        check_pairs(self.data)
        if self.base is not None:
            check_checkpoint(self.base)

    def values(self) -> dict[str, Any]:
        """All settings as plain JSON values, those of this machine's folders left out."""
        values = {key: value for key, value in asdict(self).items() if key not in ("data", "output", "resume")}
        values["base"] = self.base.name if self.base else "unclutter-mini"
        return json.loads(json.dumps(values, default=lambda path: path.name))


Settings = TypeVar("Settings")


def choose_preset(presets: dict[str, tuple[str, Settings]], default: str, arguments: list[str], prog: str) -> Settings:
    """The settings of a command line `[PRESET] --field value ...`, of the preset `default` where it names none."""
    if not arguments or arguments[0] not in (*presets, "-h", "--help"):
        arguments = [default, *arguments]
    description = f"Settings start from a preset; where none is named, with these arguments from {default}."
    return tyro.extras.overridable_config_cli(presets, args=arguments, prog=prog, description=description)

"""Settings of `unclutter train eradiff`, and the paper's as a preset."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from .recipe import Recipe, choose_preset


@dataclass(frozen=True)
class EraDiffRecipe(Recipe):
    """EraDiff: the network learns to step from a scene with the object to one with less of it."""

    learning_rate: float = 1e-4
    """Of the LoRA. EraDiff trains the full network, at 3e-6, as the preset `paper` does."""
    mixup: bool = True
    """Let the object fade along the path. Off: ablation, in which it is there in full and goes in one step; in the paper that
    training does not converge (NaN)."""
    gamma_max: int = 100
    """γ_m: longest stride of the path in timesteps (EraDiff: 100)."""
    full: bool = False
    """Train the full network, as the paper, and no LoRA; it is written to unet.safetensors, for Load Diffusion Model."""
    normalize_weight: bool = False
    """Weigh all strides alike. The paper's loss weighs a stride of 1 some 10,000 times less than one of 100."""
    synthesis: bool = False
    """Cut the object of each picture out by its mask and paste it elsewhere in the same picture, on the fly (EraDiff's
    dynamic image synthesis); the folder's targets then play no part."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("gamma_max", least=1, most=999)


PRESETS = {
    "lora": ("a LoRA at 1e-4", EraDiffRecipe(tyro.MISSING, tyro.MISSING)),
    "paper": (
        "as the paper says, where it does: the full network at 3e-6; SD2-inpainting as --base",
        EraDiffRecipe(tyro.MISSING, tyro.MISSING, full=True, learning_rate=3e-6),
    ),
    "mini": (
        "a LoRA for the mini model: 800 steps at 5e-4, all strides weighed alike, max pooling",
        EraDiffRecipe(
            tyro.MISSING,
            tyro.MISSING,
            steps=800,
            micro_batch=8,
            learning_rate=5e-4,
            mask_pooling="max",
            normalize_weight=True,
        ),
    ),
}


def choose(arguments: list[str], prog: str) -> EraDiffRecipe:
    """`unclutter train eradiff [lora|paper|mini] --data FOLDER --output FOLDER [--field value ...]`; without a preset, the
    LoRA, and with `--full` the paper's."""
    return choose_preset(PRESETS, "paper" if "--full" in arguments else "lora", arguments, prog)

"""Settings of `unclutter train lrnr`, and the paper's as a preset."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from ...adapters.methods import ENHANCERS
from .recipe import Recipe, choose_preset


@dataclass(frozen=True)
class LRNRRecipe(Recipe):
    """LRNR: LoRA and removal prompt on pairs of a scene with and without one of its objects."""

    prompt_learning_rate: float = 2.5e-4
    """Of the removal prompt. LRNR: 2.5e-4."""
    prompt_tokens: int = 1
    """Vectors of the removal prompt. LRNR: 1; 77 did worse in the paper (30 % success against 71 %). 0: LoRA alone."""
    prompt_first: bool = True
    """The removal prompt before the enhancing words, or after them."""
    enhancers: tuple[str, ...] = ENHANCERS
    """P_enh: words of which random ones stand beside the removal prompt. LRNR: these thirteen, too long for the mini model's
    vocabulary: give it two. None of them: ablation."""
    enhancer_share: float = 0.5
    """Chance of each enhancing word to be there in a training step."""
    empty_prompt: float = 0.1
    """Share of pictures trained on the empty prompt, for classifier-free guidance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("prompt_tokens", least=0)
        self.check_range("enhancer_share", "empty_prompt", least=0, most=1)
        self.check_positive("prompt_learning_rate")


PRESETS = {
    "paper": (
        "as the paper says, where it does: 1,000 steps, LoRA at 5e-4, prompt at 2.5e-4; SDXL-inpainting as --base",
        LRNRRecipe(tyro.MISSING, tyro.MISSING),
    ),
    "mini": (
        "for the mini model: two enhancing words, LoRA at 1e-3, max pooling",
        LRNRRecipe(
            tyro.MISSING,
            tyro.MISSING,
            micro_batch=8,
            learning_rate=1e-3,
            mask_pooling="max",
            enhancers=("8K", "nikon"),
        ),
    ),
}


def choose(arguments: list[str], prog: str) -> LRNRRecipe:
    """`unclutter train lrnr [paper|mini] --data FOLDER --output FOLDER [--field value ...]`; without a preset, the paper's."""
    return choose_preset(PRESETS, "paper", arguments, prog)

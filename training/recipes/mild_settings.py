"""Settings of `unclutter train mild`, and the paper's as a preset."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from ...adapters.methods import BACKGROUND_PROMPT, PERSON_PROMPT
from ...kernels.vocabulary import LIP
from .recipe import Recipe, choose_preset


@dataclass(frozen=True)
class MILDRecipe(Recipe):
    """MILD: the background learns the clean picture, each instance learns itself, in its own row of the batch."""

    size: int | None = 512
    """Side of the training pictures in pixels. MILD: 512; 64 for the mini model."""
    steps: int = 20_000
    """Optimizer steps. MILD: 20,000."""
    batch: int = 4
    """Pictures an optimizer step sees. MILD: 4. Each is as many rows of the network as it has instances, and one more."""
    lora_rank: int = 16
    """Rank of both LoRAs. MILD: 16."""
    learning_rate: float = 1e-4
    """Of the LoRAs and the encoders. MILD's 1e-6 hardly moves a LoRA that starts at zero."""
    sma_learning_rate: float = 1e-3
    """Of the biases of spatially modulated attention, which are logits."""
    ramp: tuple[int, int] = (8_000, 12_000)
    """The step at which the instances' loss comes in, and the one at which it has its full weight: t0 and t1 of Eq. 4.
    MILD: t0 = 8,000."""
    foreground_weight: float = 1.0
    """λ, the weight of the instances' loss after the ramp."""
    freeze_background: bool = False
    """Give the background no more loss once the ramp is over (MILD, Appendix C)."""
    boundary: float = 0.0
    """β: the cells at an instance's border weigh 1 + β (Appendix C)."""
    gradient: float = 0.0
    """Weight of the error of differences between neighbouring cells of an instance (Appendix C)."""
    sma: bool = True
    """Spatially modulated attention. Off: ablation (Table 2)."""
    morphology: bool = True
    """Human Morphology Guidance. Off: ablation (Table 2)."""
    parsing_labels: int = LIP
    """Labels of the parsing maps, the background's included."""
    morphology_dropout: float = 0.1
    """Chance of a pose, and of a parsing map, to be withheld, so that the eraser works without them."""
    background_morphology: bool = False
    """The background gets pose and parsing too, those of everyone, as in the paper; else null tokens in their place."""
    instances: int = 4
    """Most instances of a picture that a step trains, drawn at random: each costs memory."""
    occlusion: float = 1.0
    """Chance of an instance to be covered in part, in what it is shown, by the shape of another: so it learns to complete
    people, and nothing else is ever shown of its layer. 0: they only learn what is seen of them, as the paper."""
    empty_prompt: float = 0.1
    """Share of rows trained on the empty prompt and without morphology, for classifier-free guidance."""
    person_prompt: str = PERSON_PROMPT
    background_prompt: str = BACKGROUND_PROMPT

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.ramp[0] <= self.ramp[1] or self.ramp[0] >= self.steps:
            raise ValueError(
                f"ramp is {self.ramp} in {self.steps} steps: give the step at which the people's loss comes in, below "
                f"{self.steps}, and the one at which it has its full weight, no earlier."
            )
        if self.lora_alpha is not None:
            raise ValueError(f"lora_alpha is {self.lora_alpha}, and MILD learns the scale of its LoRAs: leave it out.")
        self.check_range("instances", "parsing_labels", least=1)
        self.check_range("occlusion", "empty_prompt", "morphology_dropout", least=0, most=1)
        self.check_range("foreground_weight", "boundary", "gradient", least=0)
        self.check_positive("sma_learning_rate")


PRESETS = {
    "recommended": (
        "learning rate 1e-4, instances that learn to be occluded",
        MILDRecipe(tyro.MISSING, tyro.MISSING),
    ),
    "paper": (
        "as the paper says, where it does: learning rate 1e-6, no occlusion, pose and parsing for the background too",
        MILDRecipe(
            tyro.MISSING,
            tyro.MISSING,
            learning_rate=1e-6,
            sma_learning_rate=1e-6,
            occlusion=0.0,
            background_morphology=True,
        ),
    ),
    "mini": (
        "for the mini model: 1,400 steps at 64 pixels, LoRAs at 1e-3, max pooling",
        MILDRecipe(
            tyro.MISSING,
            tyro.MISSING,
            size=64,
            steps=1_400,
            micro_batch=4,
            learning_rate=1e-3,
            sma_learning_rate=1e-2,
            ramp=(200, 400),
            mask_pooling="max",
        ),
    ),
}


def choose(arguments: list[str], prog: str) -> MILDRecipe:
    """`unclutter train mild [recommended|paper|mini] --data FOLDER --output FOLDER [--field value ...]`; without a preset, as
    recommended where there is a `--base`, and for the mini model where there is none."""
    based = any(argument.split("=", 1)[0] == "--base" for argument in arguments)
    return choose_preset(PRESETS, "recommended" if based else "mini", arguments, prog)

"""Facts of the methods that both hosts go by: the numbers of their authors, and what their trainings were told.

Nothing here needs PyTorch, so that the command line can offer the methods before a network is asked for. The hosts add
how each method calls a network: `nodes/methods.py` for ComfyUI, `training/sampling/methods.py` for diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Start = Literal["draft", "picture", "noise", "inversion"]
"""The content of the hole that is noised when sampling begins: a draft, the picture with the object, or nothing; or the
picture's own noise, found by inversion (`kernels/inversion.py`)."""
STARTS: tuple[Start, ...] = ("draft", "picture", "noise")
"""The starts of Remove Object in ComfyUI, whose samplers begin from noise of a seed."""
AUTHORS_DENOISE: Mapping[Start, float] = {"draft": 0.4, "picture": 1.0, "noise": 1.0, "inversion": 1.0}


@dataclass(frozen=True)
class MethodFacts:
    """One method that samples.

    Attributes:
        title: for people.
        strength: the number that pushes the object away, as its authors set it on SDXL: MASG's guidance in the mask,
            Attentive Eraser's removal scale, else the classifier-free guidance, which means something only with words.
        mini_strength: the same for the mini model, which bears less.
        weak_strength: the same for models that run few steps, which burn with more.
        distilled_strength: the same for models whose guidance is a part of their weights; None where it is `strength`.
        steps: as its authors sample.
        denoise: the share of the noise schedule that is run, by what it begins from: the picture as its authors do, a
            draft as was best on drawn scenes (docs/benchmarks.md).
        recipe: the training (`unclutter train NAME`) whose adapters it is made for.
    """

    title: str
    strength: float
    mini_strength: float
    weak_strength: float = 1.0
    distilled_strength: float | None = 1.0
    steps: int = 50
    denoise: Mapping[Start, float] = field(default_factory=lambda: AUTHORS_DENOISE)
    recipe: str | None = None

    def strength_on(self, *, mini: bool, weak: bool, distilled: bool) -> float:
        """The strength on the mini model, on a model that runs few steps, on a distilled one, or on any other."""
        if weak:
            return self.weak_strength
        if distilled and self.distilled_strength is not None:
            return self.distilled_strength
        return self.mini_strength if mini else self.strength


PLAIN = MethodFacts("plain inpainting", strength=7.0, mini_strength=3.0)
MASG = MethodFacts("MASG", strength=12.5, mini_strength=6.0, weak_strength=2.0, distilled_strength=None, recipe="lrnr")
LRNR = MethodFacts(
    "MASG with LRNR's adapters",
    strength=12.5,
    mini_strength=3.0,
    weak_strength=2.0,
    distilled_strength=None,
    denoise={**AUTHORS_DENOISE, "draft": 0.8},
    recipe="lrnr",
)
ATTENTIVE_ERASER = MethodFacts(
    "Attentive Eraser", strength=9.0, mini_strength=3.0, steps=40, denoise={**AUTHORS_DENOISE, "picture": 0.8}
)
SRA = MethodFacts("SRA", strength=7.0, mini_strength=3.0, recipe="eradiff")
METHODS = {"plain": PLAIN, "masg": MASG, "attentive-eraser": ATTENTIVE_ERASER, "sra": SRA}
"""Methods that sample, by their name on the command line. LRNR is what MASG becomes with its adapters."""


def method_facts(name: str, recipe: str | None) -> MethodFacts | None:
    """The facts of a method that samples, with the adapters of a recipe; None of any other method."""
    return LRNR if (name, recipe) == ("masg", LRNR.recipe) else METHODS.get(name)


DRAFT, ONE_STEP, LAYERS = "draft", "one-step", "layers"
"""The methods that do not sample one hole: copies of the photo's own surroundings, one call of the network, and people as
layers."""
TRAINED_FOR = {
    "osor": ONE_STEP,
    "mild": LAYERS,
    **{facts.recipe: name for name, facts in METHODS.items() if facts.recipe},
}
"""The method for the adapters of each recipe; nobody else compares a recipe's name."""

SUPPRESS = SUPPRESSION, SUPPRESSION_STEPS = 0.3, 0.2
"""Attentive Eraser's λ of similarity suppression, and the share of the steps, from the first, in which it acts."""
MASG_FALL = MASG_SCHEDULE, MASG_CUTOFF = "cosine_step", 0.5
"""How LRNR's guidance falls, and the share of the steps that is left when it begins to."""
BACKGROUND = "background"
"""The word that MASG guides to where no words are given and no removal prompt is learned."""
ENHANCERS = (
    "high-quality",
    "best-texture",
    "ultra-detailed",
    "Full-HD",
    "HDR",
    "full dynamic range",
    "photorealistic",
    "8K",
    "4K",
    "nikon",
    "best-result",
    "high-resolution",
    "awesome-detail",
)
"""P_enh: the words that LRNR puts beside its removal prompt."""
ONE_STEP_PROMPT = "Remove the instance of object"
"""The one prompt that OSOR is trained and run with."""
ONE_STEP_TIMESTEP = 400
"""The timestep that OSOR is trained and run with, where a file does not say otherwise."""
PERSON_PROMPT, BACKGROUND_PROMPT = "a person", "clean background, empty scene"
"""The prompts of MILD's two branches."""
LAYERED_STEPS, LAYERED_GUIDANCE = 25, 5.0
"""MILD's sampling steps, and the classifier-free guidance of all its rows, which the paper does not give."""

"""Choose the way of removal that suits a model, and the numbers it wants, for Remove Object."""

from __future__ import annotations

import dataclasses

from ..adapters import methods
from . import host

METHODS = ("auto", "one step", "learned", "Attentive Eraser", "SRA", "MASG", "plain", "draft")
STARTS = methods.STARTS
"""The content of the hole when sampling begins: the noised draft, the noised picture, or pure noise."""
FACTS = {
    "Attentive Eraser": methods.ATTENTIVE_ERASER,
    "MASG": methods.MASG,
    "SRA + MASG": methods.MASG,
    "learned": methods.LRNR,
    "SRA": methods.SRA,
    "plain": methods.PLAIN,
}
"""The facts of the methods that sample, which both hosts share, by their names here."""
SMALL_STEPS = 10
"""Up to so many steps are asked of models made for few steps only, and more of no such model."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to sample.

    attention   which node's attention the model gets: "Attentive Eraser", "SRA" or none
    masg        whether the guidance is MASG's, strong in the mask and 1 around it
    scale       the number that pushes the object away, at strength 1: MASG's guidance in the mask, Attentive Eraser's
                removal scale, else the guidance (which means something only where words are given)
    guidance    the guidance by the prompts beside Attentive Eraser's scale
    steps       as its authors sample
    denoise     the share of the noise schedule that is run, by what it begins from: a draft as was best on drawn scenes,
                the picture as its authors do
    """

    attention: str | None
    masg: bool
    scale: float
    steps: int
    guidance: float
    denoise: dict[str, float]


def choose(facts: host.Facts | None, steps: int) -> tuple[str, str]:
    """The method that `auto` takes for a model (None: there is none) and the reason, for the artist to read."""
    if facts is None:
        return "draft", "no model is connected"
    if facts.one_step:
        return "one step", "the model carries a one-step eraser"
    if facts.inpaints and facts.recipe == "lrnr":
        return "learned", "the model carries a LoRA of LRNR's training"
    if facts.inpaints and facts.attention and facts.recipe == "eradiff":
        return "SRA", "the model carries a LoRA of EraDiff's training"
    if facts.inpaints and facts.attention and facts.distilled:
        return "SRA", "it is an inpainting model whose guidance is part of its weights"
    if facts.inpaints and facts.attention:
        return "SRA + MASG", "it is an inpainting model"
    if facts.attention and few_steps(facts, steps):
        return "Attentive Eraser", "the model cannot inpaint and runs few steps"
    if facts.attention:
        return "Attentive Eraser", "the model cannot inpaint"
    return "plain", "this family's attention cannot be steered"


def method_for(name: str, facts: host.Facts, steps: int) -> Method:
    """The numbers of a method that samples, on this model.

    They are the papers': LRNR's 12.5 to 1, Attentive Eraser's 9 over 40 steps. The mini model
    wants less of everything, and models made for few steps or with guidance in their weights burn with any of it. For the
    other transformers no paper tells a strength: they get their makers' guidance and steps, and of Attentive Eraser its
    attention alone.
    """
    known = FACTS.get(name, methods.PLAIN)
    attention = {"Attentive Eraser": "Attentive Eraser", "SRA": "SRA", "SRA + MASG": "SRA"}.get(name)
    weak, masg = few_steps(facts, steps), known is methods.MASG or known is methods.LRNR
    # The paper tells no removal scale for a transformer, whether its guidance is in its weights or not.
    burns = facts.transformer if known is methods.ATTENTIVE_ERASER else facts.distilled
    scale = known.strength_on(mini=facts.mini, weak=weak, distilled=burns)
    if facts.guidance and known in (methods.PLAIN, methods.SRA) and not weak:
        scale = facts.guidance
    guidance = 1.0 if weak else facts.guidance or 1.0
    method = Method(attention, masg, scale, known.steps, guidance, {**known.denoise})
    wanted = steps or (20 if facts.mini else facts.few_steps or facts.steps or method.steps)
    return dataclasses.replace(method, steps=wanted)


def few_steps(facts: host.Facts, steps: int) -> bool:
    """Whether a run of so many steps (0: its own number) is that of a model made for few steps, which bears no guidance."""
    if facts.mini or steps > SMALL_STEPS and facts.twin:
        return False
    return facts.few_steps is not None or 0 < steps <= SMALL_STEPS

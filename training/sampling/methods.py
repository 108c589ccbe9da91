"""The methods that sample, in diffusers: their settings, and the x0 that each makes of calls of the network.

A method is a class here and its numbers in `adapters/methods.py`; whoever lists, parses or compares methods reads
`METHODS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...adapters import methods as facts
from ...kernels.attention import SRA, SRA_STRICT, aas_at
from ...kernels.guidance import masg_map, masg_scale, sarg
from .region_attention import attending_by_region

Call = Callable[[str], Tensor]
"""The network at one step, as a function of a prompt: it gives x0 [B, C, h, w]."""


@dataclass(frozen=True)
class Method(ABC):
    """A way to make the x0 of a step from one or more calls of the network.

    Attributes:
        strength_name: the setting that says how hard the object is pushed away.
        words: the prompt where none is given, without which the method has nothing to guide to.
        hides_object: whether it hides the object's keys, which LRNR's adapters do not bear (LRNR, Appendix E).
    """

    strength_name: ClassVar[str] = "guidance"
    words: ClassVar[str] = ""
    hides_object: ClassVar[bool] = False

    guidance: float = 1.0
    """Classifier-free guidance; 1 is none."""

    @abstractmethod
    def predict(
        self, network: Any, call: Call, hole: Tensor, positive: str, negative: str, position: float, steps: int
    ) -> Tensor:
        """The x0 of one step.

        Args:
            network: of diffusers, whose attention the method may steer while it calls.
            hole: [B, 1, h, w] of 0 and 1.
            position: counts down from `steps` to 1, fractional between two steps.
        """

    def with_strength(self, strength: float | None) -> Method:
        """The method with another strength, or as it is where None is given."""
        return self if strength is None else replace(self, **{self.strength_name: strength})


@dataclass(frozen=True)
class Plain(Method):
    """Inpainting with ordinary classifier-free guidance."""

    def predict(
        self, network: Any, call: Call, hole: Tensor, positive: str, negative: str, position: float, steps: int
    ) -> Tensor:
        return guided(call, positive, negative, self.guidance)


@dataclass(frozen=True)
class MASG(Method):
    """Mask-aware scheduled guidance (LRNR): strong in the hole, `background` around it."""

    words: ClassVar[str] = facts.BACKGROUND

    guidance: float = facts.MASG.strength
    background: float = 1.0
    schedule: str = facts.MASG_SCHEDULE
    cutoff: float = facts.MASG_CUTOFF
    """Share of the schedule, counted from its end, in which the guidance decays."""

    def predict(
        self, network: Any, call: Call, hole: Tensor, positive: str, negative: str, position: float, steps: int
    ) -> Tensor:
        scale = masg_scale(position, steps, self.guidance, self.background, self.cutoff, self.schedule)
        return guided(call, positive, negative, masg_map(hole, scale, self.background))


@dataclass(frozen=True)
class AttentiveEraser(Method):
    """AAS and SS in the decoder, and SARG as one more pass (Attentive Eraser)."""

    strength_name: ClassVar[str] = "removal_scale"
    hides_object: ClassVar[bool] = True

    guidance: float = 1.0
    removal_scale: float = facts.ATTENTIVE_ERASER.strength
    suppression: float = facts.SUPPRESSION
    suppression_steps: float = facts.SUPPRESSION_STEPS
    """Share of the steps, from the first, in which similarity suppression acts."""

    def predict(
        self, network: Any, call: Call, hole: Tensor, positive: str, negative: str, position: float, steps: int
    ) -> Tensor:
        settings = aas_at(steps - position, steps, self.suppression, self.suppression_steps)
        if self.removal_scale == 1:
            with attending_by_region(network, hole[:, 0], settings, decoder_only=True):
                return guided(call, positive, negative, self.guidance)
        plain = call(positive)
        with attending_by_region(network, hole[:, 0], settings, decoder_only=True):
            erased = call(positive)
        return sarg(plain, erased, self.removal_scale, guided(call, positive, negative, self.guidance, plain))


@dataclass(frozen=True)
class SelfRectifying(Method):
    """Self-rectifying attention (EraDiff, Eq. 10) in every self-attention layer."""

    hides_object: ClassVar[bool] = True

    guidance: float = 1.0
    strict: bool = False

    def predict(
        self, network: Any, call: Call, hole: Tensor, positive: str, negative: str, position: float, steps: int
    ) -> Tensor:
        with attending_by_region(network, hole[:, 0], SRA_STRICT if self.strict else SRA, decoder_only=False):
            return guided(call, positive, negative, self.guidance)


METHODS: dict[str, Method] = {
    "plain": Plain(),
    "masg": MASG(),
    "attentive-eraser": AttentiveEraser(),
    "sra": SelfRectifying(),
}
"""The methods with their authors' settings, by their names in `adapters.methods.METHODS`."""


def mini_methods() -> dict[str, Method]:
    """The methods as strong as the mini model bears them, and as "lrnr" MASG for LRNR's adapters."""
    found = {name: as_mini_bears(name, facts.METHODS[name]) for name in METHODS}
    return {**found, "lrnr": as_mini_bears("masg", facts.LRNR)}


def as_mini_bears(name: str, known: facts.MethodFacts) -> Method:
    """A method as strong as the mini model bears it; guidance stays off where it needs words that nobody gives."""
    method = METHODS[name]
    strong = method.words or method.strength_name != "guidance"
    return method.with_strength(known.mini_strength if strong else None)


def guided(call: Call, positive: str, negative: str, scale: float | Tensor, plain: Tensor | None = None) -> Tensor:
    """Classifier-free guidance; one call where the scale is 1 everywhere or both prompts are the same."""
    plain = call(positive) if plain is None else plain
    if positive == negative or bool((torch.as_tensor(scale) == 1).all()):
        return plain
    unconditional = call(negative)
    return unconditional + scale * (plain - unconditional)

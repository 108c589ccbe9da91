"""Facts of every metric: its name, what it rewards, its known bias, and the weights it needs. Imports no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower"]
Kind = Literal["picture", "set", "seeds"]


@dataclass(frozen=True)
class MetricFacts:
    """What is known of a metric before it is opened.

    Attributes:
        name: as on the command line.
        label: head of its column, with the unit.
        better: which values are better.
        kind: a value for each picture, for all pictures of a method, or for one picture filled from several seeds.
        rewards: what it rewards, in one sentence.
        bias: its known bias, in one sentence.
        implementation: "module:class", beside this file.
        networks: names in `networks.NETWORKS` of what it looks through; empty where it needs no weights.
    """

    name: str
    label: str
    better: Better
    kind: Kind
    rewards: str
    bias: str
    implementation: str
    networks: tuple[str, ...] = ()


METRICS: dict[str, MetricFacts] = {
    facts.name: facts
    for facts in (
        MetricFacts(
            "psnr",
            "PSNR, dB",
            "higher",
            "picture",
            "Pixels of the whole picture that are near those of the true background.",
            "Most pixels lie outside of the mask, so it tells more of the VAE and of pasting back than of the fill; blur "
            "beats a sharp texture that lies a pixel off.",
            "fidelity:Psnr",
        ),
        MetricFacts(
            "ssim",
            "SSIM",
            "higher",
            "picture",
            "Small windows whose mean, contrast and structure are those of the true background.",
            "It rises with the share of the picture that was left alone, and flat paint on a flat ground scores near 1.",
            "fidelity:Ssim",
        ),
        MetricFacts(
            "hole",
            "hole, dB",
            "higher",
            "picture",
            "Pixels in the mask that are near those of the true background.",
            "One true background is taken for the only right one: the mean colour beats a convincing other ground.",
            "fidelity:HolePsnr",
        ),
        MetricFacts(
            "effect",
            "effect, dB",
            "higher",
            "picture",
            "Shadow and reflection outside of the mask that are gone, as in the true background.",
            "It needs a mask of the effects, and a faint shadow that stays costs little.",
            "fidelity:EffectPsnr",
        ),
        MetricFacts(
            "outside",
            "outside, dB",
            "higher",
            "picture",
            "Pixels that are left as they were where the object changes nothing.",
            "Without a mask of the effects it also punishes a shadow that was rightly taken away; a method that does "
            "nothing at all scores the most, 100 dB.",
            "fidelity:OutsidePsnr",
        ),
    )
}
WITHOUT_WEIGHTS = tuple(name for name, facts in METRICS.items() if not facts.networks)
"""Names of the metrics that need no weights: the default of `unclutter evaluate photos`."""


def describe() -> list[dict[str, str]]:
    """One row a metric: its name, label, kind, better values, what it rewards, its bias and the networks it needs."""
    return [
        {
            "name": facts.name,
            "label": facts.label,
            "kind": facts.kind,
            "better": facts.better,
            "rewards": facts.rewards,
            "bias": facts.bias,
            "networks": ", ".join(facts.networks),
        }
        for facts in METRICS.values()
    ]

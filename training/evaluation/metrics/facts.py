"""Facts of every metric: its name, what it rewards, its known bias, and the weights it needs. Imports no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower"]
Kind = Literal["picture", "set", "seeds"]


@dataclass(frozen=True)
class MetricFacts:
    """The facts of a metric that are known before it is opened.

    Attributes:
        name: as on the command line.
        label: head of its column, with the unit.
        better: which values are better.
        kind: a value for each picture, for all pictures of a method, or for one picture filled from several seeds.
        rewards: what it rewards, in one sentence.
        bias: its known bias, in one sentence.
        implementation: "module:class" beside this file, or in `raters` where it is judged.
        networks: names in `networks.NETWORKS` of what it looks through; empty where it needs no weights.
        judged: a vision-language model is asked, `raters.judge`.
    """

    name: str
    label: str
    better: Better
    kind: Kind
    rewards: str
    bias: str
    implementation: str
    networks: tuple[str, ...] = ()
    judged: bool = False


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
            "A method that does nothing at all scores the most, 100 dB; without a mask of the effects a shadow that was rightly "
            "taken away counts as damage, and so does what was filled because the mask was grown.",
            "fidelity:OutsidePsnr",
        ),
        MetricFacts(
            "lpips",
            "LPIPS",
            "lower",
            "picture",
            "A picture that looks like the true background to a classifier, in texture as in form.",
            "Like PSNR it takes one true background for the only right one, and most of the picture lies outside of the mask.",
            "perceptual:Lpips",
            ("alexnet",),
        ),
        MetricFacts(
            "fid",
            "FID",
            "lower",
            "set",
            "A set of pictures with the statistics of the true backgrounds, or of the pictures with the objects where no truth "
            "is known.",
            "Without truths it rewards putting the object back; it is too high for few pictures (thousands are usual), and blind "
            "to what lies where.",
            "inception:Fid",
            ("inception",),
        ),
        MetricFacts(
            "local-fid",
            "local FID",
            "lower",
            "set",
            "Crops around the fills with the statistics of the same crops of the true backgrounds.",
            "As for FID; a crop of an object that was put back is nearest where the truths are not known.",
            "inception:LocalFid",
            ("inception",),
        ),
        MetricFacts(
            "kid",
            "KID",
            "lower",
            "set",
            "The same as FID.",
            "Its mean does not depend on the number of pictures, but for few of them it scatters, below 0 too.",
            "inception:Kid",
            ("inception",),
        ),
        MetricFacts(
            "cmmd",
            "CMMD",
            "lower",
            "set",
            "A set of pictures that means to CLIP what the true backgrounds mean.",
            "Its estimate is biased upwards for few pictures; CLIP overlooks fine texture and seams.",
            "maximum_mean_discrepancy:Cmmd",
            ("clip-336",),
        ),
        MetricFacts(
            "clip-score",
            "CLIP score",
            "higher",
            "picture",
            'A fill that CLIP reads as "background".',
            "Blur and flat paint read as background too, and other objects in the box around the mask count.",
            "clip:ClipScore",
            ("clip",),
        ),
        MetricFacts(
            "clip-caption",
            "CLIP caption",
            "higher",
            "picture",
            "A picture that CLIP reads as its caption says.",
            "It needs a caption of the true background, and one that names the object rewards putting it back.",
            "clip:ClipCaption",
            ("clip",),
        ),
        MetricFacts(
            "clip-similarity",
            "CLIP similarity",
            "higher",
            "picture",
            "A picture that means to CLIP what the true background means.",
            "Small objects hardly move it, and texture and seams not at all.",
            "clip:ClipSimilarity",
            ("clip",),
        ),
        MetricFacts(
            "consensus",
            "CLIP consensus",
            "lower",
            "seeds",
            "Fills of one picture that are alike whatever the seed.",
            "A method that always fails in the same way has perfect consensus, and one without randomness too.",
            "clip:ClipConsensus",
            ("clip",),
        ),
        MetricFacts(
            "dino",
            "DINO similarity",
            "higher",
            "picture",
            "A picture whose content and layout DINO finds like the true background's.",
            "One token stands for the whole picture, so small objects hardly move it.",
            "dino:DinoSimilarity",
            ("dino",),
        ),
        MetricFacts(
            "remove",
            "ReMOVE",
            "higher",
            "picture",
            "A fill in which SAM sees what it sees around it.",
            "Where the true background differs from what is around the mask, the truth scores low, and a copy of a "
            "look-alike next to the hole scores high.",
            "remove_score:Remove",
            ("sam",),
        ),
        MetricFacts(
            "cfd",
            "CFD",
            "lower",
            "picture",
            "A fill that suits the frame around it, without a segment of its own that does not look like what comes in.",
            "Smooth paint has no segments, so that half of it is 0; things that were truly behind the object are taken for "
            "invented ones.",
            "feature_deviation:FeatureDeviation",
            ("sam", "dinov2"),
        ),
        MetricFacts(
            "success",
            "success",
            "higher",
            "picture",
            "A removal that a vision-language model calls complete and plausible, by LRNR's or MILD's instructions to raters.",
            "It overlooks faint remains and soft shadows, and says now this, now that of the same picture; models differ, so that "
            "only rates by one model and protocol compare.",
            "judge:SuccessRate",
            judged=True,
        ),
        MetricFacts(
            "quality",
            "quality, 1 to 10",
            "higher",
            "picture",
            "A removal that a vision-language model finds natural, consistent, harmonious and without artefacts (MILD).",
            "As for success; most scores are 7 to 9 whatever is shown.",
            "judge:Quality",
            judged=True,
        ),
    )
}
WITHOUT_WEIGHTS = tuple(name for name, facts in METRICS.items() if not facts.networks and not facts.judged)
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
            "networks": ", ".join(facts.networks) or ("a judge" if facts.judged else ""),
        }
        for facts in METRICS.values()
    ]

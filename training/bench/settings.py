"""Settings of `unclutter bench`, checked before PyTorch is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..paths import check_checkpoint, check_comfyui, check_folder

SAMPLES = (
    *("brick", "grass", "gravel", "coffee", "rocket", "chelsea", "astronaut", "camera", "motorcycle_left", "moon"),
    *("coins", "hubble_deep_field", "ihc", "page", "clock_motion", "cell", "retina", "text", "chessboard_RGB"),
    "motorcycle_right",
)
"""Sample pictures that come with scikit-image's wheel."""
Precision = Literal["float32", "float16", "bfloat16"]
BenchBase = Literal["mini", "random-sdxl"] | Path


def check_base(base: BenchBase) -> None:
    """Raises FileNotFoundError where a base is a path with nothing there."""
    if isinstance(base, Path):
        check_checkpoint(base)


@dataclass(frozen=True)
class AttentionBenchConfig:
    """Region attention against ordinary attention, ordinary attention with a dense mask, and the plain formula.

    Every number is the median of time / time of ordinary attention, taken in turn in one run; below 1 is faster.
    """

    tokens: tuple[int, ...] = (1024, 4096, 16384)
    """Sequence lengths N, in tokens."""
    masked: tuple[float, ...] = (0.1, 0.3, 0.6)
    """Shares of object tokens."""
    heads: int = 10
    """Attention heads."""
    width: int = 64
    """Channels of a head."""
    dtype: Precision = "float32"
    """Precision of queries, keys and values."""
    repeats: int = 5
    """Rounds of measurements."""
    device: str | None = None
    """Device to run on, such as cpu or cuda; by default the GPU where there is one."""
    markdown: bool = False
    """Print a Markdown table."""
    families: bool = False
    """Measure at the shapes of this year's models instead, where only the picture's tokens can be the object's; tokens,
    heads and width do not count then."""


@dataclass(frozen=True)
class PrecisionBenchConfig:
    """Errors of region attention and of FlexAttention against the plain formula in fp32, and the ratio of their times.

    The plain formula holds N×N numbers for every head, which at 16,384 tokens are a gigabyte each.
    """

    tokens: tuple[int, ...] = (1024, 4096, 16384)
    """Sequence lengths N, in tokens."""
    masked: float = 0.3
    """Share of object tokens."""
    heads: int = 2
    """Attention heads."""
    width: int = 64
    """Channels of a head."""
    dtypes: tuple[Precision, ...] = ("float16", "bfloat16")
    """Precisions to compute in."""
    repeats: int = 5
    """Rounds of measurements; medians are shown."""
    compiled: bool = True
    """Compile FlexAttention, without which it is slow."""
    device: str | None = None
    """Device to run on, such as cpu or cuda; by default the GPU where there is one."""
    markdown: bool = False
    """Print a Markdown table."""


@dataclass(frozen=True)
class GuiderBenchConfig:
    """A MASG step against a CFGGuider step, and a SARG step against the two passes it needs, in a real ComfyUI.

    It runs the mini model.
    """

    comfyui: Path
    """A ComfyUI folder."""
    steps: int = 8
    """Sampling steps of a run."""
    size: int = 128
    """Side of the picture in pixels; the larger, the more the network weighs against what is around it."""
    repeats: int = 5
    """Rounds of measurements."""
    markdown: bool = False
    """Print a Markdown table."""

    def check(self) -> None:
        check_comfyui(self.comfyui)


@dataclass(frozen=True)
class LayersBenchConfig:
    """The network with a row for each person and one for the background, against the same network without MILD.

    Every number is the median of ratios of times taken in turn in one run, of one call of the network as a sampling
    step makes it. *Faster than separate*: a call for each row alone, as with LoRAs that are merged, by the time of
    all rows at once; above 1 is faster. *Time of a plain batch*: all rows at once by a batch of as many without
    branches. *Background alone*: by one plain call.
    """

    base: BenchBase = "mini"
    """An inpainting checkpoint, "mini", or "random-sdxl" for SDXL's real size with random weights."""
    people: int = 3
    """Rows beside the background's."""
    size: int | None = None
    """Side of the picture in pixels; by default what the base was trained on."""
    rank: int = 16
    """Rank of both LoRAs."""
    dtype: Precision | None = None
    """Precision of the network; by default bfloat16 on a GPU and float32 on a CPU."""
    repeats: int = 20
    """Rounds of measurements."""
    device: str | None = None
    """Device to run on, such as cpu or cuda; by default the GPU where there is one."""
    markdown: bool = False
    """Print a Markdown table."""

    def check(self) -> None:
        if self.people < 1 or self.repeats < 1:
            raise ValueError(f"people is {self.people} and repeats is {self.repeats}: both must be at least 1.")
        check_base(self.base)


@dataclass(frozen=True)
class OneStepBenchConfig:
    """One-step erasing of one picture, against its parts, and against 25 steps at cfg 7 of the same network.

    Every number is the median of ratios of times taken in turn in one run, with the prompts encoded before. *VAE
    encode*, *one call* and *VAE decode* are shares of the three in a row, and so is *whole*, all that erasing does,
    which should be 1.10 at most. *Sampling faster*: 25 steps of two calls by the one step, both without the VAE; it
    should be 20 at least. The LoRA is taken to be merged into the weights, as ComfyUI does, where it costs nothing.
    """

    base: BenchBase = "mini"
    """An inpainting checkpoint, "mini", or "random-sdxl" for SDXL's real size with random weights."""
    size: int | None = None
    """Side of the picture in pixels; by default what the base was trained on."""
    dtype: Precision | None = None
    """Precision of the network; by default bfloat16 on a GPU and float32 on a CPU."""
    repeats: int = 10
    """Rounds of measurements."""
    device: str | None = None
    """Device to run on, such as cpu or cuda; by default the GPU where there is one."""
    markdown: bool = False
    """Print a Markdown table."""

    def check(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats is {self.repeats}: it must be at least 1.")
        check_base(self.base)


@dataclass(frozen=True)
class TrainBenchConfig:
    """Steps per second and peak memory of LRNR and EraDiff, and of diffusers' text-to-image LoRA example on the same
    network.

    The example's step encodes one picture and its text, and has a LoRA on to_q, to_k, to_v and to_out.0 of the same
    rank. LRNR encodes two pictures and learns a prompt through the text encoders; EraDiff encodes three. As they do
    not fit a device together, each is measured in turn with a bare forward pass of its own network, and the medians
    of these ratios are compared. Memory is that of the device; on a CPU it is not measured.
    """

    base: BenchBase = "mini"
    """An inpainting checkpoint, "mini", or "random-sdxl" for SDXL's real size with random weights."""
    size: int | None = None
    """Side of the picture in pixels; by default what the base was trained on."""
    batch: int = 1
    """Pictures in a pass."""
    rank: int = 32
    """Rank of every LoRA."""
    dtype: Precision | None = None
    """Precision of the frozen network; by default bfloat16 on a GPU and float32 on a CPU."""
    gradient_checkpointing: bool = False
    """Compute activations twice and keep them once."""
    repeats: int = 10
    """Measured steps of each, after two to warm up."""
    device: str | None = None
    """Device to run on, such as cpu or cuda; by default the GPU where there is one."""
    markdown: bool = False
    """Print a Markdown table."""

    def check(self) -> None:
        check_base(self.base)


@dataclass(frozen=True)
class DraftBenchConfig:
    """The draft against OpenCV's Telea and SHIFTMAP, on scikit-image's sample pictures.

    Each sample picture has a hole of 5 % at a place that chance chose, and is its own truth. PSNR is that of the
    hole. *Times SHIFTMAP's* is the median over the pictures of the time by that of SHIFTMAP, taken in turn in one
    run.
    """

    photos: Path | None = None
    """A folder with more pictures: NAME.jpg with NAME_mask.png, of which no truth is known, and NAME_before.jpg with
    NAME_after.jpg, where what differs much is the hole."""
    sheet: Path | None = None
    """Write a contact sheet of all fills."""
    slow: bool = False
    """Compare with the package object-remove too, which takes minutes for a picture."""
    markdown: bool = False
    """Print Markdown tables."""
    samples: tuple[str, ...] = SAMPLES
    """Names of sample pictures."""
    seed: int = 0
    """Seed of the holes. The draft's constants were chosen with seed 0: another one tells what they are worth elsewhere."""

    def check(self) -> None:
        if unknown := [name for name in self.samples if name not in SAMPLES]:
            raise ValueError(f"There is no sample picture {unknown[0]!r}: choose from {', '.join(SAMPLES)}.")
        if self.photos is not None:
            check_folder(self.photos, "pictures")

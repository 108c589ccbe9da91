"""Settings of `unclutter demo`, `evaluate` and `train judge`, checked before PyTorch is imported."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...adapters import mini
from ...adapters.methods import METHODS
from ...kernels.vocabulary import Difficulty
from ..paths import check_comfyui, check_folder, check_writable, recipe_of

MaskKind = Literal["object", "effect", "eroded", "dilated", "shifted", "holed"]
if TYPE_CHECKING:
    StartsMethod = str
else:
    StartsMethod = Literal[(*METHODS, "lrnr")]


@dataclass(frozen=True)
class DemoConfig:
    """Fill photographs with drafts, then remove one of many look-alikes from drawn scenes with every method, and
    compare.

    The photographs need no model. The drawn scenes are for the mini model, which knows no others: they show how the
    methods behave, not what they do with a real checkpoint.
    """

    out: Path = Path("unclutter_demo.png")
    """The page of pictures to write."""
    scenes: int = 8
    """Number of drawn scenes that are measured; the page shows the first three."""
    steps: int = 8
    """Sampling steps."""
    seed: int = 0
    """Seed of the scenes and of the noise."""
    comfyui: Path | None = None
    """A ComfyUI folder: run its server, and the shipped workflows in it, instead of diffusers; without one step and
    layers."""

    def check(self) -> None:
        if self.scenes < 1 or self.steps < 1:
            raise ValueError(f"scenes is {self.scenes} and steps is {self.steps}: both must be at least 1.")
        check_writable(self.out)
        check_comfyui(self.comfyui)


@dataclass(frozen=True)
class EvaluateConfig:
    """Remove one object from each of many cluttered scenes with the mini model, without and with adapters.

    Paint in the median colour around the hole, grey, and the exemplar fill stand in every table. The score of a
    method is how many decibels it gains over the first of them, on the same scenes.
    """

    adapters: tuple[Path, ...] = ()
    """Output folders of `unclutter train` on the mini model, or files of one-step erasers."""
    scenes: int = 200
    """Number of scenes."""
    steps: int = 20
    """Sampling steps, where a method takes any."""
    guidance: float = 3.0
    """Scale of classifier-free guidance, and of MASG in the hole at the start."""
    masks: tuple[MaskKind, ...] = ("object",)
    """Kinds of masks to remove by: the object's outline and a 64th of the picture around it; the object with its shadow; or that
    outline eroded to 60 % of its area, dilated by four 64ths, shifted by three, or with a hole in its middle."""
    baselines: bool = True
    """Also evaluate the mini model without adapters."""
    seed: int = 0
    """Seed of the scenes and of the noise."""
    sheet: Path | None = None
    """Write a contact sheet of the first scenes, with the first kind of mask."""
    markdown: bool = False
    """Print a Markdown table."""
    difficulty: Difficulty = mini.DIFFICULTY
    """Difficulty of the scenes."""
    model: Path = mini.FOLDER
    """Folder of a mini model, such as the output of `unclutter train mini`; the pack's by default."""
    json: Path | None = None
    """Write the numbers as one JSON object a line."""

    def check(self) -> None:
        if self.scenes < 2 or self.steps < 1:
            raise ValueError(
                f"scenes is {self.scenes} and steps is {self.steps}: expected at least 2 scenes and 1 step."
            )
        if not self.masks:
            raise ValueError("masks is empty, expected at least one kind of mask: object is the usual one.")
        for folder in self.adapters:
            recipe_of(folder)
        check_folder(self.model, "a mini model")


@dataclass(frozen=True)
class CrowdsConfig:
    """Remove every subset of three overlapping objects with the mini model: by layers, and one object after the other.

    A layered eraser with Human Morphology Guidance has two rows, with the scenes' pose and parsing and with neither.
    """

    adapters: tuple[Path, ...] = ()
    """Output folders of `unclutter train lrnr`, `osor` and `mild` on the mini model."""
    scenes: int = 40
    """Number of scenes."""
    steps: int = 20
    """Sampling steps, where a method takes any."""
    guidance: float = 1.0
    """Classifier-free guidance of the layers."""
    seed: int = 0
    """Seed of the scenes and of the noise."""
    sheet: Path | None = None
    """Write all subsets of the first scenes by the last way."""
    markdown: bool = False
    """Print a Markdown table."""

    def check(self) -> None:
        if self.scenes < 1 or self.steps < 1:
            raise ValueError(f"scenes is {self.scenes} and steps is {self.steps}: both must be at least 1.")
        for folder in self.adapters:
            recipe_of(folder)


@dataclass(frozen=True)
class StartsConfig:
    """Compare noise, the noised picture and a noised draft as the start of each method, on the mini model."""

    methods: tuple[StartsMethod, ...] = ("attentive-eraser", "sra", "masg", "lrnr")
    """Plain inpainting, Attentive Eraser, SRA, MASG, and LRNR with the adapters that come with the pack."""
    scenes: int = 96
    """Number of drawn scenes, the same for all methods."""
    denoise: tuple[float, ...] = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    """How far up the noise schedule the draft is noised, above 0 to 1; the picture is as far as by the authors."""
    steps: int = 8
    """Sampling steps; they stay as many at every `denoise`."""
    shown: bool = True
    """Also sample with a model that is shown the draft, in place of the picture with a grey hole or (LRNR) the picture."""
    seed: int = 0
    """Seed of the scenes and of the noise."""
    sheet: Path | None = None
    """Write a contact sheet of the first six scenes."""
    rows: Path | None = None
    """Write the numbers as one JSON object a line."""
    markdown: bool = False
    """Print a Markdown table."""

    def check(self) -> None:
        if self.scenes < 2 or self.steps < 1:
            raise ValueError(
                f"scenes is {self.scenes} and steps is {self.steps}: expected at least 2 scenes and 1 step."
            )
        if wrong := [value for value in self.denoise if not 0 < value <= 1]:
            raise ValueError(f"denoise is {wrong[0]}: expected values above 0, up to 1.")


@dataclass(frozen=True)
class StabilityConfig:
    """Remove the same objects with several seeds, and measure how far the fills lie apart, on the mini model.

    Plain inpainting and Attentive Eraser from the noised picture, as the authors begin (SIP), from noise, and by inversion,
    which knows no seed (DIP).
    """

    scenes: int = 64
    """Number of drawn scenes."""
    seeds: int = 3
    """Seeds of the noise for each scene; three, as in the paper's figure."""
    steps: int = 12
    """Sampling steps."""
    seed: int = 0
    """Seed of the scenes."""
    markdown: bool = False
    """Print a Markdown table."""

    def check(self) -> None:
        if self.scenes < 2 or self.seeds < 2 or self.steps < 1:
            raise ValueError(
                f"scenes is {self.scenes}, seeds {self.seeds} and steps {self.steps}: expected at least 2 scenes, 2 seeds and 1 "
                "step."
            )


@dataclass(frozen=True)
class JudgeConfig:
    """Train the network that says whether an object stands in a hole, which `unclutter evaluate` asks."""

    output: Path = Path("runs/judge")
    """Folder that receives judge.safetensors."""
    steps: int = 3000
    """Optimizer steps."""
    batch: int = 16
    """Pictures that a step sees."""
    width: int = 32
    """Channels of its finest level, a multiple of 16."""
    learning_rate: float = 2e-3
    """Peak of a cosine schedule."""
    minutes: float = math.inf
    """Stop after so many minutes, with the learning rate at its end."""
    seed: int = 0
    """Seed of the scenes and of the first weights."""

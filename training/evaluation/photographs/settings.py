"""Settings of `unclutter evaluate photos`, checked before PyTorch is imported."""

from __future__ import annotations

import shlex
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ....adapters.methods import Start
from ...paths import check_folder
from ..metrics.facts import METRICS, WITHOUT_WEIGHTS
from ..metrics.networks import check_weights
from ..raters.settings import JudgeOptions
from .contestants import Contestant, Defaults, contestants, named

if TYPE_CHECKING:
    MetricName = str
else:
    MetricName = Literal[(*METRICS,)]
RENDERED = Path(__file__).resolve().parents[3] / "rendered"
"""Rendered scenes that come with the pack, whose true background is known."""


@dataclass(frozen=True)
class PhotosConfig:
    """Fill pictures by every method that is named, measure, compare, and show.

    Writes report.md (a table with intervals and paired tests, and which method suits when), gallery.html (before and
    after under a slider, in one file) and results.jsonl (a line for each picture, method and seed) into a folder.

    Run the command again after a stop: it goes on at the picture where it stopped. More methods, seeds, pictures and
    metrics may be added to a folder in this way. A picture that fails is told and does not stop the others.

    The flat fills, OpenCV's Telea and shift-map fills and the pack's draft are in every table: a method that does not beat
    paint is none.

    Attributes:
        out: The folder to write.
        data: A folder of pictures and masks (a.jpg with a_mask.png or mask/a.png, and with target/a.png, the picture without
            the object, where there is one), a set of pairs with its manifest, or a public set. By default the rendered
            scenes that come with the pack.
        layout: The layout of the data, where it is not recognised.
        base: Checkpoints, as CHECKPOINT or NAME=CHECKPOINT: a diffusers folder or a .safetensors file of SD 1.5, SD 2 or
            SDXL, base or inpainting (RORem and PowerPaint v1 too), or a folder of FLUX.1 Fill for one-step. The word mini
            stands for the mini model. Without one, only methods that need none run.
        adapters: Output folders of `unclutter train`, or files of one-step erasers, as PATH or NAME=PATH.
        methods: Methods, as NAME or NAME:OPTION=VALUE,OPTION=VALUE with the options of `unclutter remove`, such as
            "attentive-eraser:strength=7,suppression=0.5"; further options: base and adapters (names given there, or none), mask
            (object, or effect for the object with its shadow), and name (of the row). By default all that the bases
            and adapters can do.
        results: Outputs of other programs on the same pictures, as NAME=FOLDER: PICTURE.png for each, or SEED/PICTURE.png.
        seeds: Seeds of the noise. With several, a picture counts once, with the mean of its seeds.
        metrics: Metrics, by default those that need no weights. One whose weights are missing is named in the report, with
            the way to get them; the report says what each rewards.
        weights: Weights that metrics look through, as NETWORK=PATH or NETWORK=download; the report of a run without them names
            the networks.
        judge: The vision-language model that the metrics success and quality ask.
        limit: Take the first so many pictures, by name.
        size: Scale pictures down to this length of their longer side, in pixels, before anything else.
        square: Scale pictures to `size` × `size` instead, as some papers do.
        steps: Sampling steps of the methods that take any.
        start: What sampling begins from: noise, the picture (the authors' way), or a draft, as `unclutter remove` does.
        prompt: The background in words, or empty; {caption} stands for the picture's caption.
        negative: The object in words, or empty; {caption} likewise.
        whole: Work on the whole picture, scaled to what the model takes, as the papers do; by default on the part around
            the mask.
        grow: Grow the mask by this percentage of the object's size before it is given to a method; metrics use it as it is.
        batch: Pictures that are sampled side by side, where their parts come out at one size.
        device: Device to run on, such as cpu or cuda; by default the GPU where there is one.
        gallery: Pictures that gallery.html shows, those on which methods differ most.
        inputs: Also write the pictures and masks as the methods are given them into the folder inputs, for outside methods.
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    data: Path | None = None
    layout: str | None = None
    base: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    metrics: tuple[MetricName, ...] = WITHOUT_WEIGHTS
    weights: tuple[str, ...] = ()
    judge: JudgeOptions = JudgeOptions()  # noqa: RUF009 (it is frozen)
    limit: int | None = None
    size: int | None = None
    square: bool = False
    steps: int = 50
    start: Start = "draft"
    prompt: str = ""
    negative: str = ""
    whole: bool = False
    grow: float = 7.5
    batch: int = 1
    device: str | None = None
    gallery: int = 48
    inputs: bool = False

    def check(self) -> None:
        """Look at everything that can be known without a model.

        Raises:
            ValueError, FileNotFoundError: values that do not go together, or a file that is not there.
        """
        for name, least in (("limit", 1), ("size", 16), ("steps", 1), ("batch", 1), ("gallery", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, expected at least {least}.")
        for name in ("seeds", "metrics"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(
                    f"{name} is {' '.join(map(str, values)) or 'empty'}: give each once, and one at least."
                )
        if self.square and self.size is None:
            raise ValueError("square needs the side of the square: give --size too, such as --size 1024.")
        if self.out.is_file():
            raise ValueError(f"{self.out} is a file: give a folder for the results.")
        check_weights(self.given_weights())
        self.judge.check()
        check_folder(self.source(), "pictures and masks")
        self.contestants()

    def source(self) -> Path:
        """The folder, or the manifest's folder, of the pictures."""
        if self.data is not None:
            return self.data.parent if self.data.is_file() else self.data
        return RENDERED

    def contestants(self) -> list[Contestant]:
        """All that is compared, a row of the table each.

        Raises:
            ValueError, FileNotFoundError: a method, a base or adapters that are not there, or do not go together.
        """
        defaults = Defaults(self.steps, self.start, self.prompt, self.negative, self.whole, self.grow)
        return contestants(self.base, self.adapters, self.methods, self.results, defaults)

    def given_weights(self) -> dict[str, Path]:
        """The paths of weights by the network that they are of."""
        return dict(named(each, "weights", "NETWORK=PATH", needs_name=True) for each in self.weights)

    def weights_of(self) -> dict[str, str]:
        """By metric, the weights that it looks through, as they are written in a line of results."""
        given, judge = self.given_weights(), self.judge
        asked = f"{judge.model} by {judge.protocol}, {judge.repeats} times at {judge.temperature:g}"
        return {
            name: asked
            if METRICS[name].judged
            else ", ".join(f"{network} {given[network]}" for network in METRICS[name].networks if network in given)
            for name in self.metrics
            if METRICS[name].networks or METRICS[name].judged
        }

    def command(self) -> str:
        """The command line that makes these settings."""
        return shlex.join(["unclutter", "evaluate", "photos", *options(self)])


def options(settings: Any, group: str = "") -> list[str]:
    """The options of a command line that make these settings; what is as by default is left out."""
    words: list[str] = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.default is not MISSING and value == field.default:
            continue
        if is_dataclass(value):
            words += options(value, f"{field.name}.")
            continue
        words.append(f"--{group}{field.name}")
        if not isinstance(value, bool):
            words += [str(each) for each in (value if isinstance(value, tuple) else (value,))]
    return words

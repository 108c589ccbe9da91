"""Settings of `unclutter remove` and `unclutter convert`, checked before PyTorch is imported."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ..adapters.methods import (
    DRAFT,
    LAYERED_STEPS,
    LAYERS,
    METHODS,
    ONE_STEP,
    TRAINED_FOR,
    MethodFacts,
    Start,
    method_facts,
)
from ..adapters.names import Style
from ..kernels.vocabulary import Schedule
from .paths import MINI, check_checkpoint, check_file, check_picture, check_writable, recipe_of

if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[(DRAFT, *METHODS, ONE_STEP, LAYERS)]
WITHOUT_ADAPTERS = "attentive-eraser"
"""The method for a base model without adapters."""
MODEL_OPTIONS = ("base", "adapters", "strength", "prompt", "negative", "start", "denoise")
"""Options that mean nothing to a draft, which uses no model."""
OWN_OPTIONS = {
    **dict.fromkeys(("schedule", "cutoff"), "masg"),
    **dict.fromkeys(("suppression", "suppression_steps"), "attentive-eraser"),
}
"""Options of one method alone."""
PREVIEW = "preview"
"""Of a folder of photos the folder in the output, and in its log the method."""


@dataclass(frozen=True)
class RemoveConfig:
    """Remove what a mask marks from a photo, or from every photo of a folder.

    Without a checkpoint (--base) the hole is filled with a draft: copies of the photo's own surroundings. With one, only
    the part around the mask is worked on, at its own scale (one-step: at the size it was trained at). All pixels outside
    the mask and its soft border stay as they were; one-step also takes shadow and reflection, and those pixels with them.

    A folder of photos takes a folder of masks and writes into a folder: a.jpg goes with a.png, a_mask.png or mask/a.png,
    and may lie in one folder with its mask. Photos that are finished are skipped when the command is run again; one
    that fails is told and does not stop the others; log.jsonl has a line for each.

    Attributes:
        image: The photo, or a folder of photos.
        mask: White where it is to be removed, of any size in the photo's shape. Strokes of one colour on a clear layer, paint
            of one colour on black or white, the photo painted over, and the photo with clear parts (as ComfyUI saves it)
            are understood too; a line says what share is marked, and by what. Or a folder of masks. None beside --instances.
        out: The picture to write: .png, .webp and .tif hold every pixel that is not removed as it is, and all formats what
            the photo has of transparency, greys, 16 bits (.png), colour profile, EXIF, XMP and resolution; a .jpg of a .jpg
            has its tables. For a folder of photos a folder, in which each has the name of its photo.
        base: A diffusers folder or a .safetensors checkpoint: SD 1.5, SD 2, SDXL, or their inpainting versions; for
            one-step SDXL-inpainting, or a folder of FLUX.1 Fill. The word mini stands for the mini model, which knows
            drawn scenes only.
        adapters: Output folder of `unclutter train` on that base, or the file of a one-step eraser, OSOR's too, or of a
            layered one. A removal prompt in it goes before `prompt`.
        method: The draft, masg (LRNR's guidance), attentive-eraser (AAS and SARG), sra (EraDiff's attention), plain
            inpainting, one-step (OSOR) or layers (MILD). By default the draft without a base; with one what the adapters
            were trained for, masg for LRNR, sra for EraDiff, one-step for OSOR and layers for MILD; without any
            attentive-eraser.
        strength: Guidance in the mask (masg, 12.5), removal scale (attentive-eraser, 9), guidance (layers, 5; sra and
            plain, 1), or the factor of the alpha (one-step, 1).
        prompt: The background in words, or empty. Guidance goes from `negative` to it, so for masg it is "background"
            where nothing is given, and for layers what they were trained with.
        negative: The object in words, or empty.
        steps: Sampling steps, where a method takes any: 50 by default, and 25 for layers.
        seed: Seed of the noise and of the draft; the same for every photo of a folder.
        grow: Grow each object of the mask by this percentage of its size. 5 to 10 costs nothing; a mask a little too
            small brings the object back.
        context: Surroundings the network sees, as a share of the object's size on each side. By default 0.5, and 1 for
            one-step, so that the shadow is among them.
        feather: Width of the soft border in pixels; a draft has none.
        device: Device to run on, such as cpu or cuda; by default the GPU where there is one, and for a draft the CPU.
        instances: In place of a mask the masks of all people, or other objects, in the photo: a folder with one picture for
            each, which count by their names (2.png before 10.png), or one picture whose grey levels number them. For a
            folder of photos a folder that has for a.jpg the folder a, or a.png. Every method takes them; layers (MILD)
            also makes the hidden parts of those who stay.
        remove: Who of the instances goes, by their numbers from 1: "2, 3", "1-3", all (the default), or "all but 1".
        order: Everyone from the one furthest back to the one in front, such as "3, 1, 2": who hides whom where masks overlap.
            By default the first is furthest back.
        start: The content of the hole that is noised when sampling begins: nothing (noise), the photo with the object
            (picture, the authors' way), inversion (the noise that the photo itself is sampled from, so that no seed matters:
            Attentive Eraser's DIP), or a draft of the background, which is the default: on 64 drawn scenes it beats
            the picture by 3.3 dB [2.6, 4.1] (attentive-eraser), 2.5 dB [2.1, 2.8] (sra), 8.5 dB [7.4, 9.5] (masg) and
            1.3 dB [0.7, 2.0] (LRNR).
        denoise: How far up the noise schedule sampling begins, above 0 to 1, as in ComfyUI's KSampler: less keeps more
            of the start. By default 0.4 for a draft (LRNR 0.8), 0.8 for the picture by attentive-eraser, else 1. Give
            more where the draft is wrong.
        avoid: White where a draft may copy nothing from, such as other objects of the same kind: a picture, or a folder
            of them, matched to the photos as the masks are.
        show_draft: Show an inpainting model the draft too, in place of a grey hole (SDXL inpainting) or of the photo (LRNR).
            On drawn scenes it beats the picture by 6.0 dB [5.2, 6.9] (sra) and 3.0 dB [2.3, 3.8] (LRNR); untried on
            photographs.
        schedule: How masg's guidance falls to 1: constant, linear, cosine, one_step, cosine_step (the default) or linear_step.
        cutoff: The share of the steps that is left when masg's guidance begins to fall, for the schedules with a step; 0.5 by
            default.
        suppression: Attentive Eraser's factor of what the fill is like (its λ): lower looks around more evenly, 1 turns it
            off; 0.3 by default.
        suppression_steps: The share of the steps, from the first, in which it acts; 0.2 by default. The authors' settings are
            --steps 40 --start picture --denoise 0.8 --suppression-steps 0.25.
        whole: Work on the whole photo, scaled to what the model takes, as the papers do; by default on the part around the
            mask, at its own scale.
        invert: The mask marks what stays.
        preview: Write the photo with what would be removed in red, and stop; no model is loaded. Of a folder of photos into
            the folder preview in `out`.
        overwrite: `out` may exist. In a folder, finished photos are skipped all the same.
    """

    image: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="IMAGE")]
    mask: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="MASK")] = None
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = field(kw_only=True)
    base: Path | None = None
    adapters: Path | None = None
    method: MethodName | None = None
    strength: float | None = None
    prompt: str = ""
    negative: str = ""
    steps: int | None = None
    seed: int = 0
    grow: float = 7.5
    context: float | None = None
    feather: int = 8
    device: str | None = None
    instances: Path | None = None
    remove: str | None = None
    order: str | None = None
    start: Start | None = None
    denoise: float | None = None
    avoid: Path | None = None
    show_draft: bool = False
    schedule: Schedule | None = None
    cutoff: float | None = None
    suppression: float | None = None
    suppression_steps: float | None = None
    whole: bool = False
    invert: bool = False
    preview: bool = False
    overwrite: bool = False

    def check(self) -> None:
        """Look at everything that can be known without a model.

        Raises:
            ValueError, FileNotFoundError: values that do not go together, or a file that is not there.
        """
        self.check_settings()
        self.check_marks()
        if self.base is not None and self.base != MINI:
            check_checkpoint(self.base)
        if self.image.is_dir():
            return
        check_picture(self.image)
        for path, name in ((self.mask, "mask"), (self.avoid, "avoid")):
            if path is not None and path.is_dir():
                raise ValueError(f"{name} is the folder {path} for the one photo {self.image}: give a picture.")
            if path is not None:
                check_picture(path)
        if self.instances is not None and not self.instances.is_dir():
            check_picture(self.instances)
        check_writable(self.out, *(path for path in (self.image, self.mask, self.instances) if path))
        if self.out.exists() and not self.overwrite:
            raise ValueError(f"{self.out} exists: give another name, or --overwrite.")

    def check_settings(self) -> None:
        """Raises ValueError where values are out of range, or do not suit the method."""
        for name, least in (("steps", 1), ("grow", -50), ("context", 0), ("feather", 0), ("strength", 0)):
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise ValueError(f"{name} is {value}, expected at least {least}, and finite.")
        if self.denoise is not None and not 0 < self.denoise <= 1:
            raise ValueError(f"denoise is {self.denoise}, expected a number above 0, up to 1.")
        for name in OWN_OPTIONS:
            value = getattr(self, name)
            if isinstance(value, float) and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}, expected a number from 0 to 1.")
        self.check_method()

    def check_marks(self) -> None:
        """Raises ValueError where it is not clear what is to go."""
        if (self.mask is None) == (self.instances is None):
            given = "a mask and instances came" if self.mask else "neither a mask nor instances came"
            raise ValueError(
                f"{given[0].upper()}{given[1:]}, which say what is to go: give the mask after the photo, or --instances with "
                "the masks of all people."
            )
        for option in ("remove", "order"):
            if getattr(self, option) is not None and self.instances is None:
                raise ValueError(
                    f"--{option} tells instances apart, and there are none: leave it out, or give --instances."
                )
        if self.invert and self.instances is not None:
            raise ValueError('invert is for a mask: leave it out, or say who goes, such as --remove "all but 1".')

    def check_method(self) -> None:
        """Raises ValueError where options do not suit the method."""
        name, samples = self.chosen_method(), self.facts() is not None
        given = [option for option in MODEL_OPTIONS if getattr(self, option) not in (None, "")]
        if name == DRAFT and given:
            raise ValueError(
                f"A draft uses no model, so --{given[0]} means nothing to it: leave it out, or --method draft."
            )
        for option, method in OWN_OPTIONS.items():
            if getattr(self, option) is not None and name != method:
                raise ValueError(
                    f"--{option.replace('_', '-')} is a setting of {method}, and the method is {name}: leave it out, or give "
                    f"--method {method}."
                )
        if self.whole and name == DRAFT:
            raise ValueError("A draft needs no part of the photo cut out: leave --whole out.")
        if self.whole and self.context is not None:
            raise ValueError("whole takes all of the photo, so that context means nothing: leave one of them out.")
        if name == ONE_STEP and (self.prompt or self.negative):
            raise ValueError("one-step knows only the prompt it was trained with: leave --prompt and --negative out.")
        if name == ONE_STEP and (self.start or self.denoise):
            raise ValueError("one-step begins from the picture, as it was trained: leave --start and --denoise out.")
        if name == LAYERS and (self.start or self.denoise):
            raise ValueError("layers begin from noise, as they were trained: leave --start and --denoise out.")
        start, denoise = self.start_and_denoise() if samples else ("draft", 1.0)
        if start == "noise" and denoise < 1:
            raise ValueError(
                f"denoise is {denoise}, and noise holds nothing to keep: leave it out, or give another --start."
            )
        if self.show_draft and (not samples or start != "draft"):
            raise ValueError("show-draft is for methods that sample from a draft: leave it out, or give --start draft.")
        if self.avoid and (name in (ONE_STEP, LAYERS) or start != "draft"):
            raise ValueError("avoid is for drafts: leave it out, or give --method draft or --start draft.")

    def chosen_method(self) -> str:
        """The method that was asked for, else the one that the base and the adapters call for.

        Raises:
            ValueError: they do not go together; the message says what does.
        """
        if self.method == DRAFT or not (self.method or self.base or self.adapters):
            return DRAFT
        recipe = self.recipe()
        suited = WITHOUT_ADAPTERS if recipe is None else TRAINED_FOR.get(recipe, "plain")
        name = self.method or suited
        if name == ONE_STEP and suited != ONE_STEP:
            raise ValueError(
                "one-step needs an eraser: give the output folder of `unclutter train osor` or a file of OSOR's as --adapters."
            )
        if name == LAYERS and suited != LAYERS:
            raise ValueError(
                "layers need a layered eraser: give the output folder of `unclutter train mild`, or its file, as --adapters."
            )
        if suited in (ONE_STEP, LAYERS) and name != suited:
            kind = "one-step" if suited == ONE_STEP else "layered"
            raise ValueError(
                f"{self.adapters} holds a {kind} eraser, and {name} samples: leave --method out, or --adapters."
            )
        if self.base is None:
            raise ValueError(
                f"{name} needs a model: give a checkpoint as --base, `--base mini` to try it on a drawn scene, or --method "
                "draft, which needs none."
            )
        return name

    def recipe(self) -> str | None:
        """The recipe that trained the adapters; None without any."""
        return None if self.adapters is None else recipe_of(self.adapters)

    def facts(self) -> MethodFacts | None:
        """The facts of the method where it samples, with its adapters where they are LRNR's."""
        return method_facts(self.chosen_method(), self.recipe())

    def start_and_denoise(self) -> tuple[Start, float]:
        """The start of a method that samples, by default a draft, and how far up the noise schedule it begins."""
        facts, start = self.facts(), self.start or "draft"
        assert facts is not None
        return start, facts.denoise[start] if self.denoise is None else self.denoise

    def steps_taken(self) -> int:
        """Sampling steps: as many as were asked for, else as many as suit the method."""
        return self.steps or (LAYERED_STEPS if self.chosen_method() == LAYERS else 50)

    def surroundings(self) -> float:
        """Surroundings that the network sees, as a share of the object's size; infinite for the whole photo."""
        if self.whole:
            return math.inf
        return (1.0 if self.chosen_method() == ONE_STEP else 0.5) if self.context is None else self.context

    def deciding(self) -> dict[str, object]:
        """All settings that decide a result, beside the photo and its mask."""
        paths = {"base": self.base, "adapters": self.adapters}
        kept: dict[str, object] = {
            key: str(path if path == MINI else path.resolve()) for key, path in paths.items() if path
        }
        who = [option for option in ("invert", "remove", "order") if getattr(self, option)]
        if self.preview:
            told = {option: getattr(self, option) for option in who}
            return {"method": PREVIEW, "seed": self.seed, "grow": self.grow, "invert": self.invert, **told}
        name, names = self.chosen_method(), ["seed", "grow", *who]
        if name != DRAFT:
            names += ["strength", "context", "feather"]
        if self.facts() is not None:
            kept |= dict(zip(("start", "denoise"), self.start_and_denoise(), strict=True))
            names += ["show_draft"]
        if self.facts() is not None or name == LAYERS:
            kept["steps"] = self.steps_taken()
            names += ["prompt", "negative"]
        names += [option for option in (*OWN_OPTIONS, "whole") if getattr(self, option)]
        return {"method": name, **kept, **{key: getattr(self, key) for key in names}}


@dataclass(frozen=True)
class ConvertConfig:
    """Rewrite a LoRA: to kohya's keys, which ComfyUI applies in full, or to diffusers'.

    ComfyUI loads a LoRA in diffusers' or peft's keys without an error, and leaves its attention layers out.
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="LORA")]
    """A .safetensors file in kohya's, diffusers', peft's or ComfyUI's keys."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """The file to write."""
    to: Style = "kohya"
    """Style of the keys to write."""
    base: Path | None = None
    """A diffusers folder to check against: that the network has each module, at the right size."""

    def check(self) -> None:
        check_file(self.source, "a LoRA, a .safetensors file")

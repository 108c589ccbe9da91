"""MASG: classifier-free guidance that is strong in the mask and weak around it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy
import torch
from comfy_api.latest import io

from ..kernels import guidance
from . import host
from .schema import Schema, check_limits

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

PLOT_STEPS = 50


class MASGGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterMASGGuider",
            display_name="MASG Guider",
            category="Unclutter/guidance",
            description=(
                "Mask-aware scheduled guidance (LRNR): strong guidance in the mask, so that the object goes, and weak "
                "guidance around it, so that the surroundings stay natural. For SamplerCustomAdvanced, with any sampler."
            ),
            hidden=[io.Hidden.unique_id],
            search_aliases=["mask cfg", "regional cfg", "per-pixel cfg", "inpaint guider"],
            inputs=[
                io.Model.Input("model", tooltip="Any picture model; made for SDXL inpainting."),
                io.Conditioning.Input(
                    "positive",
                    tooltip="What is to be there: the word background, the background in words, or a removal prompt. It "
                    "must differ from negative, or there is nothing to guide.",
                ),
                io.Conditioning.Input("negative", tooltip="What is not to be there: empty, or the object in words."),
                io.Mask.Input("mask", tooltip="White (1.0) is removed. One for all pictures, or one for each."),
                io.Float.Input(
                    "mask_scale",
                    display_name="guidance in the mask",
                    default=12.5,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance in the mask at the start. Typical: 8 to 20.",
                ),
                io.Float.Input(
                    "background_scale",
                    display_name="guidance around it",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance around the mask, and in the mask at the end of a schedule that falls. At 1 the "
                    "steps with nothing to guide cost half.",
                ),
                io.Combo.Input(
                    "schedule",
                    display_name="how it falls",
                    options=list(guidance.SCHEDULES),
                    default="cosine_step",
                    tooltip="How the guidance in the mask falls to that of the background: not at all (constant), over "
                    "all steps (linear, cosine), at once at the cutoff (one_step), or from the cutoff on (cosine_step, "
                    "linear_step).",
                ),
                io.Float.Input(
                    "cutoff",
                    display_name="falls at (share left)",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="For the schedules with a step: the share of the steps that is left when the guidance starts "
                    "to fall. 0.5: full guidance for the first half.",
                ),
                io.Sigmas.Input("sigmas", optional=True, tooltip="Only for the plot: the steps to draw. Without, 50."),
            ],
            outputs=[
                io.Guider.Output("GUIDER", display_name="guider", tooltip="For SamplerCustomAdvanced."),
                io.Image.Output(
                    "PLOT", display_name="plot", tooltip="The guidance in the mask and around it, by step."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        positive: io.Conditioning.Type,
        negative: io.Conditioning.Type,
        mask: torch.Tensor,
        mask_scale: float,
        background_scale: float,
        schedule: str,
        cutoff: float,
        sigmas: io.Sigmas.Type | None = None,
    ) -> io.NodeOutput:
        check_limits(cls, mask_scale=mask_scale, background_scale=background_scale, cutoff=cutoff)
        scale_at = functools.partial(
            guidance.masg_scale,
            mask_scale=mask_scale,
            background_scale=background_scale,
            cutoff=cutoff,
            schedule=schedule,
        )
        mask = host.binary_mask(mask)
        host.warn_of_photograph(cls, model, *mask.shape[-2:])
        guider = host.MASGGuider(model, positive, negative, mask, scale_at, background_scale)
        steps = PLOT_STEPS if sigmas is None else max(len(sigmas) - 1, 1)
        scales = [scale_at(float(steps - step), steps) for step in range(steps)]
        return io.NodeOutput(guider, plot(scales, background_scale, f"{schedule}, {steps} steps"))


def plot(scales: list[float], background_scale: float, title: str) -> torch.Tensor:
    """The guidance in the mask by step, and around it, as a picture [1,384,768,3]."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (768, 384), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(28)
    left, top, right, bottom = 72, 108, 744, 300
    highest = max(*scales, background_scale, 1.0) * 1.05
    steps = len(scales)

    def x(step: float) -> float:
        return left + (right - left) * (step - 0.5) / steps

    def y(scale: float) -> float:
        return bottom - (bottom - top) * scale / highest

    for value in ticks(highest):
        draw.line([(left, y(value)), (right, y(value))], fill="#dddddd", width=2)
        draw.text((left - 10, y(value)), f"{value:g}", fill="black", font=font, anchor="rm")
    for value in {1, *(round(step) for step in ticks(steps) if step >= 1)}:
        draw.line([(x(value), bottom), (x(value), bottom + 6)], fill="black", width=2)
        draw.text((x(value), bottom + 10), f"{value}", fill="black", font=font, anchor="mt")
    draw.line([(left, top), (left, bottom), (right, bottom)], fill="black", width=2)
    draw.text((right, 380), "step", fill="black", font=font, anchor="rb")
    draw.text((left, 10), f"Guidance: {title}", fill="black", font=font)
    legend(draw, [("in the mask", "#c0392b"), ("around it", "#2471a3")], right, 56, font)
    # Each step holds one value: stairs, drawn from the left edge of the step to its right one.
    for color, values in (("#2471a3", [background_scale] * steps), ("#c0392b", scales)):
        stairs = [(x(i + 1 + edge), y(value)) for i, value in enumerate(values) for edge in (-0.5, 0.5)]
        draw.line(stairs, fill=color, width=5, joint="curve")
    return torch.from_numpy(numpy.array(picture))[None].float() / 255


def ticks(highest: float) -> list[float]:
    """Round numbers from 0 up to `highest`, three to six of them."""
    power = 10.0 ** numpy.floor(numpy.log10(highest / 5))
    width = next(power * factor for factor in (1, 2, 5, 10) if highest / (power * factor) <= 5)
    return [i * width for i in range(int(highest / width) + 1)]


def legend(draw: ImageDraw, entries: list[tuple[str, str]], right: float, top: float, font: Any) -> None:
    for text, color in reversed(entries):
        width = draw.textlength(text, font=font)
        draw.text((right - width, top), text, fill="black", font=font)
        draw.line([(right - width - 48, top + 16), (right - width - 10, top + 16)], fill=color, width=5)
        right -= width + 76


NODES = [MASGGuider]

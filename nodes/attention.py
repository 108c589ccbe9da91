"""Removal by self-attention: what fills the hole may look at the background only, not at the object."""

from __future__ import annotations

import functools

import torch
from comfy_api.latest import io

from ..kernels import attention
from . import host
from .schema import Schema, check_limits

EVERYWHERE = frozenset({"input", "middle", "output"})
LAYERS = {"decoder": frozenset({"output"}), "middle and decoder": frozenset({"middle", "output"}), "all": EVERYWHERE}
MODES = {
    "Eq. 10": attention.SRA,
    "strict": attention.SRA_STRICT,
    "from itself": attention.SRA,
    "from all": attention.SRA_STRICT,
}

MODEL_TOOLTIP = (
    "Any of SD 1.5 to SDXL, FLUX, Qwen-Image, Z-Image, SD 3.5 and the other picture models in the README's table, base, "
    "inpainting or edit."
)
MASK_TOOLTIP = "White (1.0) is removed. One for all pictures, or one for each. Best a little larger than the object."
SPAN = [
    io.Float.Input(
        "start_percent",
        display_name="start at",
        default=0.0,
        min=0.0,
        max=1.0,
        step=0.001,
        tooltip="Where in the noise schedule it starts: 0 is pure noise, 1 the finished picture.",
    ),
    io.Float.Input(
        "end_percent",
        display_name="end at",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.001,
        tooltip="Where in the noise schedule it ends.",
    ),
]


class AttentiveEraser(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterAttentiveEraser",
            display_name="Attentive Eraser (AAS + SARG)",
            category="Unclutter/attention",
            description=(
                "Removes objects without training: the self-attention no longer sees the object, and every step is "
                "pushed away from the picture that has it. Works with any sampler; best with an empty prompt and cfg 1."
            ),
            search_aliases=["object removal", "aas", "sarg", "attention redirection", "移除物体", "消除"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Model.Input("model", tooltip=MODEL_TOOLTIP),
                io.Mask.Input("mask", tooltip=MASK_TOOLTIP),
                io.Float.Input(
                    "removal_scale",
                    display_name="removal strength",
                    default=9.0,
                    min=1.0,
                    max=50.0,
                    step=0.1,
                    tooltip="How hard to push away from the picture with the object (SARG): one more pass of the model "
                    "each step, on top of cfg. 1 costs no extra pass and only hides the object (AAS). Typical: 5 to 9.",
                ),
                io.Float.Input(
                    "suppression",
                    display_name="look-alike attention",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="In the first steps what fills the hole looks around evenly instead of at what is most like "
                    "it, so that no look-alike is copied in. Lower is more even; 1 turns it off.",
                ),
                io.Float.Input(
                    "suppression_steps",
                    display_name="for share of steps",
                    default=0.2,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="For which share of the steps, from the first on, the suppression lasts.",
                ),
                io.Combo.Input(
                    "layers",
                    options=list(LAYERS),
                    default="decoder",
                    tooltip="Which self-attention layers no longer see the object. A transformer has no decoder: there "
                    "'decoder' is the last third of its blocks and 'middle and decoder' the last two thirds; where it has "
                    "double- and single-stream blocks (FLUX, HiDream), both are the single-stream ones.",
                ),
                *SPAN,
            ],
            outputs=[
                io.Model.Output("MODEL", display_name="model", tooltip="The model, which now removes the object.")
            ],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        mask: torch.Tensor,
        removal_scale: float,
        suppression: float,
        suppression_steps: float,
        layers: str,
        start_percent: float,
        end_percent: float,
    ) -> io.NodeOutput:
        check_limits(cls, removal_scale=removal_scale, suppression=suppression, suppression_steps=suppression_steps)
        mask = host.binary_mask(mask)
        host.warn_of_empty_masks(cls, mask)
        patch = host.RegionPatch(
            mask,
            LAYERS[layers],
            *host.sigma_range(model, start_percent, end_percent),
            settings_at=functools.partial(attention.aas_at, suppression=suppression, share=suppression_steps),
        )
        if removal_scale == 1:
            patched = host.with_region_attention(model, patch, "Attentive Eraser")
        else:
            patched = host.with_removal_guidance(model, patch, removal_scale, "Attentive Eraser")
        host.warn_where_all_is_redrawn(patched, cls, "Attentive Eraser")
        return io.NodeOutput(patched)


class SelfRectifyingAttention(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterSelfRectifyingAttention",
            display_name="Self-Rectifying Attention (SRA)",
            category="Unclutter/attention",
            description=(
                "EraDiff's attention, without training: the object no longer sees itself, so that the hole is filled "
                "from the background. Costs no extra pass."
            ),
            search_aliases=["object removal", "sra", "eradiff"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Model.Input("model", tooltip=MODEL_TOOLTIP),
                io.Mask.Input("mask", tooltip=MASK_TOOLTIP),
                io.Combo.Input(
                    "mode",
                    display_name="hide the object",
                    options=list(MODES),
                    default="from itself",
                    tooltip="from itself: what fills the hole looks at the background only, which still sees the hole "
                    "(Eq. 10 of the paper). from all: the background does not see it either (the paper's text). Eq. 10 and "
                    "strict are the same two under the names of older graphs.",
                ),
                *SPAN,
            ],
            outputs=[
                io.Model.Output("MODEL", display_name="model", tooltip="The model, which now removes the object.")
            ],
        )

    @classmethod
    def execute(
        cls, model: io.Model.Type, mask: torch.Tensor, mode: str, start_percent: float, end_percent: float
    ) -> io.NodeOutput:
        mask = host.binary_mask(mask)
        host.warn_of_empty_masks(cls, mask)
        patch = host.RegionPatch(
            mask,
            EVERYWHERE,
            *host.sigma_range(model, start_percent, end_percent),
            settings_at=lambda step, steps: MODES[mode],
        )
        patched = host.with_region_attention(model, patch, "Self-Rectifying Attention")
        host.warn_where_all_is_redrawn(patched, cls, "Self-Rectifying Attention")
        return io.NodeOutput(patched)


NODES = [AttentiveEraser, SelfRectifyingAttention]

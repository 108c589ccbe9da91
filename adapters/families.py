"""Facts of the model families, one record each; neither host is known here, and nothing needs PyTorch.

A host has one file a family that calls its network (`training/base_models/unet.py` and `flux.py` in diffusers). Everything
else asks these records, and never compares a family's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FamilyName = Literal["unet", "flux"]
"""As a one-step eraser's file calls them."""


@dataclass(frozen=True)
class Family:
    """Facts about the networks of a family.

    Attributes:
        name: in the header of an eraser's file.
        title: for people, its inpainting version.
        option: in `unclutter train osor --backbone`.
        prediction: the noise (epsilon) or the velocity (flow).
        distilled: its guidance is a part of its weights, so that a second, unguided pass means nothing to it.
        guidance: what its guidance embedding is given; None where it has none.
        cell: side in pixels of a latent cell.
        patch: side in latent cells of what the network takes for one token of the picture.
        shows_mask_pixels: it is shown every pixel of the mask, a channel for each of a cell's, and not one value a cell.
        overflows_in_fp16: it has to compute in bf16 or fp32.
        last_layer: the last layer by diffusers' name, which a one-step eraser replaces.
        last_layer_dimensions: of that layer's weight: 4 of a convolution, 2 of a linear layer.
        latent_rows: rows of the last layer that make the latent, in OSOR's release.
        alpha_rows: rows after them that make the alpha's logits.
        release_prefix: what the keys of OSOR's release begin with.
        lora_targets: ends of the paths of the modules that OSOR's LoRA sits on.
        takes_layers: a layered eraser (MILD) can be put on it.
        takes_corrections: an eraser may predict the clean latent as a correction to the shown one.
        eraser_side: side in pixels of the pictures that OSOR's own erasers know.
        eraser_side_is_long: whether that is the longer side, with the other rounded down, or the shorter, rounded up.
        prompt_length: tokens that the prompt is padded to in training, where the network sees the padding.
    """

    name: FamilyName
    title: str
    option: str
    prediction: Literal["epsilon", "flow"]
    distilled: bool
    guidance: float | None
    cell: int
    patch: int
    shows_mask_pixels: bool
    overflows_in_fp16: bool
    last_layer: str
    last_layer_dimensions: int
    latent_rows: int
    alpha_rows: int
    release_prefix: str
    lora_targets: tuple[str, ...]
    takes_layers: bool
    takes_corrections: bool
    eraser_side: int
    eraser_side_is_long: bool
    prompt_length: int | None = None

    def inpainting_channels(self, latent: int) -> int:
        """The channels that the inpainting version takes: the noisy latent, the shown picture's, and the mask."""
        return self.patch**2 * (2 * latent + (self.cell**2 if self.shows_mask_pixels else 1))


UNET = Family(
    name="unet",
    title="SDXL inpainting",
    option="sdxl",
    prediction="epsilon",
    distilled=False,
    guidance=None,
    cell=8,
    patch=1,
    shows_mask_pixels=False,
    overflows_in_fp16=False,
    last_layer="conv_out",
    last_layer_dimensions=4,
    latent_rows=4,
    alpha_rows=1,
    release_prefix="unet.",
    lora_targets=(
        *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
        *("conv1", "conv2", "conv_shortcut", "conv"),
    ),
    takes_layers=True,
    takes_corrections=True,
    eraser_side=512,
    eraser_side_is_long=False,
)
"""The networks of SD 1.5, SD 2, SDXL and the mini model. OSOR's LoRA sits on 771 modules of SDXL."""
FLUX = Family(
    name="flux",
    title="FLUX.1 Fill",
    option="flux",
    prediction="flow",
    distilled=True,
    guidance=30.0,
    cell=8,
    patch=2,
    shows_mask_pixels=True,
    overflows_in_fp16=True,
    last_layer="proj_out",
    last_layer_dimensions=2,
    latent_rows=64,
    alpha_rows=4,
    release_prefix="transformer.base_model.model.",
    lora_targets=("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "ff.net.0.proj", "ff.net.2", "proj_mlp"),
    takes_layers=False,
    takes_corrections=False,
    eraser_side=1024,
    eraser_side_is_long=True,
    prompt_length=512,
)
"""FLUX.1. OSOR's LoRA sits on 266 modules: of the picture's stream, and without the single blocks' `proj_out`."""
FAMILIES: dict[FamilyName, Family] = {family.name: family for family in (UNET, FLUX)}

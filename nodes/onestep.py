"""One-step erasing (OSOR): object, shadow and reflection in one call of the network, where the mask may be careless."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from comfy_api.latest import io

from ..adapters import methods, one_step
from ..adapters.families import Family
from ..adapters.header import Header
from ..kernels import finite, regions
from . import host, masks
from .conditioning import with_draft
from .schema import Schema, check_limits, seed_widget

MULTIPLE = 16

TIMESTEP = io.Int.Input(
    "timestep",
    display_name="noise (of 1000)",
    default=400,
    min=0,
    max=999,
    step=1,
    tooltip="How much noise the picture gets before the one step, of 1000. 400 as OSOR is trained; its phase-1 file for "
    "SDXL names 600 in its settings. 0: what the file says it was trained with, and 400 where it says nothing.",
)
ALPHA_STRENGTH = io.Float.Input(
    "alpha_strength",
    display_name="strength",
    default=1.0,
    min=0.0,
    max=10.0,
    step=0.05,
    tooltip="Multiplies the predicted alpha, up to 1. Above 1 takes all of what it takes by half (soft shadows, edges); "
    "below 1 leaves some of everything. A file of phase 1 predicts none and goes by the mask.",
)


class LoadOneStep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterLoadOneStep",
            display_name="Load One-Step Eraser (OSOR)",
            category="Unclutter/loaders",
            description=(
                "Loads a one-step eraser onto an inpainting model: OSOR's released files as they are, or your own from "
                "`unclutter train osor`. Backbone and phase are read from the file."
            ),
            search_aliases=["osor", "one step object removal", "lora loader"],
            inputs=[
                io.Model.Input("model", tooltip="SDXL Inpainting 0.1 or FLUX.1 Fill, whichever the file is for."),
                io.Combo.Input(
                    "file",
                    options=host.one_step_files(),
                    tooltip="A file in models/loras: OSOR's .pth, or a .safetensors of ours.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The model's text encoders, for the one prompt that the file was trained with. Not needed "
                    "where the file brings it encoded, or where One-Step Erase gets a conditioning.",
                ),
            ],
            outputs=[io.Model.Output("MODEL", display_name="model", tooltip="For One-Step Erase or One-Step Sampler.")],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: Any) -> int:
        """A file that a new training wrote over is read again."""
        return host.file_path("loras", file).stat().st_mtime_ns

    @classmethod
    def execute(cls, model: io.Model.Type, file: str, clip: io.Clip.Type = None) -> io.NodeOutput:
        return io.NodeOutput(host.with_one_step(model, one_step.load(host.file_path("loras", file)), clip, file))


class OneStepErase(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterOneStepErase",
            display_name="One-Step Erase (OSOR)",
            category="Unclutter",
            description=(
                "Removes what the mask marks, with its shadow and reflection, in one call of the network. The alpha shows "
                "what it took; it forgives masks that are too small, too large or have holes."
            ),
            hidden=[io.Hidden.unique_id],
            search_aliases=["remove object", "object removal", "osor", "erase shadow", "inpaint", "移除物体", "消除"],
            inputs=[
                io.Model.Input("model", tooltip="From Load One-Step Eraser."),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="Only to use a prompt other than the eraser's own, or where it has none: "
                    f"'{methods.ONE_STEP_PROMPT}', by CLIP Text Encode.",
                ),
                io.Vae.Input("vae", tooltip="The VAE of the model."),
                io.Image.Input("image", tooltip="The picture, of any size."),
                io.Mask.Input("mask", tooltip="White (1.0) is removed. One for all pictures, or one for each."),
                seed_widget("Of the noise. Another seed gives a slightly other background."),
                TIMESTEP,
                ALPHA_STRENGTH,
                io.Int.Input(
                    "resolution",
                    display_name="work at (0: trained)",
                    default=0,
                    min=0,
                    max=8192,
                    step=16,
                    tooltip="A larger picture is scaled down to this, worked on and scaled back: SDXL's shorter side, "
                    "FLUX's longer one. 0: as trained, 512 and 1024.",
                ),
                io.Boolean.Input(
                    "paste_back",
                    display_name="keep untouched pixels",
                    default=False,
                    tooltip="On: outside of the alpha every pixel is the original one. Off: the whole picture has been "
                    "through the VAE. On can bring back what is left of a shadow where the alpha is faint.",
                ),
                io.Image.Input(
                    "draft",
                    optional=True,
                    tooltip="The picture without the object, from Draft Fill or any other node: a second call of the model, "
                    "from this draft, fills the mask; shadow and reflection go by the first one. As large as the picture.",
                ),
            ],
            outputs=[
                io.Image.Output("IMAGE", display_name="image", tooltip="The picture without the object."),
                io.Mask.Output(
                    "ALPHA",
                    display_name="alpha",
                    tooltip="How far each pixel was replaced, 0 to 1; for a file of phase 1 the cells of the mask.",
                ),
                io.Latent.Output("LATENT", display_name="latent", tooltip="The result at the size it was worked at."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        vae: io.Vae.Type,
        image: torch.Tensor,
        mask: torch.Tensor,
        seed: int,
        timestep: int,
        alpha_strength: float,
        resolution: int,
        paste_back: bool,
        conditioning: list | None = None,
        draft: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        check_limits(cls, timestep=timestep, alpha_strength=alpha_strength, resolution=resolution)
        eraser = host.eraser_of(model)
        conditioning = check_conditioning(conditioning or eraser.conditioning, eraser.context)
        masks.check_picture(image)
        pictures, height, width = image.shape[:3]
        host.warn_of_photograph(cls, model, height, width)
        mask = regions.normalize_mask(mask.to(image.device), pictures, height, width, skip_empty=True)
        image = image.expand(len(mask), -1, -1, -1)
        drafted = None if draft is None else with_draft(image, mask, draft)
        size = working_size(height, width, eraser.family, resolution or trained_resolution(eraser.metadata))
        progress = host.Progress((3 if drafted is None else 5) * len(image))

        # One picture at a time, so that memory does not grow with the batch; each network is loaded once.
        def encode(pictures: torch.Tensor) -> torch.Tensor:
            latents = []
            for picture in pictures.split(1):
                latents.append(vae.encode(resize(picture, size)))
                progress.advance()
            return torch.cat(latents)

        latent = encode(image)
        check_latent(latent, model.model.latent_format.latent_channels)
        pixels = regions.resize_mask(mask, *size).to(latent.device)
        cells = regions.latent_mask(pixels, *latent.shape[-2:], pooling=trained_pooling(eraser.metadata))
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed)).to(latent)
        sigmas = eraser.sigmas(timestep)

        def erase(latent: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            erased, alphas = [], []
            for row in zip(latent.split(1), pixels.split(1), cells.split(1), noise.split(1), strict=True):
                clean, alpha = host.erase_latent(model, conditioning, *row, sigmas, alpha_strength)
                erased.append(clean)
                alphas.append(alpha)
                progress.advance()
            return erased, alphas

        erased, alphas = erase(latent)
        if drafted is not None:
            hole = regions.latent_mask(pixels, *latent.shape[-2:], pooling="max") > 0
            again, _ = erase(torch.where(hole, encode(drafted), latent))
            erased = torch.where(hole, torch.cat(again), torch.cat(erased)).split(1)
        alpha = F.interpolate(torch.cat(alphas).float(), size, mode="bilinear")
        alpha = F.interpolate(alpha, (height, width), mode="bilinear")[:, 0]
        results = []
        for clean, picture, weight, marked in zip(erased, image, alpha, mask.flatten(1).any(dim=1), strict=True):
            if not marked:
                weight.zero_()
                results.append(picture[None])
                progress.advance()
                continue
            result = resize(vae.decode(clean), (height, width))
            finite.check_finite(result, "The decoded picture", finite.PICTURE)
            if paste_back:
                result = torch.lerp(picture[None].to(result), result, weight[None, ..., None].to(result))
            results.append(result)
            progress.advance()
        return io.NodeOutput(torch.cat(results), alpha, {"samples": torch.cat(erased)})


class OneStepSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterOneStepSampler",
            display_name="One-Step Sampler (OSOR)",
            category="Unclutter/sampling",
            description=(
                "One-Step Erase as a sampler for your own graph: Removal Conditioning (full; max for SDXL, none for FLUX), "
                "Basic Guider and SamplerCustomAdvanced. The alpha blends the latent and cannot be taken out here."
            ),
            search_aliases=["osor sampler"],
            inputs=[
                io.Model.Input("model", tooltip="From Load One-Step Eraser: which noise its backbone takes."),
                TIMESTEP,
                ALPHA_STRENGTH,
            ],
            outputs=[
                io.Sampler.Output("SAMPLER", display_name="sampler", tooltip="For SamplerCustomAdvanced."),
                io.Sigmas.Output(
                    "SIGMAS",
                    display_name="sigmas",
                    tooltip="The noise of the timestep, then none. With them the euler sampler does the same for a file of "
                    "phase 1.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model: io.Model.Type, timestep: int, alpha_strength: float) -> io.NodeOutput:
        check_limits(cls, timestep=timestep, alpha_strength=alpha_strength)
        return io.NodeOutput(host.OneStepSampler(alpha_strength), host.eraser_of(model).sigmas(timestep))


def working_size(height: int, width: int, family: Family, resolution: int) -> tuple[int, int]:
    """(height, width) at which OSOR's scripts work: scaled down to the resolution and never up, but for the multiple of
    16, which FLUX rounds down to and SDXL up; 0 for the resolution that they have."""
    side = resolution or family.eraser_side
    if family.eraser_side_is_long:
        longer = max(height, width)
        limit = min(longer, side)
        height, width = (max(side * limit // longer // MULTIPLE, 1) * MULTIPLE for side in (height, width))
    else:
        shorter = min(height, width)
        limit = min(shorter, side)
        height, width = (math.ceil(side * limit // shorter / MULTIPLE) * MULTIPLE for side in (height, width))
    return height, width


def trained_resolution(metadata: dict[str, str]) -> int:
    """The resolution that the file was trained at; 0 where it says nothing."""
    return Header(metadata).resolution or 0


def working_side(eraser: host.Eraser) -> int:
    """The side of the pictures that the eraser is trained on, in pixels."""
    return trained_resolution(eraser.metadata) or eraser.family.eraser_side


def trained_pooling(metadata: dict[str, str]) -> str:
    """How the file was trained to take the mask: OSOR's way, by max, where it says nothing; FLUX takes pixels."""
    return Header(metadata).pooling


def resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """[B,H,W,3] in 0..1 at another size, by Pillow's bicubic filter, as OSOR's scripts scale."""
    if tuple(image.shape[1:3]) == size:
        return image
    scaled = F.interpolate(image.float().movedim(-1, 1), size, mode="bicubic", antialias=True)
    return scaled.clamp(0, 1).movedim(1, -1).to(image.dtype)


def check_conditioning(conditioning: list | None, width: int) -> list:
    if conditioning is None:
        raise ValueError(
            "The eraser has no prompt: connect the model's CLIP to Load One-Step Eraser, or the conditioning of "
            f"'{methods.ONE_STEP_PROMPT}' to this node."
        )
    for features, values in conditioning:
        if features.shape[-1] != width:
            raise ValueError(
                f"The conditioning is {features.shape[-1]} wide and the model takes {width}: encode the prompt with the "
                "CLIP of this model."
            )
        parts = [f"{article} {part}" for article, part in (("an", "area"), ("a", "mask")) if part in values]
        if values.get("start_percent", 0) > 0 or values.get("end_percent", 1) < 1:
            parts.append("a timestep range")
        if parts:
            raise ValueError(
                f"The conditioning has {' and '.join(parts)}, and one call takes the whole picture: connect a plain "
                "prompt."
            )
    return conditioning


def check_latent(latent: torch.Tensor, channels: int) -> None:
    if latent.shape[1] != channels:
        raise ValueError(
            f"The VAE's latents have {latent.shape[1]} channels and the model's {channels}: connect the VAE of this model."
        )


NODES = [LoadOneStep, OneStepErase, OneStepSampler]

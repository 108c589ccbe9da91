"""What an inpainting network is shown of the picture, and which part of the latent it may change."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..kernels import regions
from . import host
from .schema import Schema

# How bright the hole is in the condition image; None: the picture stays whole.
CONDITION_IMAGES = {"full": None, "masked grey": 0.5, "masked black": 0.0}


class RemovalConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterRemovalConditioning",
            display_name="Removal Conditioning",
            category="Unclutter/conditioning",
            description=(
                "Encodes the picture for a removal and tells an inpainting model what it sees: the whole picture, as "
                "LRNR and OSOR learned it, or the picture with a hole. For a model without inpainting channels it only "
                "sets the latent and its mask."
            ),
            search_aliases=["inpaint conditioning", "inpaint model conditioning", "vae encode inpaint"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="The prompt: the word background, or a removal prompt."),
                io.Conditioning.Input("negative", tooltip="The negative prompt: empty, or the object in words."),
                io.Vae.Input("vae", tooltip="The VAE of the model."),
                io.Image.Input(
                    "image", tooltip="The picture. Its sides must be multiples of 8: Crop To Mask sees to it."
                ),
                io.Mask.Input("mask", tooltip="White (1.0) is removed. One for all pictures, or one for each."),
                io.Combo.Input(
                    "condition_image",
                    options=list(CONDITION_IMAGES),
                    default="masked grey",
                    tooltip="What an inpainting model sees. full: the whole picture (LRNR, OSOR). masked grey: a grey "
                    "hole (SDXL and SD inpainting, FLUX Fill, RORem, PowerPaint). masked black: a black hole (as "
                    "PowerPaint was trained).",
                ),
                io.Combo.Input(
                    "mask_pooling",
                    options=["max", "nearest", "none"],
                    default="max",
                    tooltip="The mask that an inpainting model is shown: a latent pixel belongs to it if any of its pixels "
                    "does (max), or if its first one does (nearest: as most inpainting models were trained). none: every "
                    "pixel as it is, which only FLUX Fill takes (OSOR). Free to change is always what max marks, so that "
                    "nothing of the object is left over.",
                ),
                io.Boolean.Input(
                    "keep_background",
                    default=True,
                    tooltip="On: the latent outside of the mask is held. Off: the model may change the whole picture, "
                    "for shadows and reflections of the object.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "POSITIVE", display_name="positive", tooltip="positive with the condition image."
                ),
                io.Conditioning.Output(
                    "NEGATIVE", display_name="negative", tooltip="negative with the condition image."
                ),
                io.Latent.Output(
                    "LATENT", display_name="latent", tooltip="The whole picture, with the mask of the noise."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        positive: list,
        negative: list,
        vae: Any,
        image: torch.Tensor,
        mask: torch.Tensor,
        condition_image: str,
        mask_pooling: str,
        keep_background: bool,
    ) -> io.NodeOutput:
        cell = vae.spacial_compression_encode()
        pictures, height, width, _ = image.shape
        if height % cell or width % cell:
            raise ValueError(
                f"The picture is {width}x{height} and this VAE takes sides that are multiples of {cell}: put Crop To "
                "Mask before this node and Paste Back at the end, so that no pixel is lost."
            )
        # The extremes carry NaN along, and need no copy of a large picture.
        if not torch.stack(torch.aminmax(image)).isfinite().all():
            raise ValueError(
                "The picture has NaN or infinite pixels: a VAE in fp16 makes them, run it with --fp32-vae."
            )
        mask = regions.normalize_mask(mask.to(image.device), pictures, height, width)
        latent = vae.encode(image)
        latent = latent.repeat(len(mask) // pictures, 1, 1, 1)
        hole = CONDITION_IMAGES[condition_image]
        shown = latent if hole is None else vae.encode(torch.where(mask[..., None] > 0, hole, image))

        def in_cells(pooling: str) -> torch.Tensor:
            # At the size of the picture, one value a cell: models, samplers and other nodes all scale masks themselves,
            # and each of their ways takes these back to the very same cells.
            cells = regions.latent_mask(mask, height // cell, width // cell, pooling).to(latent)
            return cells.repeat_interleave(cell, dim=2).repeat_interleave(cell, dim=3)

        seen = mask[:, None].to(latent) if mask_pooling == "none" else in_cells(mask_pooling)
        samples = {"samples": latent, "noise_mask": in_cells("max")} if keep_background else {"samples": latent}
        return io.NodeOutput(
            host.set_condition_image(positive, shown, seen),
            host.set_condition_image(negative, shown, seen),
            samples,
        )


NODES = [RemovalConditioning]

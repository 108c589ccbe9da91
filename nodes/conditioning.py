"""The picture that an inpainting network is shown, and the part of the latent it may change."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..kernels import regions
from . import host, masks
from .schema import Schema

# How bright the hole is in the condition image; "full" leaves the picture whole and "draft" fills it from the draft.
HOLES = {"masked grey": 0.5, "masked black": 0.0}
CONDITION_IMAGES = ["full", *HOLES, "draft"]
REFERENCES = ["none", "picture", "picture and marked picture"]
MARK = (1.0, 0.0, 0.0)
"""The colour of the mask in the marked picture: instructions to edit models speak of what is marked in red."""


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
            hidden=[io.Hidden.unique_id],
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
                    display_name="the model sees",
                    options=CONDITION_IMAGES,
                    default="masked grey",
                    tooltip="What an inpainting model sees. full: the whole picture (LRNR, OSOR). masked grey: a grey "
                    "hole (SDXL and SD inpainting, FLUX Fill, RORem, PowerPaint). masked black: a black hole (as "
                    "PowerPaint was trained). draft: the picture with the draft in the hole.",
                ),
                io.Combo.Input(
                    "mask_pooling",
                    display_name="mask rounding",
                    options=["max", "nearest", "none"],
                    default="max",
                    tooltip="The mask that an inpainting model is shown: a latent pixel belongs to it if any of its pixels "
                    "does (max), or if its first one does (nearest: as most inpainting models were trained). none: every "
                    "pixel as it is, which only FLUX Fill takes (OSOR). Free to change is always what max marks, so that "
                    "nothing of the object is left over.",
                ),
                io.Boolean.Input(
                    "keep_background",
                    display_name="keep the background",
                    default=True,
                    tooltip="On: the latent outside of the mask is held. Off: the model may change the whole picture, "
                    "for shadows and reflections of the object.",
                ),
                io.Image.Input(
                    "draft",
                    optional=True,
                    tooltip="The picture without the object, from Draft Fill or any other node: sampling below a denoise of "
                    "1 then begins from it, where it would begin from the object. As large as the picture.",
                ),
                references_input(
                    "the instruction in positive. picture: the picture itself. picture and marked picture: a second one "
                    "after it, with the mask painted red, for an instruction such as: remove what is marked in red."
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
                    "LATENT",
                    display_name="latent",
                    tooltip="The whole picture, with the draft in the mask if there is one, and the mask of the noise.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        positive: io.Conditioning.Type,
        negative: io.Conditioning.Type,
        vae: io.Vae.Type,
        image: torch.Tensor,
        mask: torch.Tensor,
        condition_image: str,
        mask_pooling: str,
        keep_background: bool,
        draft: torch.Tensor | None = None,
        references: str = "none",
    ) -> io.NodeOutput:
        if condition_image == "draft" and draft is None:
            raise ValueError(
                "The model is to see the draft (condition_image) and no draft is connected: connect Draft Fill, or choose masked grey."
            )
        cell = vae.spacial_compression_encode()
        pictures, height, width, _ = image.shape
        if height % cell or width % cell:
            raise ValueError(
                f"The picture is {width}x{height} and this VAE takes sides that are multiples of {cell}: put Crop To "
                "Mask before this node and Paste Back at the end, so that no pixel is lost."
            )
        masks.check_picture(image)
        mask = regions.normalize_mask(mask.to(image.device), pictures, height, width, skip_empty=True)
        host.warn_of_empty_masks(cls, mask)
        host.warn_of_photograph(cls, vae, height, width)

        def in_cells(pooling: str) -> torch.Tensor:
            # At the size of the picture, one value a cell: models, samplers and other nodes all scale masks themselves,
            # and each of their ways takes these back to the very same cells.
            cells = regions.latent_mask(mask, height // cell, width // cell, pooling).to(latent)
            return cells.repeat_interleave(cell, dim=2).repeat_interleave(cell, dim=3)

        latent = host.encode(vae, image)
        latent = shown = picture = latent.repeat(len(mask) // pictures, *[1] * (latent.ndim - 1))
        if draft is not None:
            filled = host.encode(vae, with_draft(image, mask, draft))
            free = regions.latent_mask(mask, height // cell, width // cell, "max").to(latent)
            free = host.with_frame(free, latent.ndim)
            latent = torch.where(free > 0, filled, latent)
            shown = filled if condition_image == "draft" else shown
        if condition_image in HOLES:
            shown = host.encode(vae, torch.where(mask[..., None] > 0, HOLES[condition_image], image))
        seen = mask[:, None].to(latent) if mask_pooling == "none" else in_cells(mask_pooling)
        samples = {"samples": latent, "noise_mask": in_cells("max")} if keep_background else {"samples": latent}
        prompts = [host.set_condition_image(prompt, shown, seen) for prompt in (positive, negative)]
        if references != "none":
            beside = [picture]
            if references == "picture and marked picture":
                beside.append(host.encode(vae, marked(image, mask)))
            prompts = [host.add_references(prompt, beside) for prompt in prompts]
        return io.NodeOutput(*prompts, samples)


def references_input(tooltip: str) -> io.Combo.Input:
    """The choice of the reference pictures. Its tooltip goes on from "shown beside"."""
    return io.Combo.Input(
        "references",
        options=REFERENCES,
        default="none",
        optional=True,
        tooltip="For edit models (FLUX Kontext, FLUX.2, Qwen-Image-Edit, OmniGen2): what they are shown beside "
        + tooltip,
    )


def marked(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The pictures [B or 1,H,W,3] with the masks [B,H,W] painted over."""
    return torch.where(mask[..., None] > 0, image.new_tensor(MARK), image)


def with_draft(image: torch.Tensor, mask: torch.Tensor, draft: torch.Tensor) -> torch.Tensor:
    """The pictures [B,H,W,3] with the draft [1 or masks,H,W,3] in the masks [masks,H,W].

    Raises:
        ValueError: the draft is of another size, not of three channels, or as many as fit no picture.
    """
    masks.check_picture(draft, "The draft")
    if draft.shape[1:3] != image.shape[1:3]:
        raise ValueError(
            f"The draft is {draft.shape[2]}x{draft.shape[1]} and the picture {image.shape[2]}x{image.shape[1]}: make the "
            "draft of the same picture (with Crop To Mask, put Draft Fill behind it)."
        )
    if len(draft) not in (1, len(mask)):
        raise ValueError(f"{len(draft)} drafts came for {len(mask)} pictures: give one draft for all, or one for each.")
    return torch.where(mask[..., None] > 0, draft.to(image), image)


NODES = [RemovalConditioning]

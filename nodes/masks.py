"""Masks and crops: what to remove, the part of the picture to work on, and the way back into the picture."""

from __future__ import annotations

import dataclasses

import torch
from comfy_api.latest import io

from ..adapters import mini
from ..kernels import finite, regions, seams
from . import host
from .overlay import numbered
from .schema import Schema, advanced, check_limits

CROP = io.Custom("UNCLUTTER_CROP")


@dataclasses.dataclass(frozen=True)
class CroppedPicture:
    """For Paste Back: `image` [B,H,W,3] before it was cropped, its `mask` [B,H,W] of 0 and 1, and where it was cut."""

    image: torch.Tensor
    mask: torch.Tensor
    crop: seams.Crop


class PrepareMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterPrepareMask",
            display_name="Prepare Removal Mask",
            category="Unclutter/mask",
            description=(
                "Makes a mask fit for removal: black and white, the size of the picture, without holes, "
                "and a little larger than the object. The preview shows where it cuts through something."
            ),
            search_aliases=["grow mask", "expand mask", "dilate mask", "fill mask holes"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Mask.Input(
                    "mask", tooltip="White (1.0) is removed. Any size; one for all pictures, or one for each."
                ),
                io.Image.Input("image", tooltip="The picture the mask belongs to."),
                io.Float.Input(
                    "grow_percent",
                    display_name="grow (% of its size)",
                    default=7.5,
                    min=-50.0,
                    max=100.0,
                    step=0.5,
                    tooltip="Grow each object by this share of its own size. A mask a little too small brings the "
                    "object back; 5 to 10 % too large costs nothing. Negative shrinks.",
                ),
                io.Int.Input(
                    "grow_pixels",
                    display_name="grow (pixels)",
                    default=0,
                    min=-512,
                    max=512,
                    step=1,
                    tooltip="Grow by this many pixels on top of the share of its size. Negative shrinks.",
                ),
                io.Boolean.Input(
                    "fill_holes",
                    display_name="fill holes",
                    default=True,
                    tooltip="Also remove what the mask encloses. Turn off to keep, say, the view through a ring.",
                ),
                io.Int.Input(
                    "min_area",
                    display_name="smallest part",
                    default=0,
                    min=0,
                    max=16777216,
                    step=1,
                    tooltip="Drop separate parts of the mask with fewer pixels than this: specks of a segmentation.",
                ),
                advanced(
                    io.Boolean.Input(
                        "skip_empty",
                        display_name="empty masks may pass",
                        default=False,
                        optional=True,
                        tooltip="On: an empty mask among others is left empty, and its picture comes out as it is: for frames "
                        "of a film in which the object is not to be seen. Off: it is an error.",
                    )
                ),
            ],
            outputs=[
                io.Mask.Output("MASK", display_name="mask", tooltip="What to remove: 0 or 1, the size of the picture."),
                io.Image.Output(
                    "PREVIEW",
                    display_name="preview",
                    tooltip="The picture, the final mask in red, and the outline of the mask that came in in yellow.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        mask: torch.Tensor,
        image: torch.Tensor,
        grow_percent: float,
        grow_pixels: int,
        fill_holes: bool,
        min_area: int,
        skip_empty: bool = False,
    ) -> io.NodeOutput:
        check_limits(cls, grow_percent=grow_percent, grow_pixels=grow_pixels, min_area=min_area)
        check_picture(image)
        count, height, width = image.shape[:3]
        drawn = regions.normalize_mask(mask.to(image.device), count, height, width, skip_empty=skip_empty)
        host.warn_of_empty_masks(cls, drawn)
        wanted = drawn.flatten(1).any(dim=1)
        prepared = regions.drop_small(drawn, min_area) if min_area else drawn
        left = prepared.flatten(1).any(dim=1)
        if not (left.any() if skip_empty else left.all()):
            raise ValueError(_nothing_that_large(min_area, drawn))
        wanted &= left
        if fill_holes:
            prepared = regions.fill_holes(prepared)
        prepared = regions.grow(prepared, pixels=grow_pixels, percent=grow_percent)
        covered = prepared.flatten(1)
        if not covered.any(dim=1)[wanted].all():
            raise ValueError(
                f"Shrunk by {grow_percent} % and {grow_pixels} pixels nothing is left of the mask: "
                "raise grow_percent or grow_pixels."
            )
        if covered.all(dim=1).any():
            raise ValueError(
                f"Grown by {grow_percent} % and {grow_pixels} pixels the mask covers the whole picture and leaves "
                "nothing to fill it from: lower grow_percent or grow_pixels, or paint a smaller mask."
            )
        return io.NodeOutput(prepared, preview_of(image, drawn, prepared))


class SplitInstances(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterSplitInstances",
            display_name="Split Mask Into Instances",
            category="Unclutter/mask",
            description="Splits a mask into its separate parts: a batch of masks, one per object, from left to right.",
            search_aliases=["connected components", "separate mask", "mask to instances"],
            inputs=[
                io.Mask.Input(
                    "mask",
                    tooltip="Several objects that do not touch. Each mask of a batch is split by itself, in turn.",
                ),
                io.Int.Input(
                    "min_area",
                    display_name="smallest part",
                    default=64,
                    min=0,
                    max=16777216,
                    step=1,
                    tooltip="Drop parts with fewer pixels than this. 64 pixels are one pixel of the latent picture: "
                    "less than that no model can see.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The picture, only for the preview. Without it the objects are shown on grey.",
                ),
            ],
            outputs=[
                io.Mask.Output("MASKS", display_name="masks", tooltip="One mask per object, from left to right."),
                io.Image.Output(
                    "PREVIEW",
                    display_name="preview",
                    tooltip="Each object with its number: its place in the batch, from 1, as Compose Layers counts.",
                ),
            ],
        )

    @classmethod
    def execute(cls, mask: torch.Tensor, min_area: int, image: torch.Tensor | None = None) -> io.NodeOutput:
        check_limits(cls, min_area=min_area)
        count = mask.shape[0] if mask.ndim > 2 else 1
        whole = regions.normalize_mask(mask, count, *mask.shape[-2:], allow_full=True)
        parts = torch.cat([regions.split_instances(one, min_area) for one in whole])
        if len(parts) == 0:
            raise ValueError(_nothing_that_large(min_area, whole))
        return io.NodeOutput(parts, numbered(parts, None if image is None else image[0, ..., :3]))


class CropToMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterCropToMask",
            display_name="Crop To Mask",
            category="Unclutter/mask",
            description=(
                "Cuts out the part of the picture around the mask, at its own scale where the picture allows it, in a "
                "size that a model takes. The cost of a removal then follows the mask and not the photo."
            ),
            search_aliases=["inpaint crop", "crop and stitch", "crop by mask"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Image.Input("image", tooltip="The whole picture."),
                io.Mask.Input("mask", tooltip="What to remove, best from Prepare Removal Mask."),
                io.Float.Input(
                    "context",
                    display_name="surroundings (× size)",
                    default=0.5,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How much of the surroundings the model sees: on each side this share of the object's size.",
                ),
                advanced(
                    io.Int.Input(
                        "multiple",
                        display_name="sides multiple of",
                        default=64,
                        min=8,
                        max=128,
                        step=8,
                        tooltip="The sides of the crop are multiples of this. 64 keeps every level of SD 1.5, SDXL and FLUX "
                        "at whole pixels; 8 is the least a VAE takes.",
                    ),
                ),
                io.Int.Input(
                    "minimum",
                    display_name="smallest side",
                    default=1024,
                    min=64,
                    max=8192,
                    step=8,
                    tooltip="No side of the crop is shorter. The size that the model was trained at: 1024 for SDXL and FLUX, "
                    "512 for SD 1.5, 64 for the mini model.",
                ),
                io.Int.Input(
                    "maximum",
                    display_name="largest side (0: any)",
                    default=0,
                    min=0,
                    max=16384,
                    step=8,
                    tooltip="A crop with a longer side is scaled down to this; 0: no limit. Time and memory grow "
                    "with the area of the crop, and attention with its square.",
                ),
            ],
            outputs=[
                io.Image.Output("IMAGE", display_name="image", tooltip="The part of the picture to work on."),
                io.Mask.Output("MASK", display_name="mask", tooltip="The same part of the mask."),
                CROP.Output("CROP", display_name="crop", tooltip="For Paste Back: the picture and where this was cut."),
            ],
        )

    @classmethod
    def execute(
        cls, image: torch.Tensor, mask: torch.Tensor, context: float, multiple: int, minimum: int, maximum: int
    ) -> io.NodeOutput:
        check_limits(cls, context=context, multiple=multiple, minimum=minimum, maximum=maximum)
        check_picture(image)
        count, height, width = image.shape[:3]
        mask = regions.normalize_mask(mask.to(image.device), count, height, width, skip_empty=True)
        host.warn_of_empty_masks(cls, mask)
        if 0 < maximum <= 2 * mini.SIZE and (spoiled := host.spoiled_photograph(mini.SIZE, height, width)):
            host.tell(
                cls, f"A largest side of {maximum} is for the mini model; for a checkpoint set it to 0. {spoiled}"
            )
        image = image.expand(len(mask), -1, -1, -1)
        crop = seams.plan_crop(mask, context=context, multiple=multiple, minimum=minimum, maximum=maximum or None)
        part = seams.extract(image.movedim(-1, 1), crop, "image").movedim(1, -1).contiguous()
        mask_part = seams.extract(mask[:, None], crop, "mask")[:, 0]
        return io.NodeOutput(part, mask_part, CroppedPicture(image, mask, crop))


class PasteBack(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterPasteBack",
            display_name="Paste Back",
            category="Unclutter/mask",
            description=(
                "Puts the result of a removal back into the picture, with its colours matched around the mask and a "
                "soft border. Every pixel outside the border stays exactly as it was."
            ),
            search_aliases=["inpaint stitch", "uncrop", "composite"],
            inputs=[
                io.Image.Input("image", tooltip="The result: the crop without the object, as the VAE decoded it."),
                CROP.Input("crop", tooltip="From Crop To Mask."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the result replaces the picture, as large as the picture or as the crop; by default "
                    "the mask given to Crop To Mask. Give a larger one where a shadow or a reflection went too.",
                ),
                io.Int.Input(
                    "feather",
                    display_name="soft border (pixels)",
                    default=8,
                    min=0,
                    max=512,
                    step=1,
                    tooltip="Width of the soft border around the mask, in pixels of the picture.",
                ),
                io.Boolean.Input(
                    "match_color",
                    display_name="match colours",
                    default=True,
                    tooltip="Take away the colour shift of the VAE and the model, measured on a ring around the mask.",
                ),
                advanced(
                    io.Int.Input(
                        "ring",
                        display_name="match within (pixels)",
                        default=32,
                        min=1,
                        max=512,
                        step=1,
                        tooltip="How far from the mask the colours are compared, in pixels of the picture. Narrower follows a shift that changes quickly, "
                        "wider is steadier on busy ground.",
                    ),
                ),
                advanced(
                    io.Combo.Input(
                        "registration",
                        display_name="align with the picture",
                        options=["auto", "off"],
                        default="auto",
                        optional=True,
                        tooltip="Edit models shift a picture by a few pixels and scale it a little. auto: the result is "
                        "measured against the picture around the mask and moved back, where that makes the two more alike; "
                        "else it stays exactly as it is.",
                    ),
                ),
            ],
            outputs=[io.Image.Output("IMAGE", display_name="image", tooltip="The whole picture without the object.")],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        crop: CroppedPicture,
        feather: int,
        match_color: bool,
        ring: int,
        mask: torch.Tensor | None = None,
        registration: str = "auto",
    ) -> io.NodeOutput:
        check_limits(cls, feather=feather, ring=ring)
        check_picture(image)
        original, boxes, size = crop.image, crop.crop.boxes, crop.crop.size
        _check_shape(image, size)
        height, width = original.shape[1:3]
        counts = {len(image), len(original)}
        count = max(counts)
        if counts - {1, count}:
            raise ValueError(
                f"{len(image)} results came for a crop of {len(original)} pictures: give one result for each picture, "
                "or one of either."
            )
        boxes = boxes if len(boxes) == count else boxes * count
        if mask is None:
            blend = crop.mask.expand(count, -1, -1)
        else:
            blend = into_picture(mask.to(original.device), boxes, size, height, width)
        pasted = seams.paste_back(
            original.expand(count, -1, -1, -1).movedim(-1, 1),
            image.to(original).expand(count, -1, -1, -1).movedim(-1, 1),
            seams.Crop(boxes, size),
            blend,
            feather_pixels=feather,
            match_colors=match_color,
            ring=ring,
            register=registration == "auto",
        )
        return io.NodeOutput(pasted.movedim(1, -1).contiguous())


def check_picture(image: torch.Tensor, name: str = "The picture") -> None:
    if image.shape[-1] != 3:
        raise ValueError(
            f"{name} has {image.shape[-1]} channels and 3 are expected (RGB): "
            "take an alpha channel away with Split Image with Alpha."
        )
    finite.check_finite(image, name, finite.PICTURE)


def _check_shape(result: torch.Tensor, size: tuple[int, int]) -> None:
    height, width = result.shape[1:3]
    # A VAE rounds either side to 8 pixels, so a result that was scaled up on the way is off by as much.
    if abs(width - height * size[1] / size[0]) > 8:
        raise ValueError(
            f"The result is {width}x{height} and the crop was {size[1]}x{size[0]}: "
            "give a result of the crop's size, or of its shape at another scale."
        )


def _nothing_that_large(min_area: int, mask: torch.Tensor) -> str:
    areas = ", ".join(str(int(area)) for area in mask.flatten(1).sum(dim=1))
    return (
        f"No part of the mask has {min_area} pixels, so nothing is left: lower min_area, the smallest part "
        f"that counts (the mask has {areas})."
    )


def into_picture(
    mask: torch.Tensor, boxes: tuple[seams.Box, ...], size: tuple[int, int], height: int, width: int
) -> torch.Tensor:
    """A blend mask [B,h,w] as large as the crop, `size`, or as the picture -> [len(boxes),height,width] of 0 and 1."""
    if tuple(mask.shape[-2:]) not in (tuple(size), (height, width)):
        raise ValueError(
            f"The blend mask is {mask.shape[-1]}x{mask.shape[-2]}: expected the size of the crop, {size[1]}x{size[0]}, "
            f"or of the picture, {width}x{height}."
        )
    blend = regions.normalize_mask(mask, len(boxes), *mask.shape[-2:], allow_full=True, allow_empty=True)
    if len(blend) != len(boxes):
        raise ValueError(f"{len(blend)} blend masks came for {len(boxes)} pictures: give one for all, or one for each.")
    if tuple(mask.shape[-2:]) != tuple(size):
        for row, box in zip(blend, boxes, strict=True):
            if row.sum() > row[box.top : box.top + box.height, box.left : box.left + box.width].sum():
                raise ValueError(
                    "The blend mask reaches beyond the crop, where there is no result to paste: "
                    "give a smaller mask, or raise context, the surroundings, in Crop To Mask."
                )
        return blend
    whole = blend.new_zeros(len(boxes), height, width)
    for row, part, box in zip(whole, blend, boxes, strict=True):
        scaled = torch.nn.functional.interpolate(part[None, None], (box.height, box.width), mode="nearest-exact")
        row[box.top : box.top + box.height, box.left : box.left + box.width] = scaled[0, 0]
    return whole


def preview_of(image: torch.Tensor, drawn: torch.Tensor, prepared: torch.Tensor) -> torch.Tensor:
    """`image` [B,H,W,3] with `prepared` [B,H,W] tinted red and a yellow line just outside of `drawn` [B,H,W]."""
    preview = image.expand(len(prepared), -1, -1, -1).clone()
    red, yellow = image.new_tensor([1.0, 0.0, 0.0]), image.new_tensor([1.0, 0.9, 0.0])
    radius = max(1, round(max(image.shape[1:3]) / 800))
    for picture, before, after in zip(preview, drawn.expand(len(prepared), -1, -1), prepared, strict=True):
        if not before.any():
            continue
        here = regions.around(after, 0)
        picture[here].lerp_(red, 0.5 * after[here][..., None].to(image))
        here = regions.around(before, radius)
        grown = before[here][None]
        for size in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
            grown = torch.nn.functional.max_pool2d(grown, size, stride=1, padding=(size[0] // 2, size[1] // 2))
        picture[here][grown[0] > before[here]] = yellow
    return preview


NODES = [PrepareMask, SplitInstances, CropToMask, PasteBack]

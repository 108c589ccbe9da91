"""Layers of people: which are removed, the picture without them, and a layered file."""

from __future__ import annotations

import dataclasses

import numpy
import torch
from comfy_api.latest import io, ui

from ..adapters.layered_files import merged, save_openraster, save_psd, sheets_of
from ..kernels import layers as kernel
from ..kernels import regions
from ..kernels.layers import Layers
from ..kernels.people import parse_order, parse_people
from . import host
from .morphology import check_proportions
from .schema import Schema, check_limits

LAYERS = io.Custom("UNCLUTTER_LAYERS")
FORMATS = {"ora": save_openraster, "psd": save_psd}


class ComposeLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterComposeLayers",
            display_name="Compose Layers",
            category="Unclutter/layers",
            description=(
                "Puts a picture together again without some of its people. Changing whom to remove costs no sampling."
            ),
            search_aliases=["mild", "remove person", "recompose", "flatten layers"],
            inputs=[
                LAYERS.Input("layers", tooltip="From Layered Sampler."),
                io.String.Input(
                    "remove",
                    default="all",
                    tooltip="Who goes, by the number of the mask from 1: 2, 3 or 1-3 or all or all but 1 or none.",
                ),
                io.String.Input(
                    "order",
                    display_name="back to front",
                    default="",
                    tooltip="All numbers from the one furthest back to the one in front, such as 3, 1, 2: it says who "
                    "hides whom where masks overlap. Empty: by the depth map, or as the masks came.",
                ),
                io.Int.Input(
                    "feather",
                    display_name="soft border (pixels)",
                    default=4,
                    min=0,
                    max=512,
                    step=1,
                    tooltip="Width of the soft border around what was removed, in pixels.",
                ),
                io.Mask.Input(
                    "pointer",
                    optional=True,
                    tooltip="Takes the place of remove: a mask that points at people. A stroke points at the one most of "
                    "it lies on, and at everyone it covers by half or more.",
                ),
                io.Image.Input(
                    "depth", optional=True, tooltip="A depth map of the picture, nearer is brighter: sets the order."
                ),
            ],
            outputs=[
                io.Image.Output("IMAGE", display_name="image", tooltip="The picture without those who were removed."),
                io.Mask.Output("MASK", display_name="mask", tooltip="The removed area: what took their place."),
                io.Image.Output(
                    "RGBA",
                    display_name="rgba",
                    tooltip="A batch with transparency: the background, then each person in the order of the masks.",
                ),
                LAYERS.Output(
                    "LAYERS", display_name="layers", tooltip="The same layers in this order, for Save Layers."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        layers: Layers,
        remove: str,
        order: str,
        feather: int,
        pointer: torch.Tensor | None = None,
        depth: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        check_limits(cls, feather=feather)
        count, size = len(layers.masks), layers.masks.shape[-2:]
        if order.strip():
            layers = dataclasses.replace(layers, order=parse_order(order, count))
        elif depth is not None:
            check_proportions("depth map", depth.shape[1:3], *size)
            nearness = torch.nn.functional.interpolate(depth[:1].mean(dim=-1)[None].to(layers.masks), size)[0, 0]
            layers = dataclasses.replace(layers, order=tuple(kernel.depth_order(layers.masks, nearness)))
        removed = parse_people(remove, count, "remove") if pointer is None else pointed_at(pointer, layers)
        layers = dataclasses.replace(layers, removed=frozenset(removed), feather=feather)
        image, area = layers.composed()
        image = image.movedim(0, -1)[None].contiguous()  # before the largest of them all is made
        return io.NodeOutput(image, area[None], layers.rgba(), layers)


class SaveLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterSaveLayers",
            display_name="Save Layers",
            category="Unclutter/layers",
            description=(
                "Writes a file with the background and one layer per person: OpenRaster (.ora) for GIMP, Krita and MyPaint, "
                "or a Photoshop file (.psd), which GIMP and Krita open too."
            ),
            search_aliases=["openraster", "ora", "photoshop", "psd", "gimp", "krita", "export layers"],
            inputs=[
                LAYERS.Input(
                    "layers",
                    tooltip="From Compose Layers, with its order and border; those it removed are there, but hidden. Or "
                    "from Layered Sampler, with everyone visible.",
                ),
                io.String.Input(
                    "filename_prefix",
                    display_name="file name",
                    default="layers",
                    tooltip="The name in ComfyUI's output folder, with core's tokens such as %year%. A number follows.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="ora",
                    optional=True,
                    tooltip="ora: OpenRaster, for GIMP, Krita and MyPaint. psd: for Photoshop, and what else reads its "
                    "files; at most 30,000 pixels a side and 2 GB.",
                ),
            ],
            outputs=[io.String.Output("FILE", display_name="file", tooltip="The path of the file.")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, layers: Layers, filename_prefix: str, format: str = "ora") -> io.NodeOutput:
        height, width = layers.image.shape[-2:]
        path, subfolder = host.next_output_file(filename_prefix, f".{format}", height, width)
        FORMATS[format](path, layers)
        saved = {"filename": path.name, "subfolder": subfolder, "type": "output"}
        host.tell(cls, f"Saved as output/{f'{subfolder}/' if subfolder else ''}{path.name}")
        shown = merged(sheets_of(layers)).convert("RGB")
        picture = torch.from_numpy(numpy.array(shown))[None].float() / 255
        return io.NodeOutput(str(path), ui={"files": [saved], **ui.PreviewImage(picture, cls=cls).as_dict()})


def pointed_at(pointer: torch.Tensor, layers: Layers) -> list[int]:
    """The people a mask points at, from 0."""
    pointer = regions.normalize_mask(
        pointer.to(layers.masks.device), 1, *layers.masks.shape[-2:], allow_full=True
    ).amax(dim=0)
    visible = kernel.visible_masks(layers.masks, layers.order)
    covered = (visible * pointer).flatten(1).sum(dim=1) / layers.masks.flatten(1).sum(dim=1)
    found = {k for k, share in enumerate(covered.tolist()) if share >= 0.5}
    for stroke in regions.split_instances(pointer):
        touched = (visible * stroke).flatten(1).sum(dim=1)
        if not touched.any():
            raise ValueError("A part of the pointer lies on nobody: paint on the people to remove.")
        found.add(int(touched.argmax()))
    return sorted(found)


NODES = [ComposeLayers, SaveLayers]

"""Layers of people: which are removed, the picture without them, and a layered file."""

from __future__ import annotations

import dataclasses
import re

import numpy
import torch
from comfy_api.latest import io, ui

from ..kernels import layers as kernel
from ..kernels import regions
from . import host
from ..adapters.layered_files import merged, save_openraster, save_psd, sheets_of
from .morphology import check_proportions, counted
from .schema import Schema

LAYERS = io.Custom("UNCLUTTER_LAYERS")
FORMATS = {"ora": save_openraster, "psd": save_psd}
WORDS = {"order": "", "remove": ", or all, all but 1, or none", "keep": ", or any, all, all but 1, or none"}
"""What an input takes beside numbers."""


@dataclasses.dataclass(frozen=True, eq=False)
class Layers:
    """A picture taken apart into people and the background behind all of them. Values in 0..1.

    Attributes:
        image: [3,H,W], the picture.
        background: [3,H,W], generated in every hole; elsewhere a VAE's idea of the picture.
        masks: [N,H,W] of 0 and 1, where each person is.
        holes: [N,H,W] of 0 and 1, what is filled when a person goes, but for where others are seen: the mask, grown.
        generated: [3,H,W] by person, without the others, for those whose layer was asked for.
        removed: people who are gone, from 0.
        order: people from back to front.
        feather: width of soft borders in pixels.
    """

    image: torch.Tensor
    background: torch.Tensor
    masks: torch.Tensor
    holes: torch.Tensor
    generated: dict[int, torch.Tensor]
    removed: frozenset[int] = frozenset()
    order: tuple[int, ...] | None = None
    feather: int = 4

    def composed(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The picture [3,H,W] without those who are removed, and the mask [H,W] of what took their place.

        A pixel further than `feather` from that mask is the picture's, bit for bit.

        Raises:
            ValueError: somebody is kept whom a removed person hides in part, and has no layer.
        """
        gone = sorted(self.removed)
        left = self.masks.clone()
        left[gone] = 0
        before, after = (kernel.visible_masks(masks, self.order) for masks in (self.masks, left))
        revealed = (after > before).flatten(1).any(dim=1)
        if lacking := [k for k in range(len(left)) if revealed[k] and k not in {*gone, *self.generated}]:
            raise ValueError(
                f"A removed person hides a part of person {lacking[0] + 1}, who has no layer: "
                "name whom you keep in keep (who may stay) of Layered Sampler, or write any there, or list that person last "
                "in order."
            )
        layers = [self.generated.get(k, self.image) for k in range(len(left))]
        return kernel.recompose(
            self.image, self.background, self.masks, self.holes, layers, gone, self.order, self.feather
        )

    def cut_out(self) -> torch.Tensor:
        """The background and then each person as RGBA, [N+1,4,H,W]; together they show the whole picture.

        The background is filled in every hole, so people bring along what the picture shows around them in theirs.
        """
        visible, covered = kernel.visible_masks(self.masks, self.order), self.holes.amax(dim=0)
        sheets = self.image.new_ones(len(self.masks) + 1, 4, *self.image.shape[1:])
        sheets[0, :3] = kernel.softly(self.image, self.background, covered, self.feather)
        around = covered * (1 - self.masks.amax(dim=0))
        # What lies around two of them goes with the one who is removed, or else with the one in front.
        for k in sorted(reversed(self.back_to_front()), key=lambda k: k not in self.removed):
            mask, sheet = self.masks[k], sheets[k + 1]
            own = torch.maximum(mask, self.holes[k] * around)
            around = around * (1 - own)
            # The soft border shows surroundings of the picture, and never another person.
            alpha = regions.feather(own[None], self.feather)[0] * (1 - covered * (1 - own))
            hidden = mask - visible[k]
            if k in self.generated:
                sheet[:3] = torch.where(hidden > 0, self.generated[k], self.image)
            else:
                sheet[:3] = self.image
                alpha *= 1 - hidden
            sheet[3] = alpha
        return sheets

    def back_to_front(self) -> list[int]:
        return kernel.back_to_front(self.order, len(self.masks))


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
        host.check_number("feather", feather, 0, 512)
        count, size = len(layers.masks), layers.masks.shape[-2:]
        if order.strip():
            sequence = [number - 1 for number in numbers(order, "order", order)]
            if sorted(sequence) != list(range(count)):
                wanted = f"give each of 1 to {count} once, back to front" if count > 1 else "leave it empty"
                raise ValueError(
                    f"order is {order!r} and the masks mark {counted(count, 'person', 'people')}: {wanted}."
                )
            layers = dataclasses.replace(layers, order=tuple(sequence))
        elif depth is not None:
            check_proportions("depth map", depth.shape[1:3], *size)
            nearness = torch.nn.functional.interpolate(depth[:1].mean(dim=-1)[None].to(layers.masks), size)[0, 0]
            layers = dataclasses.replace(layers, order=tuple(kernel.depth_order(layers.masks, nearness)))
        removed = parse_people(remove, count, "remove") if pointer is None else pointed_at(pointer, layers)
        layers = dataclasses.replace(layers, removed=frozenset(removed), feather=feather)
        image, area = layers.composed()
        rgba = layers.cut_out().movedim(1, -1)
        return io.NodeOutput(image.movedim(0, -1)[None].contiguous(), area[None], rgba.contiguous(), layers)


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


def parse_people(text: str, count: int, name: str) -> list[int]:
    """Indices from 0 of "2, 3", "1-3", "all", "all but 1" or "none", of `count` people."""
    words = text.strip().lower()
    if words in ("", "none"):
        return []
    if words == "all":
        return list(range(count))
    but = re.match(r"all\s+but\b", words)
    found = {number - 1 for number in numbers(words[but.end() :] if but else words, name, text)}
    if wrong := [index + 1 for index in sorted(found) if not 0 <= index < count]:
        wanted = f"numbers from 1 to {count}" if count > 1 else "1"
        raise ValueError(
            f"{name} names person {wrong[0]} and the masks mark {counted(count, 'person', 'people')}: give {wanted}."
        )
    return [index for index in range(count) if (index in found) != bool(but)]


def numbers(text: str, name: str, typed: str) -> list[int]:
    """The whole numbers of "2, 3", "1-3" or "3-1", in their order; `typed` is what it is a part of."""
    found: list[int] = []
    for word in re.split(r"[\s,;]+", re.sub(r"\s*-\s*", "-", text.strip(" ,;"))):
        if not (match := re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", word)):
            raise ValueError(f"{name} is {typed!r}: write numbers such as 2, 3 or 1-3{WORDS[name]}.")
        first, last = int(match[1]), int(match[2] or match[1])
        step = 1 if first <= last else -1
        found += range(first, last + step, step)
    return found


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

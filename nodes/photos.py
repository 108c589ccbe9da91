"""Example Photo: a photograph with a mask, so that a graph runs at the first click."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..adapters import photos
from .schema import Schema


class ExamplePhoto(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterExamplePhoto",
            display_name="Example Photo",
            category="Unclutter/loaders",
            description=(
                "A photograph that comes with the pack, with a mask of what to remove. For trying graphs: put Load Image "
                "in its place for a picture of your own."
            ),
            search_aliases=["sample image", "test image", "demo picture"],
            inputs=[
                io.Combo.Input(
                    "photo",
                    options=list(photos.NAMES),
                    default=photos.NAMES[0],
                    tooltip="rocket: a launch pad at dusk. coffee: a cup with a spoon. coins: one coin among look-alikes.",
                )
            ],
            outputs=[
                io.Image.Output("IMAGE", display_name="image", tooltip="The photograph."),
                io.Mask.Output("MASK", display_name="mask", tooltip="White is what to remove."),
                io.Mask.Output(
                    "OTHERS",
                    display_name="others",
                    tooltip="White is what looks like it and must not be copied in its place: for avoid of Draft Fill. "
                    "Empty where there is nothing of the kind.",
                ),
            ],
        )

    @classmethod
    def execute(cls, photo: str) -> io.NodeOutput:
        example = photos.load(photo)
        image = example.image.movedim(1, -1).contiguous()
        return io.NodeOutput(image, example.mask, example.others, ui=ui.PreviewImage(image, cls=cls))


NODES = [ExamplePhoto]

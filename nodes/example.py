"""Example scenes: a graph runs at the first click, and what it makes can be held against the truth."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..adapters import mini
from ..kernels.scenes import draw_scenes
from ..kernels.vocabulary import DIFFICULTIES, Difficulty
from .schema import Schema, seed_widget

CROWDS: dict[str, Difficulty] = {"crowd": "objects", "people": "texture"}
"""The choices with objects that stand before one another, and the difficulty of their background."""


class ExampleScene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterExampleScene",
            display_name="Example Scene",
            category="Unclutter/loaders",
            description=(
                "Draws a cluttered scene and marks one of its objects, so that a graph runs before a picture of yours is "
                "loaded. It also gives the same scene without that object: what a perfect removal would make."
            ),
            search_aliases=["example image", "test image", "sample picture", "drawn scene", "ground truth"],
            inputs=[
                seed_widget("Another seed draws another scene; the same seed draws the same one on every machine."),
                io.Combo.Input(
                    "difficulty",
                    options=[*DIFFICULTIES, *CROWDS],
                    default=mini.DIFFICULTY,
                    tooltip="objects: small objects on soft backgrounds. smooth: larger objects before a border, broad "
                    "bands and strong light. texture: before stripes, tiles, bricks or planks. clutter: many look-alikes "
                    "that touch, before both. crowd: three objects that overlap. people: three people who overlap, on "
                    "texture.",
                ),
                io.Int.Input(
                    "size",
                    default=mini.SIZE,
                    min=32,
                    max=2048,
                    step=8,
                    optional=True,
                    tooltip=f"Width and height in pixels. The mini model was trained on {mini.SIZE}; a larger model wants its "
                    "own size, such as 1024.",
                ),
            ],
            outputs=[
                io.Image.Output("IMAGE", display_name="image", tooltip="The scene."),
                io.Mask.Output(
                    "MASK",
                    display_name="mask",
                    tooltip="What is visible of one object, without its shadow. Prepare Removal Mask makes it a little larger.",
                ),
                io.Mask.Output(
                    "MASKS",
                    display_name="masks",
                    tooltip="What is visible of every object, one mask each, back to front.",
                ),
                io.Image.Output(
                    "TRUTH",
                    display_name="truth",
                    tooltip="The scene in which the marked object never was, nor its shadow or reflection.",
                ),
                io.Image.Output(
                    "POSE",
                    display_name="pose",
                    tooltip="The skeletons of all objects on black, hidden bones too, for Human Morphology Guidance.",
                ),
                io.Image.Output(
                    "PARSING",
                    display_name="parsing",
                    tooltip="The visible parts of all objects, the label's number as grey value, for Human Morphology Guidance.",
                ),
            ],
        )

    @classmethod
    def execute(cls, seed: int, difficulty: str, size: int = mini.SIZE) -> io.NodeOutput:
        # PyTorch takes seeds up to the largest signed number of 64 bits.
        generator = torch.Generator().manual_seed(seed % 2**63)
        kinds: dict[str, Difficulty] = {**{name: name for name in DIFFICULTIES}, **CROWDS}
        scene = draw_scenes(1, size, generator, difficulty in CROWDS, kinds[difficulty])
        index, seen = scene.pick_object(generator), scene.instance_masks()[0]
        return io.NodeOutput(
            scene.picture().movedim(1, -1),
            seen[index],
            seen[scene.present[0]],
            scene.without(index).movedim(1, -1),
            scene.pose().movedim(1, -1),
            (scene.parsing() / 255)[..., None].expand(-1, -1, -1, 3),
        )


NODES = [ExampleScene]

"""MILD: a picture of people taken apart, one layer for each of them and one for the background."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from comfy_api.latest import io

from ..adapters import layered
from ..kernels import crowd, lowrank, regions, seams
from ..kernels import guidance as guidance_kernel
from ..kernels import layers as kernel
from ..kernels.layers import Layers
from . import host
from .compose import LAYERS
from .masks import check_picture
from .morphology import MORPHOLOGY, Morphology, encode_morphology
from .overlay import numbered
from .schema import Schema, advanced, check_limits, seed_widget

LAYERED_MODEL = io.Custom("UNCLUTTER_LAYERED_MODEL")


class LoadLayered(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterLoadLayered",
            display_name="Load Layered Eraser (MILD)",
            category="Unclutter/loaders",
            description=(
                "Loads a layered eraser beside an inpainting model: two LoRAs, one for people and one for the background, "
                "with attention biases and body encoders. The model's own weights stay as they are."
            ),
            search_aliases=["mild", "layered lora", "multi instance"],
            inputs=[
                io.Model.Input("model", tooltip="The inpainting model that the eraser was trained on."),
                io.Combo.Input(
                    "file", options=host.layered_files(), tooltip="A file of `unclutter train mild` in models/loras."
                ),
            ],
            outputs=[
                LAYERED_MODEL.Output("LAYERED_MODEL", display_name="layered_model", tooltip="For Layered Sampler.")
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: Any) -> int:
        """A file that a new training wrote over is read again."""
        return host.file_path("loras", file).stat().st_mtime_ns

    @classmethod
    def execute(cls, model: io.Model.Type, file: str) -> io.NodeOutput:
        return io.NodeOutput(host.load_layered(model, layered.load(host.file_path("loras", file)), file))


class LayeredSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterLayeredSampler",
            display_name="Layered Sampler (MILD)",
            category="Unclutter/layers",
            description=(
                "Generates the background behind all people, and the hidden parts of those who stay, in one call of the "
                "network a step. Compose Layers then shows any subset of them without sampling again."
            ),
            hidden=[io.Hidden.unique_id],
            search_aliases=["mild", "remove people", "multi instance removal", "crowd"],
            inputs=[
                LAYERED_MODEL.Input("layered_model", tooltip="From Load Layered Eraser."),
                io.Image.Input("image", tooltip="One picture of any size. The part around the people is worked on."),
                io.Mask.Input(
                    "masks", tooltip="A batch, one mask per person: from SAM, a detector, or Split Mask Into Instances."
                ),
                io.Conditioning.Input("person", tooltip='What the layers of people show: "a person", as trained.'),
                io.Conditioning.Input(
                    "background", tooltip='What is behind them: "clean background, empty scene", as trained.'
                ),
                io.Conditioning.Input("negative", tooltip="What to keep away from all layers; empty as trained."),
                io.Vae.Input("vae", tooltip="The VAE of the model."),
                io.String.Input(
                    "keep",
                    display_name="who may stay",
                    default="any",
                    tooltip="Whom you may want to keep, which is what costs time. any or all: the layer of everyone whose "
                    "mask overlaps another, so that Compose Layers can show every subset. 2, 3 or all but 1: of those who "
                    "overlap somebody not named. none or empty: all go, and the background alone is computed.",
                ),
                seed_widget("Of the noise, which all layers share."),
                io.Int.Input("steps", default=25, min=1, max=1000, step=1, tooltip="25 as in the paper."),
                io.Float.Input(
                    "cfg",
                    default=5.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance of the background. 1 for both halves the time: the negative prompt is left out.",
                ),
                io.Float.Input(
                    "person_cfg",
                    display_name="cfg of people",
                    default=5.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance of the layers of people.",
                ),
                io.Combo.Input("sampler_name", options=host.SAMPLERS, default="euler", tooltip="Any of core's."),
                io.Combo.Input("scheduler", options=host.SCHEDULERS, default="simple", tooltip="Any of core's."),
                MORPHOLOGY.Input(
                    "guidance",
                    optional=True,
                    tooltip="From Human Morphology Guidance, for an eraser trained with it. Without: no pose, no parsing.",
                ),
                advanced(
                    io.Combo.Input(
                        "masg",
                        display_name="cfg falls (MASG)",
                        options=["off", *guidance_kernel.SCHEDULES],
                        default="off",
                        tooltip="Mask-aware guidance: cfg in the hole, falling on this schedule (from half of the steps on in "
                        "those that step), and 1 around it.",
                    ),
                ),
                io.Float.Input(
                    "grow_percent",
                    display_name="grow (% of its size)",
                    default=5.0,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    tooltip="What is filled when a person goes: the mask, grown by this share of its size. What is shown "
                    "of a person who stays: the mask itself.",
                ),
                io.Float.Input(
                    "context",
                    display_name="surroundings (× size)",
                    default=0.5,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How much of the surroundings the model sees: on each side this share of the size of the "
                    "people together.",
                ),
                io.Int.Input(
                    "minimum",
                    display_name="smallest side",
                    default=512,
                    min=8,
                    max=8192,
                    step=8,
                    tooltip="No side of the part worked on is shorter; a smaller picture is enlarged. 512 as MILD is "
                    "trained. The mini model wants 64: with 512 it takes minutes a step on a CPU.",
                ),
                io.Int.Input(
                    "maximum",
                    display_name="largest side (0: any)",
                    default=1024,
                    min=0,
                    max=16384,
                    step=8,
                    tooltip="No side of it is longer: a larger part is worked on at a smaller scale. 0: no limit. The "
                    "mini model wants 128. What is not generated keeps the picture's own pixels at full size.",
                ),
                advanced(
                    io.Boolean.Input(
                        "match_color",
                        display_name="match colours",
                        default=True,
                        tooltip="Take away the colour shift of the VAE and the model, measured around each hole.",
                    ),
                ),
            ],
            outputs=[
                LAYERS.Output("LAYERS", display_name="layers", tooltip="For Compose Layers and Save Layers."),
                io.Image.Output(
                    "PREVIEW",
                    display_name="preview",
                    tooltip="Everyone with their number, by which who may stay and Compose Layers call them.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        layered_model: Any,
        image: torch.Tensor,
        masks: torch.Tensor,
        person: io.Conditioning.Type,
        background: io.Conditioning.Type,
        negative: io.Conditioning.Type,
        vae: io.Vae.Type,
        keep: str,
        seed: int,
        steps: int,
        cfg: float,
        person_cfg: float,
        sampler_name: str,
        scheduler: str,
        masg: str,
        grow_percent: float,
        context: float,
        minimum: int,
        maximum: int,
        match_color: bool,
        guidance: Morphology | None = None,
    ) -> io.NodeOutput:
        check_limits(
            cls,
            cfg=cfg,
            person_cfg=person_cfg,
            steps=steps,
            grow_percent=grow_percent,
            context=context,
            minimum=minimum,
            maximum=maximum,
        )
        picture = one_picture(image)
        masks, holes = crowd.check_people(picture, masks, grow_percent)
        host.warn_of_photograph(cls, layered_model, *picture.shape[-2:])
        kept, chosen = crowd.chosen_layers(keep, masks)
        scene = prepare(picture, masks, holes, chosen, vae, layered_model.mask_pooling, (context, minimum, maximum))
        rows = host.Rows(
            branches=torch.tensor([lowrank.PERSON] * len(chosen) + [lowrank.BACKGROUND]),
            objects=scene.free[:, 0],
            free=scene.free,
            tokens=encode_morphology(layered_model, guidance, scene.others[:-1], chosen, masks.shape, scene.crop),
        )
        rows_of = [("person", person)] * len(chosen) + [("background", background)]
        positive, negative = host.stack_conditionings(rows_of, ("negative", negative))
        original = layered_model.patcher.model.process_latent_in(scene.latent)[0]
        cells = regions.latent_mask(crowd.cut(masks, scene.crop, "mask"), *scene.latent.shape[-2:], pooling="max")[:, 0]

        def preview(x0: torch.Tensor) -> torch.Tensor:
            layers = original.to(x0).repeat(len(masks), 1, 1, 1)
            layers[chosen] = x0[:-1]
            return kernel.compose(layers, cells.to(x0), x0[-1], set(range(len(masks))) - kept)

        samples = host.sample_layers(
            layered_model,
            host.set_condition_image(positive, scene.shown, scene.mask_channel),
            host.set_condition_image(negative, scene.shown, scene.mask_channel),
            rows,
            scene.shown,
            [person_cfg] * len(chosen) + [cfg],
            masg,
            seed,
            steps,
            sampler_name,
            scheduler,
            preview,
        )
        layers = assemble(scene, picture, masks, holes, chosen, vae.decode(samples).movedim(-1, 1), match_color)
        return io.NodeOutput(layers, numbered(masks, image[0]))


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """The part that is worked on, in a row for each chosen person and one for the background, all of the same crop.

    crop            the part of the picture around all people
    changed, hidden [R,H,W] of 0 and 1 in the picture: what a row makes, and what it is not shown
    others          [R,h,w] of 0 and 1, `hidden` in the crop
    latent          [1,C,h,w] of the crop
    shown           [R,C,h,w], latents of what each row is shown
    free            [R,1,h,w] of 0 and 1, cells that a row may change
    mask_channel    [R,1,H,W], what the network is told to be its hole, one value a cell, at the size of the crop
    """

    crop: seams.Crop
    changed: torch.Tensor
    hidden: torch.Tensor
    others: torch.Tensor
    latent: torch.Tensor
    shown: torch.Tensor
    free: torch.Tensor
    mask_channel: torch.Tensor


def prepare(
    picture: torch.Tensor,
    masks: torch.Tensor,
    holes: torch.Tensor,
    chosen: list[int],
    vae: io.Vae.Type,
    pooling: str,
    size: tuple[float, int, int],
) -> Scene:
    """Cut the people out of the picture [3,H,W] and encode what each row is shown; `size` is the node's context, minimum
    and maximum."""
    context, minimum, maximum = size
    changed, hidden = crowd.row_regions(masks, holes, chosen)
    cell = vae.spacial_compression_encode()
    # Networks halve the latent up to three times: a multiple of eight cells is a whole number at every level.
    crop = seams.plan_crop(hidden[-1:], context, multiple=8 * cell, minimum=minimum, maximum=maximum or None)
    height, width = (side // cell for side in crop.size)
    part, others = crowd.cut(picture[None], crop, "image"), crowd.cut(hidden, crop, "mask")
    seen = torch.where(others[:, None] > 0, crowd.GREY, part)
    latent, shown = (vae.encode(pictures.movedim(1, -1)) for pictures in (part, seen))
    areas = crowd.cut(changed, crop, "mask")
    # Every cell that a mask touches is free; what the network is told follows its training.
    free = regions.latent_mask(areas, height, width, "max").to(latent)
    channel = regions.latent_mask(areas, height, width, pooling).to(latent)
    # One value a cell at the size of the picture, as Removal Conditioning does it.
    channel = channel.repeat_interleave(cell, dim=2).repeat_interleave(cell, dim=3)
    return Scene(crop, changed, hidden, others, latent, shown, free, channel)


def assemble(
    scene: Scene,
    picture: torch.Tensor,
    masks: torch.Tensor,
    holes: torch.Tensor,
    chosen: list[int],
    decoded: torch.Tensor,
    match_color: bool,
) -> Layers:
    """The rows' pictures [R,3,h,w] back in the whole picture, as layers."""
    results = [
        crowd.into_picture(picture, result, scene.crop, row if match_color else None)
        for result, *row in zip(decoded, scene.changed, scene.hidden, strict=True)
    ]
    generated = dict(zip(chosen, results[:-1], strict=True))
    return Layers(picture, results[-1], masks, holes, generated)


def one_picture(image: torch.Tensor) -> torch.Tensor:
    """The picture [3,H,W] of a batch of one."""
    check_picture(image)
    if len(image) != 1:
        raise ValueError(f"{len(image)} pictures came, expected one: the batch of masks says who is in it.")
    return image[0].movedim(-1, 0)


NODES = [LoadLayered, LayeredSampler]

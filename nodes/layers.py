"""MILD: a picture of people taken apart, one layer for each of them and one for the background."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from comfy_api.latest import io

from ..adapters import layered
from ..kernels import finite, lowrank, regions, seams
from ..kernels import guidance as guidance_kernel
from ..kernels import layers as kernel
from ..kernels.layers import Layers
from . import host
from .compose import LAYERS, parse_people
from .morphology import MORPHOLOGY, Morphology, encode_morphology
from .overlay import numbered
from .schema import Schema, advanced, check_limits, seed_widget

LAYERED_MODEL = io.Custom("UNCLUTTER_LAYERED_MODEL")
GREY = 0.5
"""The grey that a row sees in place of what is hidden from it."""
SAME = 0.95
"""Two masks with this share of their area in common are of one person."""


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
        picture, masks, holes = check_people(image, masks, grow_percent)
        kept, chosen = chosen_layers(keep, masks)
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
        cells = regions.latent_mask(cut(masks, scene.crop, "mask"), *scene.latent.shape[-2:], pooling="max")[:, 0]

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
    union = holes.amax(dim=0, keepdim=True)
    cell = vae.spacial_compression_encode()
    # Networks halve the latent up to three times: a multiple of eight cells is a whole number at every level.
    crop = seams.plan_crop(union, context, multiple=8 * cell, minimum=minimum, maximum=maximum or None)
    height, width = (side // cell for side in crop.size)
    hidden, changed = torch.cat([kernel.context_masks(holes)[chosen], union]), torch.cat([masks[chosen], union])
    part, others = cut(picture[None], crop, "image"), cut(hidden, crop, "mask")
    seen = torch.where(others[:, None] > 0, GREY, part)
    latent, shown = (vae.encode(pictures.movedim(1, -1)) for pictures in (part, seen))
    areas = cut(changed, crop, "mask")
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
        into_picture(picture, result, scene.crop, row if match_color else None)
        for result, *row in zip(decoded, scene.changed, scene.hidden, strict=True)
    ]
    generated = dict(zip(chosen, results[:-1], strict=True))
    return Layers(picture, results[-1], masks, holes, generated)


def check_people(
    image: torch.Tensor, masks: torch.Tensor, grow_percent: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The picture [3,H,W], and its masks and holes [N,H,W] of 0 and 1."""
    if len(image) != 1 or image.shape[-1] != 3:
        raise ValueError(
            f"{len(image)} pictures of {image.shape[-1]} channels came, expected one of 3 (RGB): the batch of masks says "
            "who is in it."
        )
    finite.check_finite(image, "The picture", finite.PICTURE)
    if masks.ndim == 3 and len(masks) == 0:
        raise ValueError("No masks came: the detector found nobody, so connect one mask per person.")
    picture = image[0].movedim(-1, 0)
    count = 1 if masks.ndim == 2 else len(masks)
    height, width = picture.shape[-2:]
    masks = regions.normalize_mask(masks.to(image.device), count, height, width, allow_full=True)
    if full := masks.flatten(1).all(dim=1).nonzero().flatten().tolist():
        raise ValueError(
            f"{f'Mask {full[0] + 1} of {count}' if count > 1 else 'The mask'} covers the whole picture and leaves nothing to "
            "fill it from: mark only the person, or invert it if white marks what to keep."
        )
    flat = masks.flatten(1)
    common = flat @ flat.T
    areas = common.diagonal()
    overlap = (common / (areas[:, None] + areas - common)).triu(1)
    if bool((overlap > SAME).any()):
        first, second = (overlap > SAME).nonzero()[0].tolist()
        raise ValueError(
            f"Masks {first + 1} and {second + 1} mark the same person ({overlap[first, second]:.0%} of their area in common): "
            "remove one of them."
        )
    holes = regions.grow(masks, percent=grow_percent)
    if holes.amax(dim=0).all():
        raise ValueError(
            "Together the masks cover the whole picture and leave nothing to fill it from: lower grow_percent, or give "
            "masks that mark only the people."
        )
    return picture, masks, holes


def chosen_layers(keep: str, masks: torch.Tensor) -> tuple[set[int], list[int]]:
    """The people that the preview keeps, and those whose layer is needed: of whom somebody that may go can hide a part.

    Who lies in front is not known yet, so whose masks overlap counts. Where everyone is named, anyone may go.
    """
    everyone = set(range(len(masks)))
    undecided = keep.strip().lower() == "any"
    kept = everyone if undecided else set(parse_people(keep, len(masks), "keep"))
    others = (
        kernel.context_masks(masks) if kept == everyone else masks[sorted(everyone - kept)].sum(dim=0).expand_as(masks)
    )
    chosen = [k for k in sorted(kept) if bool((masks[k] * others[k]).any())]
    return set() if undecided else kept, chosen


def cut(pictures: torch.Tensor, crop: seams.Crop, mode: str) -> torch.Tensor:
    """The crop of masks [N,H,W] ("mask") or pictures [N,C,H,W] ("image")."""
    several = seams.Crop(crop.boxes * len(pictures), crop.size)
    if mode == "image":
        return seams.extract(pictures, several, mode)
    if len(pictures) == 0:
        return pictures.new_zeros(0, *crop.size)
    return seams.extract(pictures[:, None], several, mode)[:, 0]


def into_picture(
    picture: torch.Tensor, result: torch.Tensor, crop: seams.Crop, row: list[torch.Tensor] | None
) -> torch.Tensor:
    """A result [3,h,w] of the crop in the picture [3,H,W]; with what of it was generated and what was greyed out, both
    [H,W], in the colours that lie around it."""
    (box,) = crop.boxes
    window = (..., slice(box.top, box.top + box.height), slice(box.left, box.left + box.width))
    inside = torch.zeros_like(picture[:1])
    inside[window] = 1
    whole = seams.paste_back(picture[None], result[None].to(picture), crop, inside, 0, match_colors=False)[0]
    if row is not None:
        area, hidden = (mask[window][None] for mask in row)
        shown = torch.where(hidden > 0, GREY, picture[window])
        whole[window] = seams.match_color(whole[window][None], shown[None], area)[0]
    return whole.clamp(0, 1)


NODES = [LoadLayered, LayeredSampler]

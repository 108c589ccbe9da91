"""Human Morphology Guidance (MILD, §3.2): pose pictures and parsing maps, from any preprocessor, as an eraser takes them."""

from __future__ import annotations

import copy
import dataclasses

import torch
from comfy_api.latest import io

from ..kernels import morphology, regions, seams
from ..kernels.people import counted
from . import host
from .schema import Schema, advanced, check_limits

MORPHOLOGY = io.Custom("UNCLUTTER_MORPHOLOGY")


@dataclasses.dataclass(frozen=True, eq=False)
class Morphology:
    """The bodies of `people` people: `pose` [1 or N,3,h,w] in 0..1 and `parsing` [1,labels,h,w] of 0 and
    1, or None, of the whole picture at any scale."""

    pose: torch.Tensor | None
    parsing: torch.Tensor | None
    people: int


class HumanMorphology(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterHumanMorphology",
            display_name="Human Morphology Guidance",
            category="Unclutter/layers",
            description=(
                "Tells Layered Sampler where bodies and their parts are, from a pose picture and a parsing map, so that "
                "hidden parts of people come out whole. Either may be left out."
            ),
            search_aliases=["hmg", "mild", "openpose", "dwpose", "human parsing"],
            inputs=[
                io.Mask.Input("masks", tooltip="The masks of Layered Sampler, one per person."),
                io.Image.Input(
                    "pose",
                    optional=True,
                    tooltip="Skeletons on black, as OpenPose or DWPose draw them: one for the picture, or one per mask.",
                ),
                io.Image.Input(
                    "parsing",
                    optional=True,
                    tooltip="Body parts: the label's number as grey value, or SCHP's colours, or a batch with one black "
                    "and white picture per label.",
                ),
                advanced(
                    io.Int.Input(
                        "labels",
                        display_name="parsing labels",
                        default=morphology.LIP,
                        min=2,
                        max=256,
                        step=1,
                        tooltip="How many labels the parsing has, the background's included: 20 for LIP, which erasers are "
                        "trained on unless their file says otherwise.",
                    ),
                ),
            ],
            outputs=[MORPHOLOGY.Output("MORPHOLOGY", display_name="guidance", tooltip="For Layered Sampler.")],
        )

    @classmethod
    def execute(
        cls,
        masks: torch.Tensor,
        pose: torch.Tensor | None = None,
        parsing: torch.Tensor | None = None,
        labels: int = morphology.LIP,
    ) -> io.NodeOutput:
        check_limits(cls, labels=labels)
        masks = host.binary_mask(masks)
        people, (height, width) = len(masks), masks.shape[-2:]
        if pose is not None:
            check_proportions("pose picture", pose.shape[1:3], height, width)
            if len(pose) not in (1, people):
                raise ValueError(
                    f"{len(pose)} pose pictures came for {counted(people, 'person', 'people')}: give one, or one for each."
                )
            pose = pose[..., :3].movedim(-1, 1)
        if parsing is not None:
            check_proportions("parsing map", parsing.shape[1:3], height, width)
            parsing = one_hot(parsing, labels)
        return io.NodeOutput(Morphology(pose, parsing, people))


def encode_morphology(
    layered: host.LayeredModel,
    given: Morphology | None,
    others: torch.Tensor,
    chosen: list[int],
    shape: torch.Size,
    crop: seams.Crop,
) -> torch.Tensor | None:
    """The tokens [R,T,width] of the chosen people, and those of the background after them; None where all are null."""
    module = layered.morphology
    people, height, width = shape
    if given is not None and given.people != people:
        raise ValueError(
            f"The guidance is for {counted(given.people, 'person', 'people')} and {counted(people, 'mask', 'masks')} came: "
            "give Human Morphology Guidance the masks of Layered Sampler."
        )
    if given is not None and module is None:
        raise ValueError("This eraser was trained without Human Morphology Guidance: disconnect guidance.")
    if given is not None and given.parsing is not None and module and given.parsing.shape[1] != module.labels:
        raise ValueError(
            f"The parsing map has {given.parsing.shape[1]} labels and this eraser was trained on {module.labels}: set labels "
            f"to {module.labels} in Human Morphology Guidance."
        )
    if module is None:
        return None
    inputs: list[torch.Tensor | None] = [None, None]
    if given is not None:
        pose = given.pose[chosen] if given.pose is not None and len(given.pose) > 1 and chosen else given.pose
        for index, (name, maps) in enumerate((("pose picture", pose), ("parsing map", given.parsing))):
            if maps is not None:
                check_proportions(name, maps.shape[-2:], height, width)
                boxes = tuple(at_scale(box, (height, width), (maps.shape[-2], maps.shape[-1])) for box in crop.boxes)
                inputs[index] = seams.extract(maps.to(others), seams.Crop(boxes * len(maps), crop.size), "image")
    # A copy: the graph's own stays where it is.
    module = copy.deepcopy(module).to(others.device)
    pose_of, parsing_of = inputs
    return morphology.row_tokens(module, others, pose_of, parsing_of, layered.background_morphology)


def at_scale(box: regions.Box, before: tuple[int, int], after: tuple[int, int]) -> regions.Box:
    """The pixels that a box of a picture touches where its height and width become those of `after`."""
    top, left = (start * to // side for start, side, to in zip(box[:2], before, after, strict=True))
    bottom, right = (
        -(-(start + length) * to // side)
        for start, length, side, to in zip(box[:2], box[2:], before, after, strict=True)
    )
    return regions.Box(top, left, bottom - top, right - left)


def check_proportions(name: str, given: torch.Size, height: int, width: int) -> None:
    """A preprocessor's picture may have any scale, but shows the whole picture."""
    if abs(given[1] * height - given[0] * width) > 0.05 * given[0] * width:
        raise ValueError(
            f"The {name} is {given[1]}x{given[0]} and the picture or its masks {width}x{height}: expected the same "
            "proportions, so make it from the same picture, uncropped."
        )


def one_hot(parsing: torch.Tensor, labels: int) -> torch.Tensor:
    """A parsing map of any kind, [B,H,W,3] -> [1,labels,H,W] of 0 and 1."""
    if len(parsing) == labels:
        return (parsing.mean(dim=-1) >= 0.5).float()[None]
    if len(parsing) != 1:
        raise ValueError(
            f"{len(parsing)} parsing pictures came, expected one map of labels, or one picture for each of {labels} labels."
        )
    values = (parsing[..., :3] * 255).round().long()
    if bool((values == values[..., :1]).all()):
        return morphology.parsing_one_hot(values[..., 0], labels)
    found = (values[..., None, :] == palette(labels).to(values.device)).all(dim=-1)
    if not bool(found.any(dim=-1).all()):
        raise ValueError(
            f"The parsing map has colours that are none of SCHP's {labels}: give the map of label numbers, or one picture "
            "per label."
        )
    return found.movedim(-1, 1).float()


def palette(labels: int) -> torch.Tensor:
    """[labels,3], the colours that SCHP, as Pascal VOC before it, gives to labels: their bits, dealt out from the top."""
    bits = [[sum((label >> (3 * i + c) & 1) << (7 - i) for i in range(3)) for c in range(3)] for label in range(labels)]
    return torch.tensor(bits)


NODES = [HumanMorphology]

"""Settings of `unclutter data`, checked before PyTorch is imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ...adapters import mini
from ...kernels.vocabulary import Difficulty
from ..paths import check_folder, check_pairs


@dataclass(frozen=True)
class StoreConfig:
    """From your own pictures to triplets of source, target and mask."""

    output: Path
    """Folder that receives source/, target/, mask/, effect_mask/, instance_masks/, manifest.jsonl and sheet.png."""
    backgrounds: Path | None = None
    """Scatter: folder of pictures without a main object."""
    cutouts: Path | None = None
    """Scatter: folder of objects, PNG or WebP with transparency around them, or folders image/ and mask/ in it."""
    frames: Path | None = None
    """Tile: folder with occupied/ and clean/, the same view with and without an object, and mask/ (else the difference)."""
    count: int = 1000
    """Triplets in all."""
    size: int = 1024
    """Side of the pictures in pixels."""
    tile_share: float = 0.5
    """Share of Tile scenes, where the folder has what both need."""
    shadows: bool = True
    """Objects of Scatter darken the ground beside them."""
    seed: int = 0
    """The same seed and pictures make the same bytes, whatever the number of workers."""
    workers: int | None = None
    """Processes. None: one a core."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.size < 64 or not 0 <= self.tile_share <= 1:
            raise ValueError(
                f"count is {self.count}, size {self.size}, tile_share {self.tile_share}: expected at least 1, at least 64, "
                "and 0 to 1."
            )
        if (self.backgrounds is None) != (self.cutouts is None) or not (self.frames or self.cutouts):
            raise ValueError("Give backgrounds and cutouts for Scatter, frames for Tile, or all three.")

    def check(self) -> None:
        for folder in (self.backgrounds, self.cutouts, self.frames):
            if folder is not None:
                check_folder(folder, "pictures")


@dataclass(frozen=True)
class SynthesizeConfig:
    """From pictures with masks of their objects to triplets: the object is moved, the untouched picture is the target."""

    data: Path
    """Folders source/ (pictures) and mask/ (white where the object is), files paired by name; or any folder of pairs."""
    output: Path
    """Folder that receives source/, target/, mask/, manifest.jsonl and sheet.png."""
    count: int | None = None
    """Triplets in all, taking the pictures in turn. None: one a picture."""
    size: int = 1024
    """Longest side in pixels; larger pictures are made smaller."""
    seed: int = 0
    """The same seed and pictures make the same bytes, whatever the number of workers."""
    workers: int | None = None
    """Processes. None: one a core."""

    def __post_init__(self) -> None:
        if (self.count is not None and self.count < 1) or self.size < 8:
            raise ValueError(f"count is {self.count} and size {self.size}, expected at least 1 and 8.")

    def check(self) -> None:
        check_pairs(self.data)


@dataclass(frozen=True)
class PeopleConfig:
    """From cut-outs and backgrounds to pictures of groups, for `unclutter train mild`."""

    output: Path
    """Folder that receives source/, target/, mask/, effect_mask/, instance_masks/, manifest.jsonl and sheet.png, and
    pose/ and parsing/ where the people have them."""
    backgrounds: Path
    """Folder of pictures without people."""
    people: Path
    """Folder of PNG or WebP files with transparency around one person each. Or folders in it: image/ with these files,
    or with whole pictures that folder mask/ cuts out; pose/ with rendered poses and parsing/ with label maps (LIP), of the
    same names and sizes."""
    count: int = 10_000
    """Pictures in all. MILD: 10,000."""
    size: int = 512
    """Side of the pictures in pixels."""
    persons: tuple[int, int] = (1, 5)
    """Fewest and most people in a picture."""
    shadows: bool = True
    """People darken the ground beside them."""
    seed: int = 0
    """The same seed and pictures make the same bytes, whatever the number of workers."""
    workers: int | None = None
    """Processes. None: one a core."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.size < 64 or not 1 <= self.persons[0] <= self.persons[1] <= 250:
            raise ValueError(
                f"count is {self.count}, size {self.size}, persons {self.persons}: expected at least 1, at least 64, and "
                "1 to 250, the fewer first."
            )

    def check(self) -> None:
        check_folder(self.backgrounds, "pictures")
        check_folder(self.people, "people")


@dataclass(frozen=True)
class Constants:
    """The constants of the paper's Table 7, chosen for pictures of about a megapixel."""

    luminance_weight: float = 0.6
    """w_L: of the difference of log-luminance in the heat map."""
    chromaticity_weight: float = 0.3
    """w_ab: of the difference of colour."""
    gradient_weight: float = 0.1
    """w_T: of the difference of gradient magnitude."""
    heat_threshold: float = 0.07
    """tau_H: heat above which a pixel has changed."""
    disk_radius: int = 3
    """Of the opening and closing that clean the mask, in pixels."""
    min_area: int = 2000
    """A_min: smaller regions are dropped, in pixels."""
    max_hole_area: int = 500
    """A_hole: holes up to this size are filled, in pixels."""
    main_share: float = 0.3
    """alpha: regions of at least this share of the largest one's area are main ones."""
    max_regions: int = 4
    """N_max: more main regions reject the pair."""
    max_noise: float = 0.3
    """tau_noise: a larger share of changed pixels outside of the main regions rejects the pair."""
    min_score: float = 0.3
    """tau_score: of a semantic box."""
    max_boxes: int = 3
    """K_sem: semantic boxes that are looked at, the best first."""
    min_iou: float = 0.3
    """tau_iou: a region's box and a semantic box that overlap at least this much are one thing."""
    max_scale: float = 2.0
    """tau_scale: a region whose box is more times larger than what the instruction names rejects the pair."""
    keep_overlap: float = 0.5
    """tau_keep: a region stays if a kept box covers more than this part of it."""
    dilation: float = 1.2
    """r_dilate: area of the grown mask over that of the mask."""
    effect_threshold: float = 0.25
    """tau_eff: pairs with a larger effect ratio are for phase 2."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0 or (name == "dilation" and value < 1) or (name in ("max_boxes", "max_regions") and value < 1):
                least = 0 if name not in ("dilation", "max_boxes", "max_regions") else 1
                raise ValueError(f"{name} is {value}, expected at least {least}.")


@dataclass(frozen=True)
class VerifyConfig:
    """From edited pictures to pairs with effect-aware masks."""

    edits: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="EDITS")]
    """Folder with shot/ (with the object), bg/ (without) and prompts.json (file stem to instruction); or a JSONL file, an
    object a line: name, before, after, instruction, and direction, "add" or "remove"."""
    output: Path
    """Folder that receives the pairs that pass (manifest.jsonl), phase2/ (those with large effects, a set of its own),
    report.jsonl and sheet.jpg."""
    detector: str | None = None
    """Grounding DINO: id on the hub, such as openmmlab-community/mm_grounding_dino_large_all, or a folder. Downloads."""
    segmenter: str | None = None
    """SAM 2 or SAM: id on the hub, such as facebook/sam2.1-hiera-large, or a folder. Downloads."""
    boxes: Path | None = None
    """Instead of a detector: JSONL file of boxes, a line a pair."""
    masks: Path | None = None
    """Instead of a segmenter: folder of objects' masks, NAME.png."""
    constants: Annotated[Constants, tyro.conf.arg(name="")] = field(default_factory=Constants)
    size_tolerance: int = 8
    """The two pictures of a pair may differ by so many pixels in width and height: the one without the object is resized."""
    device: str | None = None
    """Device that detector and segmenter run on; by default the GPU where there is one."""
    engine: Literal["local", "ray"] = "local"
    """local: processes on this machine. ray: Ray Data, over a cluster or several GPUs that see the same files (extra
    `scale`)."""
    workers: int | None = None
    """Processes. None: one with a detector or segmenter, else one a core. The output is the same, however many."""

    def __post_init__(self) -> None:
        if (self.detector and self.boxes) or (self.segmenter and self.masks):
            raise ValueError("Give a detector or boxes, and a segmenter or masks, not both of a kind.")
        if self.size_tolerance < 0 or (self.workers is not None and self.workers < 1):
            raise ValueError(
                f"size_tolerance is {self.size_tolerance} and workers {self.workers}: expected at least 0, and 1."
            )

    def check(self) -> None:
        if not self.edits.exists():
            raise FileNotFoundError(f"There is nothing at {self.edits}: give a folder of edits, or a JSONL file.")
        for folder in (self.boxes, self.masks):
            if folder is not None and not folder.exists():
                raise FileNotFoundError(
                    f"There is nothing at {folder}: give an existing file of boxes or folder of masks."
                )


@dataclass(frozen=True)
class DrawnConfig:
    """Write scenes in which one of several objects, mostly look-alikes, is there in the source and gone in the target.

    With `crowd`, three objects stand before one another, all gone in the target; instance_masks/ tells them apart,
    pose/ draws their skeletons, the hidden limbs too, and parsing/ labels their parts 1 to 4 (for `train mild`).
    """

    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUTPUT")]
    """Folder that receives source/, target/, mask/, effect_mask/, manifest.jsonl and settings.json."""
    count: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    """Number of pairs."""
    size: int = mini.SIZE
    """Side of the pictures in pixels; by default that of the mini model in the pack."""
    seed: int = 0
    """The same seed draws the same pairs."""
    crowd: bool = False
    """Draw crowds; people, where the difficulty is not objects."""
    difficulty: Difficulty = mini.DIFFICULTY
    """Difficulty of the scenes, as in the node Example Scene; by default that of the mini model in the pack."""

    def check(self) -> None:
        if self.count < 1 or self.size < 16:
            raise ValueError(f"count is {self.count} and size {self.size}, expected at least 1 pair of 16 pixels.")


@dataclass(frozen=True)
class CheckConfig:
    """Read every picture of a folder of pairs and report what a training would stumble over."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder of pairs: a manifest.jsonl, or folders source, target and mask."""
    sheet: Path | None = None
    """Write a contact sheet of the first samples that can be read."""

    def check(self) -> None:
        check_pairs(self.folder)


@dataclass(frozen=True)
class ShardConfig:
    """Pack a folder of pairs into webdataset shards, which every training reads as it reads a folder."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder of pairs: a manifest.jsonl, or folders source, target and mask."""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUTPUT")]
    """Folder that receives shard-000000.tar and so on; it must not exist."""
    megabytes: int = 512
    """Size at which a shard is closed."""

    def check(self) -> None:
        check_pairs(self.folder)

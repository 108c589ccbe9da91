"""The settings of `unclutter train osor`, and the paper's as presets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import tyro

from ....adapters.families import FAMILIES, FLUX, UNET, Family
from ....adapters.methods import ONE_STEP_TIMESTEP as TIMESTEP
from ...paths import check_file
from ..recipe import Recipe, choose_preset

Guidance = Literal["occupancy", "gaussian", "hard"]

MissingWeights = Literal["stop", "download", "random"]

Classifier = Literal["vgg", "alex", "squeeze"]

Mode = Literal["shrink", "core", "expand", "holes", "shift"]
if TYPE_CHECKING:
    Option = str
else:
    Option = Literal[tuple(family.option for family in FAMILIES.values())]


@dataclass(frozen=True)
class IncompleteMasks:
    """How often masks are changed in each mode, and how much. The defaults are OSOR's for SDXL at a short side of 512 pixels."""

    shrink: float = 0.35
    """Chance that only the innermost part is kept."""
    core: float = 0.3
    """Chance that the object's own mask, without its shadow, takes its place; shrunk instead where there is no such."""
    expand: float = 0.2
    """Chance that each part grows to its convex hull and beyond."""
    holes: float = 0.1
    """Chance of square holes."""
    shift: float = 0.05
    """Chance that it is moved."""
    kept: tuple[float, float] = (0.5, 0.7)
    """Share of the area that shrinking keeps, drawn from this range."""
    growth: tuple[int, ...] = (7, 11, 17)
    """Sides of the square that the hull is dilated by, in pixels; one is drawn."""
    growth_times: int = 3
    """It is dilated 1 to this many times."""
    hole_density: float = 5e-4
    """Holes for each pixel of the picture."""
    hole_sides: tuple[int, ...] = (17, 21, 31)
    """Sides of the holes in pixels; one is drawn for all holes."""
    hole_rest: float = 0.4
    """Share of the area that must be left, else there are no holes."""
    distance: int = 35
    """Longest way in pixels that it is moved, down and across."""

    def __post_init__(self) -> None:
        chances = self.chances()
        if min(chances) < 0 or abs(sum(chances) - 1) > 1e-6:
            raise ValueError(f"The chances of the mask modes are {chances}, expected them to sum to 1.")
        even = [side for side in (*self.growth, *self.hole_sides) if side < 1 or side % 2 == 0]
        if even:
            raise ValueError(f"A square's side is {even[0]} pixels, expected odd numbers.")

    def chances(self) -> tuple[float, ...]:
        return tuple(getattr(self, mode) for mode in get_args(Mode))


@dataclass(frozen=True)
class OSORRecipe(Recipe):
    """OSOR: erase in one call. The defaults are the paper's for phase 1 on SDXL-inpainting."""

    phase: Literal[1, 2] = 1
    """1: blend by the true mask. 2: from incomplete masks, with a predicted alpha."""
    backbone: Option = UNET.option
    """sdxl: SDXL-inpainting, and whatever has its shape, as the mini model. flux: FLUX.1-Fill-dev as a diffusers folder.
    What goes with it is in the presets."""
    start: Path | None = None
    """Training to continue: the output folder of a training (phase 2: of phase 1; refinement: of phase 2), or a one-step
    eraser's file, OSOR's own too; the discriminator then starts anew."""
    size: int | None = 512
    """Side of the training pictures in pixels: on SDXL the short one (OSOR: 512), on FLUX the square root of the area
    (OSOR: pictures as they are)."""
    steps: int = 15_000
    """Updates of the generator, and as many of the discriminator. OSOR: 15,000 in phase 1, 5,000 in phase 2, 1,000 more
    on captured pairs."""
    batch: int = 16
    micro_batch: int = 2
    lora_rank: int = 256
    """Rank of the LoRA on attention, feed-forward and convolutions. OSOR: 256 on SDXL, 64 on FLUX."""
    learning_rate: float = 1e-5
    """Of LoRA and last layer (AdamW, constant). OSOR: 1e-5."""
    discriminator_learning_rate: float = 1e-5
    """Of the discriminator's heads. OSOR: 1e-5."""
    mask_pooling: Literal["nearest", "max"] = "max"
    """A latent cell that the mask touches at all is erased (OSOR). FLUX is shown every pixel of the mask."""
    dilation: tuple[float, float] = (0.0, 0.0)
    """Masks are taken as they are; `incomplete` says what phase 2 makes of them."""
    save_every: int = 1000
    sample_every: int = 1000
    timestep: int = TIMESTEP
    """How much noise the picture with the object is given. OSOR: 400 (its SDXL phase 1 ran with 600)."""
    prediction: Literal["noise", "correction"] = "noise"
    """Prediction of the network: the noise, as in OSOR, or the clean latent as a correction to the one it is shown, which
    starts at zero. A small network learns the second much faster."""
    guidance: Guidance = "occupancy"
    """Target of a patch: its masked share, or one of OSOR's ablations: its first pixel (hard), and that
    map blurred (gaussian)."""
    guidance_sigma: float = 1.0
    """Of the gaussian guidance's blur, in patches."""
    adversarial_weight: float = 0.3
    """λ_adv. OSOR: 0.3."""
    reconstruction_weight: float = 0.25
    """λ_rec, of the L1 inside the true mask. OSOR: 0.25 on SDXL, 0.5 on FLUX."""
    lpips_weight: float = 5.0
    """λ_lpips, of the whole picture. OSOR: 5 on SDXL, 3 on FLUX."""
    r1_weight: float = 60_000.0
    """λ_R1. OSOR: 60,000."""
    alpha: bool = True
    """Predict an alpha in phase 2. Without one it blends by the incomplete mask (ablation)."""
    bce_weight: float = 1.0
    """λ_bce of the alpha. OSOR: 1."""
    dice_weight: float = 2.0
    """λ_dice of the alpha. OSOR: 2."""
    incomplete: IncompleteMasks = field(default_factory=IncompleteMasks)
    """The masks of phase 2."""
    trunk: str = "convnext_xxlarge.clip_laion2b_soup"
    """The discriminator's frozen network by timm's name. OSOR: OpenCLIP's ConvNeXt-XXL."""
    trunk_weights: Path | None = None
    """File of its weights, timm's or OpenCLIP's."""
    discriminator_width: int = 512
    """Channels of its heads. OSOR: 512."""
    discriminator_scale: float = 1.0
    """Enlarge the pictures that the discriminator sees; its coarsest head needs sides over 64 pixels."""
    lpips_network: Classifier = "vgg"
    """OSOR: vgg."""
    lpips_weights: Path | None = None
    """File of that network's ImageNet weights, torchvision's."""
    missing_weights: MissingWeights = "stop"
    """Action without trunk_weights or lpips_weights: stop and say so, download them, or leave them random."""

    def __post_init__(self) -> None:
        super().__post_init__()
        family = self.family
        if family is not UNET and self.base is None:
            raise ValueError(
                f"backbone is {self.backbone} and base is not given, expected {family.title} as a diffusers folder."
            )
        if self.phase == 2 and self.start is None:
            raise ValueError("phase is 2 and start is not given, expected the output folder of a phase 1.")
        if family.shows_mask_pixels and self.mask_pooling != "max":
            raise ValueError(
                f"mask_pooling is {self.mask_pooling} and {family.title} is shown every pixel of the mask: leave it at max."
            )
        if not family.takes_corrections and self.prediction != "noise":
            raise ValueError(
                f"prediction is {self.prediction} and {family.title} predicts a velocity: leave it at noise."
            )
        if family.overflows_in_fp16 and self.mixed_precision == "fp16":
            raise ValueError(f"mixed_precision is fp16, in which {family.title} overflows: choose bf16.")
        self.check_range("timestep", least=1, most=999)
        weights = ("adversarial", "reconstruction", "lpips", "r1", "bce", "dice")
        self.check_range(*(f"{name}_weight" for name in weights), least=0)
        self.check_positive(
            "guidance_sigma", "discriminator_width", "discriminator_scale", "discriminator_learning_rate"
        )

    def check(self) -> None:
        super().check()
        if self.start is not None and not self.start.exists():
            raise FileNotFoundError(
                f"There is nothing at {self.start}: give a training's output folder, or an eraser's file."
            )
        for path, kind in ((self.trunk_weights, self.trunk), (self.lpips_weights, f"LPIPS' {self.lpips_network}")):
            if path is not None:
                check_file(path, f"the weights of {kind}")

    @property
    def may_change(self) -> frozenset[str]:
        # In phase 2 the pictures of a micro-batch share what is missing from their masks.
        return Recipe.may_change - ({"micro_batch"} if self.phase == 2 else set())

    @property
    def family(self) -> Family:
        return next(family for family in FAMILIES.values() if family.option == self.backbone)

    @property
    def predicts_alpha(self) -> bool:
        return self.phase == 2 and self.alpha


def preset(phase: Literal[1, 2], **values: Any) -> OSORRecipe:
    """A recipe whose folders are still to be given."""
    start = {"start": tyro.MISSING} if phase == 2 else {}
    return OSORRecipe(data=tyro.MISSING, output=tyro.MISSING, phase=phase, **start, **values)


PAPER: dict[str, Any] = {"base": tyro.MISSING, "mixed_precision": "bf16", "gradient_checkpointing": True}
FLUX_PAPER: dict[str, Any] = {
    **PAPER,
    "backbone": FLUX.option,
    "size": 1024,
    "lora_rank": 64,
    "reconstruction_weight": 0.5,
    "lpips_weight": 3.0,
    "incomplete": IncompleteMasks(growth=(11, 17, 21), hole_sides=(21, 31, 41), distance=50),
}
MINI: dict[str, Any] = {
    "size": None,
    "steps": 600,
    "batch": 8,
    "micro_batch": 8,
    "lora_rank": 16,
    "learning_rate": 5e-4,
    "discriminator_learning_rate": 2e-4,
    "adversarial_weight": 0.05,
    "reconstruction_weight": 1.0,
    "lpips_weight": 0.0,
    "r1_weight": 100.0,
    "trunk": "convnext_atto",
    "discriminator_width": 64,
    "discriminator_scale": 1.5,
    "missing_weights": "random",
    "save_every": 200,
    "sample_every": 200,
    "incomplete": IncompleteMasks(growth=(3, 5), growth_times=2, hole_density=5e-3, hole_sides=(3, 5, 7), distance=5),
}
PRESETS: dict[str, tuple[str, OSORRecipe]] = {
    "sdxl-phase-1": ("OSOR's phase 1 on SDXL-inpainting", preset(1, **PAPER)),
    "sdxl-phase-2": ("OSOR's phase 2", preset(2, steps=5_000, **PAPER)),
    "sdxl-refinement": ("1,000 steps of phase 2 on captured pairs", preset(2, steps=1_000, **PAPER)),
    "flux-phase-1": ("OSOR's phase 1 on FLUX.1 Fill", preset(1, **FLUX_PAPER)),
    "flux-phase-2": ("its phase 2", preset(2, steps=5_000, **FLUX_PAPER)),
    "flux-refinement": ("1,000 steps of its phase 2 on captured pairs", preset(2, steps=1_000, **FLUX_PAPER)),
    "mini-phase-1": ("the mini model on drawn pairs, minutes on a CPU", preset(1, **MINI)),
    "mini-phase-2": ("its phase 2", preset(2, **MINI)),
}


def choose(arguments: list[str], prog: str) -> OSORRecipe:
    """`unclutter train osor [PRESET] --field value ...`; without a preset, the one of `--phase`, on `--backbone`: SDXL where
    there is only a `--base`, and the mini model where there is none."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    given = dict(zip(words, words[1:], strict=False))
    given_family = given.get("--backbone")
    backbone = given_family if given_family in [family.option for family in FAMILIES.values()] else UNET.option
    base = backbone if {"--base", "--backbone"} & given.keys() else "mini"
    return choose_preset(PRESETS, f"{base}-phase-{2 if given.get('--phase') == '2' else 1}", arguments, prog)

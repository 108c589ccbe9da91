"""The ways in which Remove Object removes. Each is the graph of single nodes that its help page shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from comfy_api.latest import io

from ..adapters import methods as known
from ..adapters import prompt
from . import host, masks, methods
from .attention import AttentiveEraser, SelfRectifyingAttention
from .conditioning import RemovalConditioning, marked
from .draft import draft_fill
from .guidance import MASGGuider
from .masks import CropToMask, PasteBack
from .onestep import OneStepErase, working_side
from .prompt import LoadRemovalPrompt

INSTRUCTIONS = {
    "picture": "Remove the object in the middle, and fill its place with what surrounds it. Keep all else as it is.",
    "picture and marked picture": "Remove what is marked in red, and fill its place with what surrounds it. Keep all else "
    "as it is.",
}
"""Instructions to an edit model where the artist gives none, by what it is shown."""
LARGEST = 1.5
"""The longest side of the part that is worked on, in sides of the pictures that the model is trained on."""


@dataclasses.dataclass(frozen=True)
class Wish:
    """The settings of the node, and `say`, which shows a text on it."""

    say: Callable[[str], None]
    seed: int
    steps: int
    strength: float
    background: str
    negative_text: str
    start: str
    denoise: float
    resolution: int
    context: float
    feather: int
    sampler_name: str
    scheduler: str
    references: str


def in_one_step(
    image: torch.Tensor, mask: torch.Tensor, model: io.Model.Type, vae: io.Vae.Type, wish: Wish
) -> tuple[torch.Tensor, torch.Tensor]:
    """The pictures without object, shadow and reflection, and what was removed [B,H,W]: the mask and whatever the
    predicted alpha replaces by half or more."""
    side = wish.resolution or working_side(host.eraser_of(model))
    multiple = 8 * vae.spacial_compression_encode()
    part, hole, crop = CropToMask.execute(image, mask, max(wish.context, 1.0), multiple, side, side).args
    wish.say(f"One step at {part.shape[2]}×{part.shape[1]} pixels.")
    erased, alpha, _ = OneStepErase.execute(model, vae, part, hole, wish.seed, 0, wish.strength, 0, False).args
    height, width = mask.shape[-2:]
    taken = masks.into_picture(alpha.to(mask.device), crop.crop.boxes, crop.crop.size, height, width)
    removed = mask.maximum(taken.to(mask))
    return PasteBack.execute(erased, crop, wish.feather, True, 32, removed).args[0], removed


def sampled(
    name: str,
    image: torch.Tensor,
    mask: torch.Tensor,
    model: io.Model.Type,
    vae: io.Vae.Type,
    clip: io.Clip.Type,
    learned: str | None,
    wish: Wish,
) -> torch.Tensor:
    """The pictures as a method makes them that samples; `learned` is the file of a removal prompt."""
    facts = host.facts_of(model)
    method = methods.method_for(name, facts, wish.steps)
    scale = method.scale * wish.strength
    side = wish.resolution or facts.native
    multiple = 8 * vae.spacial_compression_encode()
    largest = max(int(LARGEST * side) // multiple * multiple, multiple)

    def cropped(picture: torch.Tensor) -> io.NodeOutput:
        return CropToMask.execute(picture, mask, wish.context, multiple, side, max(largest, side))

    part, hole, crop = cropped(image).args
    shown, pooling = "masked grey", "max"
    if learned is None:
        words, beside = wish.background or (known.BACKGROUND if method.masg else ""), None
        if wish.references != "none":
            words = wish.background or INSTRUCTIONS[wish.references]
            beside = part if wish.references == "picture" else marked(part, hole)
        positive, negative = host.encode_text(clip, words, beside), host.encode_text(clip, wish.negative_text)
        unguided = words == wish.negative_text
    else:
        loaded = LoadRemovalPrompt.execute(clip, learned, True, "as trained", wish.background, wish.negative_text)
        positive, negative, _ = loaded.args
        header = prompt.load(host.file_path("embeddings", learned)).header
        shown, pooling = header.condition_image or "full", header.mask_pooling or pooling
        unguided = False
    denoise = wish.denoise or method.denoise[wish.start]
    draft = None
    if wish.start == "draft":
        draft, _, _ = cropped(draft_fill(image, mask, seed=wish.seed)).args
    conditioned = RemovalConditioning.execute(
        positive, negative, vae, part, hole, shown, pooling, True, draft, wish.references
    )
    positive, negative, latent = conditioned.args

    if method.attention == "Attentive Eraser":
        model = AttentiveEraser.execute(model, hole, max(scale, 1.0), *known.SUPPRESS, "decoder", 0.0, 1.0).args[0]
    elif method.attention == "SRA":
        model = SelfRectifyingAttention.execute(model, hole, "from itself", 0.0, 1.0).args[0]
    if method.masg:
        guider, _ = MASGGuider.execute(model, positive, negative, hole, scale, 1.0, *known.MASG_FALL).args
        push = f"guidance {scale:g} in the mask"
    elif method.attention == "Attentive Eraser":
        cfg = 1.0 if unguided else method.guidance
        push = f"removal scale {max(scale, 1.0):g}" + (f" and guidance {cfg:g}" if cfg > 1 else "")
        guider = host.guided(model, positive, negative, cfg)
    else:
        cfg = 1.0 if unguided else max(scale, 1.0)
        guider, push = host.guided(model, positive, negative, cfg), f"guidance {cfg:g}"
    wish.say(
        f"{taken_for_few_steps(facts, wish.steps)}{method.steps} steps from {wish.start if denoise == 1 else f'the {wish.start} at denoise {denoise:g}'}, {push}, at {part.shape[2]}×{part.shape[1]} pixels."
    )
    samples = host.sample_latent(guider, latent, wish.seed, method.steps, wish.sampler_name, wish.scheduler, denoise)
    return PasteBack.execute(host.decode(vae, samples), crop, wish.feather, True, 32).args[0]


def trained_prompt(model: io.Model.Type) -> str:
    """The file of the removal prompt that was trained together with the LoRA on the model."""
    facts = host.facts_of(model)
    found = host.prompt_of_training(facts.training, host.embedding_files())
    if facts.recipe != "lrnr" or found is None:
        raise ValueError(
            "learned needs LRNR's LoRA on the model and the removal prompt of the same training in models/embeddings, and "
            f"{'no such prompt' if facts.recipe == 'lrnr' else 'no such LoRA'} was found: choose both files on the node."
        )
    return found


def check_inputs(name: str, model: io.Model.Type, vae: io.Vae.Type, clip: io.Clip.Type) -> None:
    """Raises a ValueError where a part of the checkpoint is missing."""
    if model is None:
        raise ValueError(f"{name} needs a model and none is connected: connect Load Checkpoint's, or choose draft.")
    if vae is None:
        raise ValueError("A model is connected and no vae: connect the VAE of the same checkpoint, or Load VAE.")
    if clip is None and name != "one step":
        raise ValueError(
            "A model is connected and no clip: connect the CLIP of the same checkpoint, or Load CLIP where it holds none."
        )


def taken_for_few_steps(facts: host.Facts, steps: int) -> str:
    """The version that the model is taken for, where its build does not tell and the artist set no steps; else nothing."""
    if steps or not facts.twin:
        return ""
    return (
        "The version for few steps and the base model of this family are built alike, and this one is taken for the former: "
        f"for the base model set steps to {facts.steps}.\n"
    )

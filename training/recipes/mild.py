"""`unclutter train mild`: a LoRA for all instances and one for the background, in one network (MILD)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from ...adapters import layered
from ...kernels.layers import context_masks, foreground_weight, region_loss
from ...kernels.lowrank import BACKGROUND, PERSON
from ...kernels.morphology import LIP, parsing_one_hot
from ...kernels.regions import latent_mask
from ..base_models.base import Base, masked_grey
from ..sampling.layered import BACKGROUND_PROMPT, PERSON_PROMPT, erase_layers, fresh_adapter
from ..sampling.layered_network import LayeredNetwork
from .objective import Objective, integers, noise_like
from .recipe import Recipe, choose_preset


@dataclass(frozen=True)
class MILDRecipe(Recipe):
    """MILD: the background learns the clean picture, each instance learns itself, in its own row of the batch."""

    size: int | None = 512
    """Side of the training pictures in pixels. MILD: 512; 64 for the mini model."""
    steps: int = 20_000
    """Optimizer steps. MILD: 20,000."""
    batch: int = 4
    """Pictures an optimizer step sees. MILD: 4. Each is as many rows of the network as it has instances, and one more."""
    lora_rank: int = 16
    """Rank of both LoRAs. MILD: 16."""
    learning_rate: float = 1e-4
    """Of the LoRAs and the encoders. MILD's 1e-6 hardly moves a LoRA that starts at zero."""
    sma_learning_rate: float = 1e-3
    """Of the biases of spatially modulated attention, which are logits."""
    ramp: tuple[int, int] = (8_000, 12_000)
    """The step at which the instances' loss comes in, and the one at which it has its full weight: t0 and t1 of Eq. 4.
    MILD: t0 = 8,000."""
    foreground_weight: float = 1.0
    """λ, the weight of the instances' loss after the ramp."""
    freeze_background: bool = False
    """Give the background no more loss once the ramp is over (MILD, Appendix C)."""
    boundary: float = 0.0
    """β: the cells at an instance's border weigh 1 + β (Appendix C)."""
    gradient: float = 0.0
    """Weight of the error of differences between neighbouring cells of an instance (Appendix C)."""
    sma: bool = True
    """Spatially modulated attention. Off: ablation (Table 2)."""
    morphology: bool = True
    """Human Morphology Guidance. Off: ablation (Table 2)."""
    parsing_labels: int = LIP
    """Labels of the parsing maps, the background's included."""
    morphology_dropout: float = 0.1
    """Chance of a pose, and of a parsing map, to be withheld, so that the eraser works without them."""
    instances: int = 4
    """Most instances of a picture that a step trains, drawn at random: each costs memory."""
    occlusion: float = 1.0
    """Chance of an instance to be covered in part, in what it is shown, by the shape of another: so it learns to complete
    people, and nothing else is ever shown of its layer. 0: they only learn what is seen of them, as the paper."""
    empty_prompt: float = 0.1
    """Share of rows trained on the empty prompt and without morphology, for classifier-free guidance."""
    person_prompt: str = PERSON_PROMPT
    background_prompt: str = BACKGROUND_PROMPT

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.ramp[0] <= self.ramp[1] or self.ramp[0] >= self.steps:
            raise ValueError(
                f"ramp is {self.ramp} in {self.steps} steps: give the step at which the people's loss comes in, below "
                f"{self.steps}, and the one at which it has its full weight, no earlier."
            )
        if self.lora_alpha is not None:
            raise ValueError(f"lora_alpha is {self.lora_alpha}, and MILD learns the scale of its LoRAs: leave it out.")
        self.check("instances", "parsing_labels", least=1)
        self.check("occlusion", "empty_prompt", "morphology_dropout", least=0, most=1)
        self.check("foreground_weight", "boundary", "gradient", least=0)
        self.check_positive("sma_learning_rate")


PRESETS = {
    "recommended": (
        "learning rate 1e-4, instances that learn to be occluded",
        MILDRecipe(tyro.MISSING, tyro.MISSING),
    ),
    "paper": (
        "as the paper says, where it does: learning rate 1e-6, no occlusion",
        MILDRecipe(tyro.MISSING, tyro.MISSING, learning_rate=1e-6, sma_learning_rate=1e-6, occlusion=0.0),
    ),
    "mini": (
        "for the mini model: 1,400 steps at 64 pixels, LoRAs at 1e-3, max pooling",
        MILDRecipe(
            tyro.MISSING,
            tyro.MISSING,
            size=64,
            steps=1_400,
            micro_batch=4,
            learning_rate=1e-3,
            sma_learning_rate=1e-2,
            ramp=(200, 400),
            mask_pooling="max",
        ),
    ),
}


def choose(arguments: list[str], prog: str) -> MILDRecipe:
    """`unclutter train mild [recommended|paper|mini] --data FOLDER --output FOLDER [--field value ...]`; without a preset, as
    recommended where there is a `--base`, and for the mini model where there is none."""
    based = any(argument.split("=", 1)[0] == "--base" for argument in arguments)
    return choose_preset(PRESETS, "recommended" if based else "mini", arguments, prog)


class MILD(Objective):
    """Algorithms 1 and 2: ε-MSE of the background on the clean picture, and of each instance on itself."""

    name = "mild"
    recipe: MILDRecipe
    people = True
    """Batches carry instances, pose and parsing."""

    def __init__(self, base: Base, recipe: MILDRecipe) -> None:
        super().__init__(base, recipe)
        start = fresh_adapter(base.unet, recipe.lora_rank, recipe.sma, recipe.morphology, recipe.parsing_labels)
        self.network = LayeredNetwork(base.unet, start).to(base.unet.device)

    def forward(self, batch: dict[str, Any], generators: list[torch.Generator]) -> Tensor:
        step, (start, end) = int(batch["number"][0]), self.recipe.ramp
        weight = foreground_weight(step, start, end, self.recipe.foreground_weight)
        clean = self.encode(batch["target"])
        noise = noise_like(clean, generators)
        timesteps = integers(0, len(self.alphas_cumprod) - 1, generators).to(clean.device)
        rows: list[Row] = []
        for index, generator in enumerate(generators):
            if weight:
                rows += self.instance_rows(batch, index, generator)
            if not (self.recipe.freeze_background and step >= end):
                rows.append(self.background_row(batch, index, generator))
        losses, self.terms = clean.new_zeros(len(generators)), {}
        if not rows:  # the background is frozen, and nobody is in these pictures
            return losses.requires_grad_()
        errors, owner, is_person = self.row_losses(batch, rows, clean, noise, timesteps)
        persons, background = (errors * is_person, errors * ~is_person)
        self.terms["foreground"] = persons.detach().sum() / is_person.sum().clamp(min=1)
        self.terms["background"] = background.detach().sum() / (~is_person).sum().clamp(min=1)
        return losses.index_add(0, owner, weight * persons + background)

    def row_losses(
        self, batch: dict[str, Any], rows: list[Row], clean: Tensor, noise: Tensor, timesteps: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of each row, the picture it belongs to, and whether it is an instance's: [R] each."""
        device = clean.device
        owner = torch.tensor([row.picture for row in rows], device=device)
        branch = torch.tensor([row.branch for row in rows])
        is_person = (branch == PERSON).to(device)
        holes = torch.stack([row.hole for row in rows])
        shown = masked_grey(batch["source"][owner], torch.stack([row.hidden for row in rows]))
        size = clean.shape[-2:]
        condition = torch.cat(
            [latent_mask(holes, *size, pooling=self.recipe.mask_pooling), self.encode_once(shown)], dim=1
        )
        target = torch.where(is_person[:, None, None, None], self.encode(batch["source"])[owner], clean[owner])
        alpha = self.alphas_cumprod[timesteps[owner], None, None, None]
        noisy = alpha.sqrt() * target + (1 - alpha).sqrt() * noise[owner]
        text = self.base.texts.encode([row.prompt for row in rows], tuple(batch["source"].shape[-2:]))
        x = torch.cat([noisy, condition], dim=1)
        regions = latent_mask(holes, *size, pooling="max")[:, 0]
        tokens = self.tokens(batch, rows, owner)
        prediction = self.network(
            x, timesteps[owner], text.context.to(x.dtype), branch, regions, tokens, text.extra
        ).float()
        everywhere = (prediction - noise[owner]).square().mean(dim=(1, 2, 3))
        region = region_loss(prediction, noise[owner], regions, self.recipe.boundary, self.recipe.gradient)
        return torch.where(is_person, region, everywhere), owner, is_person

    def instance_rows(self, batch: dict[str, Any], index: int, generator: torch.Generator) -> list[Row]:
        """Some instances of picture `index`: shown it without the others, asked for themselves."""
        instances = batch["instances"][index]
        numbers = instances.unique()
        masks = (instances == numbers[numbers > 0][:, None, None]).float()
        if not len(masks):
            return []
        others = context_masks(masks)
        rows = []
        for chosen in torch.randperm(len(masks), generator=generator)[: self.recipe.instances].tolist():
            hidden = others[chosen]
            if torch.rand(1, generator=generator) < self.recipe.occlusion:
                hidden = torch.maximum(hidden, occluder(masks, chosen, generator))
            prompt, dropped = self.prompt(self.recipe.person_prompt, generator)
            withheld = torch.rand(2, generator=generator) < self.recipe.morphology_dropout
            given = (not (dropped or withheld[0]), not (dropped or withheld[1]), not dropped)
            rows.append(Row(index, PERSON, masks[chosen], hidden, prompt, given))
        return rows

    def background_row(self, batch: dict[str, Any], index: int, generator: torch.Generator) -> Row:
        prompt, _ = self.prompt(self.recipe.background_prompt, generator)
        return Row(index, BACKGROUND, batch["mask"][index], batch["mask"][index], prompt, (False, False, False))

    def prompt(self, text: str, generator: torch.Generator) -> tuple[str, bool]:
        """A row's prompt, and whether it was dropped."""
        dropped = bool(torch.rand(1, generator=generator) < self.recipe.empty_prompt)
        return "" if dropped else text, dropped

    def tokens(self, batch: dict[str, Any], rows: list[Row], owner: Tensor) -> Tensor | None:
        """Morphology of each row, null tokens where something is not given: [R, T, width]."""
        module = self.network.morphology
        if module is None or not any(row.branch == PERSON for row in rows):  # to a background tokens are null
            return None
        others = torch.stack([row.hidden for row in rows])
        tokens = module(others, batch["pose"][owner], parsing_one_hot(batch["parsing"][owner], module.labels))
        given = torch.tensor([row.given for row in rows])
        counts = torch.tensor([part.count for part in (module.pose, module.parsing, module.others)])
        return tokens * given.repeat_interleave(counts, dim=1)[..., None].to(tokens.device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        named = self.trained()
        biases = [parameter for name, parameter in named.items() if name.endswith(".sma")]
        scales = [parameter for name, parameter in named.items() if name.endswith(".alpha")]
        rest = [parameter for name, parameter in named.items() if not name.endswith((".sma", ".alpha"))]
        groups = [
            {"params": rest, "lr": self.recipe.learning_rate},
            {"params": scales, "lr": self.recipe.learning_rate, "weight_decay": 0.0},
            {"params": biases, "lr": self.recipe.sma_learning_rate, "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def save(self, folder: Path, step: int) -> None:
        metadata = self.metadata(step) | {
            "unclutter.guidance": "cfg 5",
            "unclutter.prompts": json.dumps([self.recipe.person_prompt, self.recipe.background_prompt]),
        }
        layered.save(folder / "layered.safetensors", self.network.adapter(metadata))

    def erase(self, source: Tensor, mask: Tensor) -> Tensor:
        """The backgrounds, which are what is there when everyone is removed."""
        prompts = (self.recipe.person_prompt, self.recipe.background_prompt)
        adapter = self.network.adapter(self.metadata(0))
        pictures = zip(source, mask, strict=True)
        erased = (
            erase_layers(self.base, adapter, one, hole[None], wanted=[], prompts=prompts) for one, hole in pictures
        )
        return torch.stack([background for _, background in erased])


@dataclass(frozen=True)
class Row:
    """One row of the network.

    Attributes:
        picture: which of the batch.
        branch: PERSON or BACKGROUND.
        hole: [H, W], what it makes.
        hidden: [H, W], what it is not shown.
        given: whether it gets pose, parsing and the mask of the others.
    """

    picture: int
    branch: int
    hole: Tensor
    hidden: Tensor
    prompt: str
    given: tuple[bool, bool, bool]


def occluder(masks: Tensor, chosen: int, generator: torch.Generator) -> Tensor:
    """The shape of some instance [N, H, W], moved so that its middle lies in instance `chosen`: [H, W]."""
    shape = masks[int(torch.randint(len(masks), (1,), generator=generator))]
    places, middle = masks[chosen].nonzero().cpu(), shape.nonzero().float().mean(dim=0).round().long().cpu()
    place = places[int(torch.randint(len(places), (1,), generator=generator))]
    down, across = (place - middle).tolist()
    rolled = shape.roll((down, across), dims=(0, 1))
    # What left the picture on one side does not come in on the other.
    height, width = shape.shape
    rows, columns = torch.arange(height, device=shape.device), torch.arange(width, device=shape.device)
    inside = (rows - down >= 0) & (rows - down < height)
    return rolled * inside[:, None] * ((columns - across >= 0) & (columns - across < width))

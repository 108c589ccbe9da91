"""`unclutter train mild`: a LoRA for all instances and one for the background, in one network (MILD)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...adapters import layered
from ...kernels.layers import context_masks
from ...kernels.lowrank import BACKGROUND, PERSON
from ...kernels.morphology import parsing_one_hot
from ...kernels.regions import latent_mask
from ..base_models.base import Base, masked_grey
from ..data.sample import Sample
from ..sampling.layered import erase_backgrounds, fresh_adapter
from ..sampling.layered_network import LayeredNetwork
from .layer_losses import foreground_weight, region_loss
from .mild_settings import MILDRecipe
from .objective import Objective, integers, noise_like


class MILD(Objective):
    """Algorithms 1 and 2: ε-MSE of the background on the clean picture, and of each instance on itself."""

    name = "mild"
    recipe: MILDRecipe
    people = True
    """Batches carry instances, pose and parsing."""
    leaves_parameters_unused = True

    def __init__(self, base: Base, recipe: MILDRecipe) -> None:
        super().__init__(base, recipe)
        start = fresh_adapter(base.network, recipe.lora_rank, recipe.sma, recipe.morphology, recipe.parsing_labels)
        self.network = LayeredNetwork(base.network, start).to(base.network.device)

    def notes(self, samples: list[Sample]) -> list[str]:
        data, notes = self.recipe.data, []
        if whole := sum(sample.instance_masks is None for sample in samples):
            notes.append(
                f"{whole} of {len(samples)} pairs in {data} have no instance_masks: the mask of each is taken as one person."
            )
        if self.recipe.morphology and not any(sample.pose or sample.parsing for sample in samples):
            notes.append(
                f"No pair in {data} has a pose or a parsing, and of the body encoders only that of the other people's masks "
                "learns: --no-morphology leaves all of them out."
            )
        return notes

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
        prompt, dropped = self.prompt(self.recipe.background_prompt, generator)
        given = (False, False, False)
        if self.recipe.background_morphology:
            withheld = torch.rand(2, generator=generator) < self.recipe.morphology_dropout
            given = (not (dropped or withheld[0]), not (dropped or withheld[1]), False)
        return Row(index, BACKGROUND, batch["mask"][index], batch["mask"][index], prompt, given)

    def prompt(self, text: str, generator: torch.Generator) -> tuple[str, bool]:
        """A row's prompt, and whether it was dropped."""
        dropped = bool(torch.rand(1, generator=generator) < self.recipe.empty_prompt)
        return "" if dropped else text, dropped

    def tokens(self, batch: dict[str, Any], rows: list[Row], owner: Tensor) -> Tensor | None:
        """Morphology of each row, null tokens where something is not given: [R, T, width]."""
        module = self.network.morphology
        if module is None or not any(row.branch == PERSON or any(row.given) for row in rows):
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
        layered.save(folder / "layered.safetensors", self.network.adapter(self.file_metadata(step)))

    def file_metadata(self, step: int) -> dict[str, str]:
        prompts = json.dumps([self.recipe.person_prompt, self.recipe.background_prompt])
        given = str(self.recipe.background_morphology).lower()
        side = str(self.recipe.size or self.base.native_size)
        own = {
            "unclutter.prompts": prompts,
            "unclutter.background_morphology": given,
            "unclutter.resolution": side,
        }
        return self.metadata(step) | {"unclutter.guidance": "cfg 5", **own}

    def erase(self, source: Tensor, mask: Tensor, progress: Callable[[Iterable], Iterable] = iter) -> Tensor:
        """The backgrounds, which are what is there when everyone is removed."""
        adapter = self.network.adapter(self.file_metadata(0))
        return erase_backgrounds(self.base, adapter, source, mask, progress=progress)


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

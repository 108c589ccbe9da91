"""`unclutter train osor`: an eraser that needs one call of the network, in OSOR's two phases (arXiv 2606.28094).

Phase 1 learns to fill what a true mask marks, phase 2 to find out by itself what an incomplete mask leaves out: the
shadow, the rest of the object. A step is an update of the generator (a LoRA and the network's last layer) on one batch
and one of the discriminator's heads on the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from ....adapters import files, one_step
from ....adapters.methods import ONE_STEP_PROMPT as PROMPT
from ....kernels.onestep import blend
from ....kernels.regions import latent_mask
from ...base_models.base import Base
from ...base_models.text import Prompt
from ...sampling.one_step import denoise_once, run_once, with_rows
from ..objective import AlternatingLoss, Objective, noise_like
from .discriminator import (
    Discriminator,
    adversarial_loss,
    discriminator_loss,
    guidance_maps,
    load_trunk,
    r1_penalty,
)
from .incomplete_masks import incomplete_masks
from .perceptual import load_lpips
from .settings import OSORRecipe

GENERATOR = AlternatingLoss("generator", largest_norm=1.0)
DISCRIMINATOR = AlternatingLoss("discriminator", largest_norm=math.inf)
ADAPTER, HEADS = "one_step.safetensors", "discriminator.safetensors"


class OSOR(Objective):
    """`L_G` and `L_D` in turn (Equations 7 to 16)."""

    name = "osor"
    losses = (GENERATOR, DISCRIMINATOR)
    leaves_parameters_unused = True
    predictions = ("epsilon", "flow")
    recipe: OSORRecipe

    def __init__(self, base: Base, recipe: OSORRecipe) -> None:
        super().__init__(replace(base, condition_image="full"), recipe)
        self.family = base.family
        if self.family is not recipe.family:
            raise ValueError(
                f"backbone is {recipe.backbone} and the base has the shape of {self.family.title}: choose a preset of its kind, "
                "or another base."
            )
        self.short_side = not self.family.eraser_side_is_long
        if recipe.phase == 1:
            self.mask_key = "effect_mask"
        device = base.network.device
        self.add_lora(self.family.lora_targets)
        last = last_layer(self.last, self.family.alpha_rows if recipe.predicts_alpha else 0, self.corrects)
        setattr(self.unet, self.family.last_layer, last.to(device))
        trunk = load_trunk(recipe.trunk, recipe.trunk_weights, recipe.missing_weights, base.network.dtype)
        self.discriminator = Discriminator(trunk, recipe.discriminator_width, recipe.discriminator_scale).to(device)
        self.perceptual = None
        if recipe.lpips_weight:
            self.perceptual = load_lpips(recipe.lpips_network, recipe.lpips_weights, recipe.missing_weights).to(device)
        self.loss = GENERATOR
        self.texts: dict[tuple[int, int], Prompt] = {}
        if recipe.start is not None and not recipe.resume:
            self.continue_from(recipe.start)

    @property
    def corrects(self) -> bool:
        """Whether the network predicts a correction to the shown latent."""
        return self.recipe.prediction == "correction"

    @property
    def last(self) -> Any:
        """The network's last layer."""
        return getattr(self.unet, self.family.last_layer)

    def begin(self, loss: AlternatingLoss) -> None:
        self.loss = loss
        if loss is DISCRIMINATOR:
            self.discriminator.advance()

    def forward(self, batch: dict[str, Any], generators: list[torch.Generator]) -> Tensor:
        if self.loss is DISCRIMINATOR:
            with torch.no_grad():
                erased, _ = self.generate(batch, generators)
            return self.discriminate(erased, batch)
        erased, logits = self.generate(batch, generators)
        true, mask = 2 * batch["target"] - 1, batch["effect_mask"]
        with without_gradient(self.discriminator.heads):
            judged = self.discriminator(erased)
        recipe = self.recipe
        weights = {"adversarial": recipe.adversarial_weight, "reconstruction": recipe.reconstruction_weight}
        terms = {
            "adversarial": adversarial_loss(judged, self.guidance(mask, judged)),
            "reconstruction": reconstruction_loss(erased, true, mask),
        }
        if self.perceptual is not None:
            weights["lpips"], terms["lpips"] = recipe.lpips_weight, self.perceptual(erased, true).flatten()
        if logits is not None:
            weights |= {"bce": recipe.bce_weight, "dice": recipe.dice_weight}
            terms["bce"], terms["dice"] = alpha_losses(logits, mask)
        self.terms = {name: term.detach().mean() for name, term in terms.items()}
        return sum((weights[name] * term for name, term in terms.items()), torch.zeros_like(terms["adversarial"]))

    def discriminate(self, erased: Tensor, batch: dict[str, Any]) -> Tensor:
        """L_D (Eq. 7) with R1 (Eq. 16), [B]."""
        with torch.no_grad():
            painted = self.discriminator.features(erased)
            real = self.discriminator.features(2 * batch["target"] - 1)
        real = [feature.requires_grad_() for feature in real]
        judged, fake = self.discriminator.judge(real), self.discriminator.judge(painted)
        penalty = r1_penalty(judged, real)
        loss = discriminator_loss(judged, fake, self.guidance(batch["effect_mask"], fake))
        self.terms = {"r1": penalty.detach().mean()}
        return loss + self.recipe.r1_weight * penalty

    def generate(self, batch: dict[str, Any], generators: list[torch.Generator]) -> tuple[Tensor, Tensor | None]:
        """x̂ [B, 3, H, W] in about -1..1, and the alpha's logits [B, 1, h, w] in phase 2."""
        shown = batch["effect_mask"]
        if self.recipe.phase == 2:
            shown = incomplete_masks(shown, batch["mask"], self.recipe.incomplete, generators)
        shot = self.encode(batch["source"])
        hole = latent_mask(shown, *shot.shape[-2:], pooling=self.recipe.mask_pooling)
        noise, text = noise_like(shot, generators), self.prompt(*shown.shape[-2:])
        clean, logits = denoise_once(self.base, shot, shown, hole, noise, self.recipe.timestep, text, self.corrects)
        alpha = hole if logits is None else logits.sigmoid()
        with torch.autocast(shot.device.type, enabled=False):
            return self.base.decode(blend(clean, shot, alpha).float()), logits

    def prompt(self, height: int, width: int) -> Prompt:
        """The one prompt, encoded once for each size of pictures."""
        if (height, width) not in self.texts:
            with torch.no_grad():
                self.texts[height, width] = self.base.texts.encode([PROMPT], (height, width))
        return self.texts[height, width]

    def guidance(self, mask: Tensor, logits: list[Tensor]) -> list[Tensor]:
        return guidance_maps(mask, logits, self.recipe.guidance, self.recipe.guidance_sigma)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [
            {"params": self.lora_parameters(), "lr": self.recipe.learning_rate},
            {"params": list(self.discriminator.heads.parameters()), "lr": self.recipe.discriminator_learning_rate},
        ]

    def state(self) -> dict[str, Tensor]:
        heads = self.discriminator.heads.state_dict(prefix="discriminator.heads.")
        return {**self.trained(), **{name: value for name, value in heads.items() if name.endswith(("._u", "._v"))}}

    def save(self, folder: Path, step: int) -> None:
        """The eraser, as One-Step Erase loads it, and the discriminator's heads, for the next phase."""
        metadata = self.metadata(step) | {
            "unclutter.guidance": "cfg 1",
            "unclutter.phase": "2" if self.recipe.predicts_alpha else "1",
            "unclutter.timestep": str(self.recipe.timestep),
            "unclutter.prediction": self.recipe.prediction,
            "unclutter.resolution": str(self.recipe.size or self.base.native_size),
            "unclutter.prompt": PROMPT,
        }
        if self.family.shows_mask_pixels:
            metadata["unclutter.mask_pooling"] = "none"
        terminal = {name: value.detach().cpu() for name, value in self.last.named_parameters()}
        size = self.base.native_size
        text = self.prompt(size, size)
        encoded = {"prompt_embeds": text.context, "pooled_prompt_embeds": text.extra.get("text_embeds")}
        prompt = {name: value.float().cpu() for name, value in encoded.items() if value is not None}
        eraser = one_step.OneStep(self.family.name, self.lora_pairs(), terminal, metadata, prompt)
        one_step.save(folder / ADAPTER, eraser)
        heads = self.discriminator.heads.state_dict()
        files.write_safetensors(folder / HEADS, heads, {"format": "pt", "unclutter.kind": "osor.discriminator"})

    def erase(self, source: Tensor, mask: Tensor, progress: Callable[[Iterable], Iterable] = iter) -> Tensor:
        types = {"bf16": torch.bfloat16, "fp16": torch.float16}
        dtype = types.get(self.recipe.mixed_precision)
        with torch.autocast(self.unet.device.type, dtype=dtype, enabled=dtype is not None):
            return run_once(self.base, source, mask, timestep=self.recipe.timestep, corrects=self.corrects).picture

    @torch.no_grad()
    def continue_from(self, start: Path) -> None:
        """Take over what another training has learned."""
        adapter = one_step.load(start / ADAPTER if start.is_dir() else start)
        if adapter.corrects != self.corrects:
            theirs = "correction" if adapter.corrects else "noise"
            raise ValueError(
                f"{start} predicts {theirs} and prediction is {self.recipe.prediction}: give --prediction {theirs}."
            )
        own, last = get_peft_model_state_dict(self.unet), self.last
        learned = {}
        scale = (self.recipe.lora_alpha or self.recipe.lora_rank) / self.recipe.lora_rank
        for path, pair in adapter.lora.items():
            learned[f"{path}.lora_A.weight"] = pair.down
            learned[f"{path}.lora_B.weight"] = pair.up * (pair.alpha / len(pair.down) / scale)
        found = sum(name in own and own[name].shape == value.shape for name, value in learned.items())
        rows = adapter.terminal["weight"]
        if found < len(own) or len(learned) > len(own) or rows.shape[1:] != last.weight.shape[1:]:
            raise ValueError(
                f"{start} fits {found} of this LoRA's {len(own)} factors, expected all: give an eraser of this base, of "
                f"rank {self.recipe.lora_rank} (it has {adapter.rank})."
            )
        if len(rows) > len(last.weight):
            raise ValueError(
                f"{start} predicts an alpha and phase {self.recipe.phase} has none: continue it in phase 2."
            )
        for name, value in learned.items():
            own[name].copy_(value)
        last.weight[: len(rows)].copy_(rows)
        last.bias[: len(rows)].copy_(adapter.terminal["bias"])
        if start.is_dir():
            heads, _ = files.read_safetensors(start / HEADS)
            shapes = {name: value.shape for name, value in self.discriminator.heads.state_dict().items()}
            if shapes != {name: value.shape for name, value in heads.items()}:
                raise ValueError(
                    f"{start / HEADS} is of a discriminator on another network: give the same trunk, or {ADAPTER} alone."
                )
            self.discriminator.heads.load_state_dict(heads)


def last_layer(layer: nn.Conv2d | nn.Linear, alpha_rows: int, corrects: bool = False) -> nn.Conv2d | nn.Linear:
    """The network's last layer in fp32, to be trained; with more rows for the alpha, whose bias of 0 makes it start around
    one half. For corrections its other rows are zero, so that at first the shown latent stays as it is."""
    rows = len(layer.weight)
    made = with_rows(layer, rows + alpha_rows)
    weight, bias = made.parameters()
    nn.init.kaiming_normal_(weight, nonlinearity="relu")
    nn.init.zeros_(bias)
    with torch.no_grad():
        for own, given in zip((weight, bias), layer.parameters(), strict=True):
            own[:rows].copy_(torch.zeros_like(given) if corrects else given)
    return made


def reconstruction_loss(erased: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """L_rec (Eq. 9), [B]: absolute error inside mask [B, H, W], summed over channels, by the mask's area."""
    inside = (mask[:, None] * (erased - true).abs()).sum(dim=(1, 2, 3))
    return inside / mask.sum(dim=(1, 2)).clamp(min=1e-4)


def alpha_losses(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """BCE and Dice of the alpha (Eq. 14), both [B]; Dice is one number of all pictures together.

    Args:
        logits: [B, 1, h, w].
        mask: [B, H, W] of 0 and 1, max-pooled here.
    """
    logits = logits.float()
    target = latent_mask(mask, *logits.shape[-2:], pooling="max")
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(1, 2, 3))
    alpha = logits.sigmoid()
    dice = 1 - (2 * (alpha * target).sum() + 1) / (alpha.sum() + target.sum() + 1)
    return bce, dice.expand(len(bce))


@contextmanager
def without_gradient(module: nn.Module) -> Iterator[None]:
    """Gradients pass through a module and leave none in it, in what is computed inside."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)

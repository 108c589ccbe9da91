"""`unclutter train lrnr`: a removal prompt and a LoRA that leave a hole empty."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...adapters import methods as facts
from ...adapters import prompt
from ..base_models.base import Base
from ..base_models.mini import is_mini
from ..base_models.text import Texts, initial_vectors, removal_prompt
from ..sampling.methods import MASG, Method
from .lrnr_settings import LRNRRecipe
from .objective import Objective, integers, noise_like


class LRNR(Objective):
    """ε-MSE on `[noisy target, mask, whole source]` (LRNR): the network sees what it is to remove."""

    name = "lrnr"
    recipe: LRNRRecipe

    def __init__(self, base: Base, recipe: LRNRRecipe) -> None:
        super().__init__(replace(base, condition_image="full"), recipe)
        if recipe.prompt_tokens:
            check_room(base.texts, recipe)
        self.add_lora()
        self.removal = nn.ParameterDict(
            {
                encoder.name: nn.Parameter(initial_vectors(encoder, recipe.prompt_tokens))
                for encoder in base.texts.encoders
                if recipe.prompt_tokens
            }
        )
        self.base.texts.removal = dict(self.removal.items())

    def forward(self, batch: dict[str, Any], generators: list[torch.Generator]) -> Tensor:
        clean = self.encode(batch["target"])
        noise = noise_like(clean, generators)
        timesteps = integers(0, len(self.alphas_cumprod) - 1, generators).to(clean.device)
        alpha = self.alphas_cumprod[timesteps, None, None, None]
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        prompts = [self.caption(generator) for generator in generators]
        prediction = self.predict_noise(noisy, self.condition(batch["source"], batch["mask"]), timesteps, prompts)
        # A batch of empty prompts leaves the removal prompt without a gradient, which distributed training refuses.
        unused = sum(vectors.sum() for vectors in self.removal.values()) * 0
        return (prediction - noise).square().mean(dim=(1, 2, 3)) + unused

    def caption(self, generator: torch.Generator) -> str:
        if not self.removal or torch.rand(1, generator=generator) < self.recipe.empty_prompt:
            return ""
        words = self.recipe.enhancers
        kept = torch.rand(len(words), generator=generator) < self.recipe.enhancer_share
        order = torch.randperm(len(words), generator=generator)
        return removal_prompt([words[i] for i in order.tolist() if kept[i]], self.recipe.prompt_first)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [
            {"params": self.lora_parameters(), "lr": self.recipe.learning_rate},
            {"params": list(self.removal.values()), "lr": self.recipe.prompt_learning_rate, "weight_decay": 0.0},
        ]

    def save(self, folder: Path, step: int) -> None:
        metadata = self.metadata(step) | {"unclutter.guidance": f"masg {self.guidance:g} to 1"}
        self.save_lora(folder, metadata)
        if not self.removal:
            return
        vectors = {name: value.detach().float().cpu() for name, value in self.removal.items()}
        learned = prompt.RemovalPrompt(vectors, self.recipe.enhancers, self.recipe.prompt_first, metadata)
        prompt.save(folder / "prompt.safetensors", learned)

    def sample_method(self) -> tuple[Method, str]:
        text = removal_prompt(self.recipe.enhancers, self.recipe.prompt_first) if self.removal else ""
        return MASG(self.guidance), text

    @property
    def guidance(self) -> float:
        """LRNR's, or what the mini model bears."""
        base = self.recipe.base
        return facts.LRNR.mini_strength if base is None or is_mini(base) else facts.LRNR.strength


def check_room(texts: Texts, recipe: LRNRRecipe) -> None:
    """Raises ValueError where the prompt with all its words is longer than a text encoder takes."""
    for encoder in texts.encoders:
        words = encoder.tokenizer(", ".join(recipe.enhancers), add_special_tokens=False, verbose=False).input_ids
        length, room = recipe.prompt_tokens + len(words), encoder.tokenizer.model_max_length - 2
        if length > room:
            raise ValueError(
                f"The removal prompt and its {len(recipe.enhancers)} enhancing words are {length} tokens for {encoder.name}, "
                f"expected at most {room}: give fewer --enhancers or --prompt-tokens."
            )

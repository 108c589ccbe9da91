"""A network with its adapters, and the loss that they are trained on."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from ...adapters import lora
from ...adapters.names import QKV
from ...kernels.regions import latent_mask
from ..base_models.base import Base, masked_grey
from ..data.sample import Sample
from ..sampling.methods import Method, Plain
from ..sampling.sampler import remove
from .latent_cache import LatentCache
from .recipe import Recipe


@dataclass(frozen=True)
class AlternatingLoss:
    """One of the losses that take turns in a step; each has a batch of its own and trains parameters of its own.

    Attributes:
        name: of the loss in the log.
        largest_norm: that the gradient is clipped to.
    """

    name: str = "loss"
    largest_norm: float = 1.0


class Objective(nn.Module, ABC):
    """A network with its adapters, and the loss they are trained on."""

    name: str
    """Of the recipe, as in `unclutter train NAME` and in the files' metadata."""
    losses: tuple[AlternatingLoss, ...] = (AlternatingLoss(),)
    """The losses of a step, in their order. Parameters that a loss does not reach stay as they are while it is learned from."""
    predictions: tuple[str, ...] = ("epsilon",)
    """Predictions of a base that the objective can train: "epsilon" is the noise, "flow" the velocity."""
    mask_key = "mask"
    """The mask of a batch that the sample sheets erase with."""
    people = False
    """Whether batches hold instance masks, poses and parsings too."""
    leaves_parameters_unused = False
    """Whether a pass may leave some of the trained parameters without a gradient, which distributed training has to know."""
    short_side = False
    """Whether the recipe's size is the pictures' shorter side, or the square root of their area."""
    alphas_cumprod: Tensor

    def __init__(self, base: Base, recipe: Recipe) -> None:
        super().__init__()
        if not base.inpaints:
            raise ValueError(
                f"The base takes {base.network.config['in_channels']} channels, expected an inpainting model with "
                f"{2 * base.network.config['out_channels'] + 1}: give the inpainting version of the checkpoint."
            )
        prediction = base.schedule["prediction_type"]
        if prediction not in self.predictions:
            expected = " or ".join(self.predictions)
            raise ValueError(f"The base predicts {prediction}, expected {expected}: give such a base.")
        self.base, self.recipe = replace(base, mask_pooling=recipe.mask_pooling), recipe
        kept = recipe.latent_cache
        self.latents = LatentCache(self.encode_once, kept) if kept else self.encode_once
        self.terms: dict[str, Tensor] = {}  # of the last pass's loss, for the log
        self.unet = base.network
        if prediction == "epsilon":
            noising = DDPMScheduler(**base.schedule).alphas_cumprod.to(base.network.device, torch.float32)
            self.register_buffer("alphas_cumprod", noising, persistent=False)

    @abstractmethod
    def forward(self, batch: dict[str, Any], generators: list[torch.Generator]) -> Tensor:
        """The loss of each picture, [B]; everything random in row b comes from the CPU generator `generators[b]`."""

    def begin(self, loss: AlternatingLoss) -> None:  # noqa: B027
        """Called once before the passes of a loss, in every process."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trained parameters, as groups for AdamW."""

    @abstractmethod
    def save(self, folder: Path, step: int) -> None:
        """Write the adapters as files that ComfyUI's stock nodes load."""

    def notes(self, samples: list[Sample]) -> list[str]:
        """Notes for the user about what these pairs lack, a sentence each: it may be meant so."""
        return []

    def sample_method(self) -> tuple[Method, str]:
        """How to remove with what was learned: a method and a prompt."""
        return Plain(), ""

    def erase(self, source: Tensor, mask: Tensor, progress: Callable[[Iterable], Iterable] = iter) -> Tensor:
        """Pictures [B, 3, H, W] in 0..1 without what mask [B, H, W] marks, by what was learned so far; `progress` wraps the
        steps of sampling."""
        method, text = self.sample_method()
        return remove(self.base, source, mask, method, positive=text, progress=progress)

    def trained(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def state(self) -> dict[str, Tensor]:
        """All that changes in training, for a resumed one: what is trained, and buffers that move along."""
        return {**self.trained()}

    def add_lora(self, targets: tuple[str, ...] = QKV) -> None:
        """LoRA on the modules whose paths end in one of `targets`; all other weights stay as they are, bit for bit.

        By default on Q, K and V of self- and cross-attention, as LRNR: 35.80 M parameters at rank 32 on SDXL.
        """
        rank, alpha = self.recipe.lora_rank, self.recipe.lora_alpha or self.recipe.lora_rank
        config = LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=list(targets))
        self.unet.add_adapter(config)
        for parameter in self.lora_parameters():
            parameter.data = parameter.data.float()

    def lora_parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.unet.parameters() if parameter.requires_grad]

    def lora_pairs(self) -> dict[str, lora.LoraPair]:
        """The trained LoRA, by the path of the module in the network."""
        state = get_peft_model_state_dict(self.unet)
        alpha = float(self.recipe.lora_alpha or self.recipe.lora_rank)
        return {
            key.removesuffix(".lora_A.weight"): lora.LoraPair(
                down.float().cpu(), state[key.replace(".lora_A.", ".lora_B.")].float().cpu(), alpha
            )
            for key, down in state.items()
            if key.endswith(".lora_A.weight")
        }

    def save_lora(self, folder: Path, metadata: dict[str, str]) -> None:
        pairs = {f"unet.{module}": pair for module, pair in self.lora_pairs().items()}
        lora.save(folder / "lora.safetensors", lora.Lora(pairs, metadata))

    def metadata(self, step: int) -> dict[str, str]:
        """The header of a file: how it was made, and how it wants to be used (`adapters/header.py`)."""
        return {
            "unclutter.method": self.name,
            "unclutter.base": self.recipe.values()["base"],
            "unclutter.condition_image": self.base.condition_image,
            "unclutter.mask_pooling": self.recipe.mask_pooling,
            "unclutter.steps": str(step),
            "unclutter.rank": str(self.recipe.lora_rank),
            "unclutter.recipe": json.dumps(self.recipe.values()),
        }

    def encode(self, picture: Tensor) -> Tensor:
        """Scaled latents of pictures [B, 3, H, W] in 0..1."""
        return self.latents(picture)

    def encode_once(self, picture: Tensor) -> Tensor:
        """The same for a picture that does not come again, such as one with a random hole."""
        # A VAE that is kept in fp32 is so because it overflows in fp16.
        with torch.no_grad(), torch.autocast(picture.device.type, enabled=False):
            return self.base.encode(2 * picture - 1).float()

    def condition(self, shown: Tensor, hole: Tensor) -> Tensor:
        """The mask channel and the latent of what the network is shown: [B, 1 + C, h, w].

        Args:
            shown: [B, 3, H, W] in 0..1, the whole picture.
            hole: [B, H, W] in {0, 1}.
        """
        full = self.base.condition_image == "full"
        latent = self.encode(shown) if full else self.encode_once(masked_grey(shown, hole))
        return torch.cat([latent_mask(hole, *latent.shape[-2:], pooling=self.recipe.mask_pooling), latent], dim=1)

    def predict_noise(self, noisy: Tensor, condition: Tensor, timesteps: Tensor, prompts: list[str]) -> Tensor:
        """ε of noisy latents [B, C, h, w] at `timesteps` [B]."""
        factor = self.base.multiple // 2 ** (len(self.unet.config["block_out_channels"]) - 1)
        size = (noisy.shape[-2] * factor, noisy.shape[-1] * factor)
        text = self.base.texts.encode(prompts, size)
        x = torch.cat([noisy, condition], dim=1)
        extra = text.extra or None
        return self.unet(x, timesteps, text.context.to(x.dtype), added_cond_kwargs=extra).sample.float()


def noise_like(latents: Tensor, generators: list[torch.Generator]) -> Tensor:
    """Normal noise, each row from its own generator on the CPU: the same on every device and in every batch."""
    return torch.stack([torch.randn(latents.shape[1:], generator=generator) for generator in generators]).to(latents)


def integers(low: int, high: int, generators: list[torch.Generator]) -> Tensor:
    """One integer a row in low..high, both included: [B]."""
    return torch.cat([torch.randint(low, high + 1, (1,), generator=generator) for generator in generators])

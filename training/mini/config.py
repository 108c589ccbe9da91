"""The settings of `unclutter train mini`, and its presets."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ...kernels.vocabulary import Difficulty
from ..paths import check_folder
from ..recipes.recipe import choose_preset


@dataclass(frozen=True)
class MiniConfig:
    """The mini model and how it is trained. `CPU` and `GPU` are the presets."""

    size: int = 128
    """Side of the drawn scenes in pixels."""
    difficulties: tuple[Difficulty, ...] = ("smooth", "texture", "clutter")
    """Scenes that it is trained on, a batch of each in turn."""
    patch: int = 8
    """Side in pixels of the patch that a latent cell stands for, where there is no trained VAE."""
    latent_channels: int = 48
    """Principal components of patches (`kernels/patches.py`); they cost no training. A trained VAE has four channels."""
    vae_channels: tuple[int, int, int, int] | None = None
    """Channels of the four levels of a trained VAE of factor 8, multiples of 32 and of the first level's. None: no VAE, but
    principal components."""
    vae_steps: int = 6000
    vae_batch: int = 64
    unet_channels: tuple[int, ...] = (96, 96)
    """Channels of each level of the network, multiples of 32 and of the first level's."""
    transformer_depth: tuple[int, ...] = (1, 2)
    """Transformer blocks after each residual block, level by level."""
    text_width: int = 64
    text_layers: int = 2
    steps: int = 40_000
    """Optimizer steps of the inpainting network. A finished training goes on with more of them and --resume."""
    batch: int = 16
    draws_per_scene: int = 2
    """Noise draws that each scene is used for."""
    learning_rate: float = 1e-3
    """Reached after a warm-up of 300 steps, and kept; over the last `decay` of the steps it falls to nothing."""
    decay: float = 0.2
    """Share of the steps in which the learning rate falls."""
    ema: float = 0.999
    """Decay of the moving average of the weights, which is what is written."""
    object_masks: float = 0.4
    """Share of holes that are an object of the scene."""
    empty_masks: float = 0.3
    """Share of holes with the shape of an object that is not there: the shape alone must not tell what to draw.
    The rest is random."""
    empty_caption: float = 0.2
    """Share of captions dropped, for classifier-free guidance."""
    outside: float = 0.2
    """Weight of the loss outside of the hole, where the network is shown the answer."""
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    """auto: bf16 where the GPU or the CPU computes in it, as CPUs with AVX512-BF16 or AMX do."""
    initial: Path | None = None
    """Folder of a mini model of the same structure whose weights, autoencoder and words to start from; None: from nothing."""
    seed: int = 0
    output: Path = Path("runs/mini")
    """Folder that receives the weights, `training_log.jsonl` and `state.pt` to resume from."""
    save_every: int = 200
    """Steps between states that a killed training resumes from."""
    sample_every: int = 1000
    """Steps between fills of unseen scenes, measured and drawn; 0 for none."""
    resume: bool = False
    """Continue the training that lies in `output`."""

    def __post_init__(self) -> None:
        factor = self.vae_factor * 2 ** (len(self.unet_channels) - 1)
        if self.size % factor:
            raise ValueError(f"size is {self.size}, expected a multiple of {factor} for these levels.")
        if any(channels % self.unet_channels[0] or channels % 32 for channels in self.unet_channels):
            raise ValueError(
                f"unet_channels is {self.unet_channels}: every level must be a multiple of 32 and of the first level."
            )
        if len(self.unet_channels) != len(self.transformer_depth):
            raise ValueError(
                f"unet_channels has {len(self.unet_channels)} levels and transformer_depth {len(self.transformer_depth)}: "
                "give both one entry a level."
            )
        if not self.difficulties:
            raise ValueError("difficulties is empty, expected at least one of objects, smooth, texture and clutter.")
        if min(self.steps, self.batch, self.draws_per_scene, self.save_every) < 1 or not 0 < self.decay <= 1:
            raise ValueError("steps, batch, draws_per_scene and save_every must be at least 1, and decay in 0 to 1.")

    @property
    def vae_factor(self) -> int:
        """Pixels a latent cell covers."""
        return 8 if self.vae_channels else self.patch

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return 4 if self.vae_channels else self.latent_channels

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        falling = max(1, round(self.decay * self.steps))
        return self.learning_rate * min(1.0, (step + 1) / 300, (self.steps - step) / falling)

    def check(self) -> None:
        if self.initial is not None:
            check_folder(self.initial, "a mini model")

    def values(self) -> dict[str, Any]:
        """The settings that decide the weights, as plain JSON values."""
        others = ("output", "save_every", "sample_every", "resume", "initial")
        return json.loads(json.dumps({key: value for key, value in asdict(self).items() if key not in others}))


CPU = MiniConfig()
GPU = MiniConfig(
    size=256,
    vae_channels=(32, 64, 64, 128),
    unet_channels=(64, 128, 192),
    transformer_depth=(1, 2, 2),
    steps=20_000,
    batch=128,
    draws_per_scene=1,
)
PRESETS = {
    "cpu": ("128×128 scenes, hours on two cores; it can be stopped and resumed", CPU),
    "gpu": ("256×256 scenes with a trained VAE, ten to twenty minutes on one GPU", GPU),
}


def choose(arguments: list[str], prog: str) -> MiniConfig:
    """`unclutter train mini [cpu|gpu] [--field value ...]`; without a preset, the one that fits the machine."""
    config = choose_preset(PRESETS, "cpu", arguments, prog)
    if arguments and arguments[0] in PRESETS:
        return config
    # Only now, when the arguments are known to be right: PyTorch takes seconds to import.
    import torch

    return choose_preset(PRESETS, "gpu", arguments, prog) if torch.cuda.is_available() else config

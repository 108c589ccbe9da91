"""`unclutter train mini`: the mini model from nothing, on drawn scenes (`scenes.py`).

A small VAE, then an SDXL-shaped inpainting network (latent, mask and masked latent in; self- and cross-attention)
together with its text encoder. It is trained as SDXL-inpainting was, on random and object-shaped holes whose target is the picture itself,
so it has the same vice: it redraws what was masked.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel, compute_snr
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from ..adapters import mini as mini_files
from ..kernels.regions import grow, latent_mask
from ..kernels.scene_layers import Scenes
from ..kernels.scenes import draw_scenes
from .holes import random_masks
from .mini_text import build_text_encoder, build_tokenizer, tokenize
from .mini_vae import Encode, fit_patches, train_vae
from .sampling import load_mini


@dataclass(frozen=True)
class MiniConfig:
    """The mini model and how it is trained. `CPU` and `GPU` are the presets."""

    size: int = 64
    """Side of the drawn scenes in pixels."""
    vae_channels: tuple[int, int, int, int] | None = None
    """Channels of the four levels of a trained VAE of factor 8, multiples of 32 and of the first level's.
    None: no VAE but 12 principal components of 4×4 patches, which cost no training (`kernels/patches.py`)."""
    vae_steps: int = 6000
    vae_batch: int = 64
    unet_channels: tuple[int, ...] = (64, 64)
    """Channels of each level of the network, multiples of 32 and of the first level's."""
    transformer_depth: tuple[int, ...] = (1, 2)
    """Transformer blocks after each residual block, level by level."""
    text_width: int = 64
    text_layers: int = 2
    steps: int = 6000
    """Optimizer steps of the inpainting network."""
    batch: int = 16
    draws_per_scene: int = 2
    """Noise draws each scene is used for: drawing and encoding cost about as much as a step."""
    learning_rate: float = 1e-3
    """Peak of the cosine schedule, after a warm-up of 2 % of the steps."""
    object_masks: float = 0.4
    """Share of holes that are an object of the scene."""
    empty_masks: float = 0.3
    """Share of holes with the shape of an object that is not there: the shape alone must not tell what to draw.
    The rest is random."""
    empty_caption: float = 0.2
    """Share of captions dropped, for classifier-free guidance."""
    mixed_precision: str = "no"
    """"no" or "bf16"."""
    initial: Path | None = None
    """Folder of a mini model of the same structure to go on from; None: from nothing."""
    seed: int = 0
    output: Path = Path("runs/mini")
    """Folder that receives the weights and `training_log.jsonl`; it must not hold a model."""

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

    @property
    def vae_factor(self) -> int:
        """Pixels a latent cell covers."""
        return 8 if self.vae_channels else 4

    @property
    def latent_channels(self) -> int:
        return 4 if self.vae_channels else 12


CPU = MiniConfig()
GPU = MiniConfig(
    size=256,
    vae_channels=(32, 64, 64, 128),
    unet_channels=(64, 128, 192),
    transformer_depth=(1, 2, 2),
    steps=20000,
    batch=128,
    draws_per_scene=1,
    mixed_precision="bf16",
)


def train_mini(config: MiniConfig = CPU) -> None:
    """Train the VAE, then the network, and write both to `config.output` as they get better.

    Raises:
        ValueError: the output folder holds a model, which a training would write over.
        FloatingPointError: the loss is no longer finite.
    """
    if (config.output / "unet.safetensors").exists():
        raise ValueError(f"{config.output} holds a model: give another folder with --output, or move it away.")
    set_seed(config.seed)
    accelerator = Accelerator(mixed_precision=config.mixed_precision)
    base = load_mini(config.initial, str(accelerator.device)) if config.initial else None
    log = Log(config.output / "training_log.jsonl")
    settings = {key: value for key, value in asdict(config).items() if key not in ("output", "initial")}
    log.write(event="start", config=settings, goes_on=base is not None, device=str(accelerator.device))
    if config.initial and base:
        (encoder,) = base.texts.encoders
        shutil.copyfile(config.initial / "vae.safetensors", config.output / "vae.safetensors")
        shutil.copytree(config.initial / "tokenizer", config.output / "tokenizer", dirs_exist_ok=True)
        train_unet(config, accelerator, base.encode, base.unet, encoder.module, encoder.tokenizer, log)
    else:
        tokenizer = build_tokenizer(config.output / "tokenizer")
        encode = train_vae(config, accelerator, log) if config.vae_channels else fit_patches(config, accelerator, log)
        unet = build_unet(config)
        text_encoder = build_text_encoder(tokenizer, config.text_width, config.text_layers)
        train_unet(config, accelerator, encode, unet, text_encoder, tokenizer, log)
    accelerator.print(
        f"Wrote {config.output}. To use it, copy all of it over {mini_files.FOLDER}, and train the adapters in loras and "
        "embeddings there anew: they fit the old model."
    )


class Log:
    """One JSON object a line: what was trained, how far, at which loss."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w")
        self.start = time.monotonic()

    def write(self, **entry: object) -> None:
        self.file.write(json.dumps({"seconds": round(time.monotonic() - self.start, 1), **entry}) + "\n")
        self.file.flush()


def train_unet(
    config: MiniConfig,
    accelerator: Accelerator,
    encode: Encode,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    log: Log,
) -> None:
    """ε-prediction on `[noisy latent, mask, latent of the picture with a grey hole]`, as SDXL-inpainting."""
    parameters = [*unet.train().requires_grad_().parameters(), *text_encoder.train().requires_grad_().parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    schedule = get_cosine_schedule_with_warmup(optimizer, config.steps // 50, config.steps)
    unet, text_encoder, optimizer = accelerator.prepare(unet, text_encoder, optimizer)
    ema = EMAModel(parameters, decay=0.998, use_ema_warmup=True, power=0.75)
    noise_schedule = DDPMScheduler(**mini_files.SCHEDULE)
    # 1/√SNR (Yu et al., Debias the Training of Diffusion Models, 2023): plain ε-prediction hardly learns the noisy
    # end, where an error in the noise is 15 times as large in the picture, and a small network never catches up.
    weights = compute_snr(noise_schedule, torch.arange(noise_schedule.config["num_train_timesteps"])).rsqrt()
    log.write(event="unet", parameters=sum(p.numel() for p in parameters))

    def write() -> None:
        ema.store(parameters)
        ema.copy_to(parameters)
        text = accelerator.unwrap_model(text_encoder)
        # Releases of transformers differ in whether the keys carry this prefix; the file always does.
        weights = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in text.state_dict().items()}
        mini_files.save(config.output, "text_encoder", weights, text.config.to_dict())
        network = accelerator.unwrap_model(unet)
        mini_files.save(config.output, "unet", network.state_dict(), dict(network.config))
        ema.restore(parameters)

    batches = inpainting_batches(config, encode, torch.Generator(accelerator.device).manual_seed(config.seed + 1))
    progress = tqdm(range(config.steps), desc="network", disable=not accelerator.is_local_main_process)
    recent: list[float] = []
    for step, (latents, condition, captions) in zip(progress, batches, strict=False):
        noise = torch.randn_like(latents)
        timesteps = torch.randint(
            0, noise_schedule.config["num_train_timesteps"], (len(latents),), device=latents.device
        )
        noisy = noise_schedule.add_noise(latents, noise, timesteps)
        with accelerator.autocast():
            context = text_encoder(tokenize(tokenizer, captions).to(latents.device)).last_hidden_state
            prediction = unet(torch.cat([noisy, condition], dim=1), timesteps, context).sample
        errors = (prediction.float() - noise).square().mean(dim=(1, 2, 3))
        loss = (errors * weights.to(errors.device)[timesteps]).mean()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"The loss is {loss.item()} at step {step}: lower learning_rate and start again.")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        ema.step(parameters)
        recent.append(errors.mean().item())
        if (step + 1) % 50 == 0 or step == config.steps - 1:
            mean = sum(recent) / len(recent)
            recent.clear()
            progress.set_postfix(loss=f"{mean:.4f}")
            log.write(event="unet", step=step + 1, loss=mean)
        if (step + 1) % 500 == 0 or step == config.steps - 1:
            write()


def inpainting_batches(
    config: MiniConfig, encode: Encode, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """Endless latents [B, C, h, w], condition [B, 1 + C, h, w] (mask, latent with a grey hole) and captions."""
    words = random.Random(config.seed)
    while True:
        scenes = draw_scenes(config.batch, config.size, generator)
        picture, index = 2 * scenes.picture() - 1, scenes.pick_object(generator)
        holes, of_object = draw_holes(config, scenes, index, generator)
        with torch.no_grad():
            pair = torch.cat([picture, picture * (1 - holes[:, None])])
            latents, masked = encode(pair).chunk(2)
        condition = torch.cat([latent_mask(holes, *latents.shape[-2:], pooling="max"), masked], dim=1)
        for _ in range(config.draws_per_scene):
            captions = [
                draw_caption(words, config, scenes, row, int(index[row]), bool(of_object[row]))
                for row in range(config.batch)
            ]
            yield latents, condition, captions


def draw_holes(config: MiniConfig, scenes: Scenes, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Holes [B, H, W] in {0, 1}, and which of them are object `index` ([B] bool)."""
    rows = torch.arange(len(index), device=index.device)
    kind = torch.rand(len(index), generator=generator, device=index.device)
    shaped = grow(scenes.instance_masks()[rows, index], pixels=config.size / 64)
    # The next scene's object: its place and shape, whatever lies there in this one.
    shaped = torch.where((kind < config.object_masks)[:, None, None], shaped, shaped.roll(1, dims=0))
    random_hole = kind >= config.object_masks + config.empty_masks
    holes = torch.where(random_hole[:, None, None], random_masks(len(index), config.size, generator), shaped)
    return holes, kind < config.object_masks


def draw_caption(words: random.Random, config: MiniConfig, scenes: Scenes, row: int, slot: int, of_object: bool) -> str:
    """The whole scene, or what lies in the hole, or nothing."""
    if words.random() < config.empty_caption:
        return ""
    if words.random() < 0.5:
        return scenes.caption(row)
    return scenes.object_caption(row, slot) if of_object else scenes.ground_caption(row)


def build_unet(config: MiniConfig) -> UNet2DConditionModel:
    levels = len(config.unet_channels)
    return UNet2DConditionModel(
        sample_size=config.size // config.vae_factor,
        in_channels=2 * config.latent_channels + 1,
        out_channels=config.latent_channels,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        block_out_channels=config.unet_channels,
        layers_per_block=1,
        transformer_layers_per_block=config.transformer_depth,
        cross_attention_dim=config.text_width,
        attention_head_dim=tuple(channels // 32 for channels in config.unet_channels),  # diffusers means heads
        use_linear_projection=True,
    )

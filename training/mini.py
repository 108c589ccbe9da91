"""`unclutter train mini`: the mini model from nothing, on drawn scenes (`scenes.py`).

A small VAE, then an SDXL-shaped inpainting network (latent, mask and masked latent in; self- and cross-attention)
together with its text encoder. It is trained as SDXL-inpainting was, on random and object-shaped holes whose target is the picture itself,
so it has the same vice: it redraws what was masked.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel, compute_snr
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..adapters import mini as mini_files
from ..kernels.patches import fit_patch_autoencoder
from ..kernels.regions import grow, latent_mask
from .sampling import load_mini
from .scenes import COLOURS, COUNTS, KINDS, TEXTURES, Scenes, draw_scenes, random_masks


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
    output: Path = field(default=mini_files.FOLDER)
    """Folder that receives the weights and `training_log.jsonl`."""

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
    """Train the VAE, then the network, and write both to `config.output` as they get better."""
    set_seed(config.seed)
    accelerator = Accelerator(mixed_precision=config.mixed_precision)
    log = Log(config.output / "training_log.jsonl")
    settings = {key: value for key, value in asdict(config).items() if key not in ("output", "initial")}
    log.write(event="start", config=settings, goes_on=config.initial is not None, device=str(accelerator.device))
    if config.initial:
        base = load_mini(config.initial, str(accelerator.device))
        (encoder,) = base.texts.encoders
        shutil.copyfile(config.initial / "vae.safetensors", config.output / "vae.safetensors")
        shutil.copytree(config.initial / "tokenizer", config.output / "tokenizer", dirs_exist_ok=True)
        train_unet(config, accelerator, base.encode, base.unet, encoder.module, encoder.tokenizer, log)
        return
    tokenizer = build_tokenizer(config.output / "tokenizer")
    encode = train_vae(config, accelerator, log) if config.vae_channels else fit_patches(config, accelerator, log)
    train_unet(config, accelerator, encode, build_unet(config), build_text_encoder(config, tokenizer), tokenizer, log)


class Log:
    """One JSON object a line: what was trained, how far, at which loss."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w")
        self.start = time.monotonic()

    def write(self, **entry: object) -> None:
        self.file.write(json.dumps({"seconds": round(time.monotonic() - self.start, 1), **entry}) + "\n")
        self.file.flush()


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer in which every word of the captions, and "remove", is one token."""
    words = [*KINDS, *COLOURS, *TEXTURES, *COUNTS, "on", "background", "objects", "empty", "remove", "shadow"]
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.Whitespace()
    trained.train_from_iterator(
        [" ".join(words)] * 2, trainers.BpeTrainer(vocab_size=4096, end_of_word_suffix="</w>", show_progress=False)
    )
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *(a + b for a, b in merges)]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>"})
    )
    return CLIPTokenizer.from_pretrained(folder)


Encode = Callable[[Tensor], Tensor]
"""Pictures [B, 3, H, W] in -1..1 -> scaled latents."""


def fit_patches(config: MiniConfig, accelerator: Accelerator, log: Log) -> Encode:
    """Principal components of patches in place of a VAE."""
    generator = torch.Generator(accelerator.device).manual_seed(config.seed)
    pictures = torch.cat([2 * draw_scenes(64, config.size, generator).picture() - 1 for _ in range(16)])
    autoencoder = fit_patch_autoencoder(pictures, config.latent_channels, config.vae_factor).to(accelerator.device)
    unseen = 2 * draw_scenes(64, config.size, generator).picture() - 1
    error = (autoencoder.decode(autoencoder.encode(unseen)) - unseen).square().mean().item()
    log.write(event="patches", psnr=-10 * math.log10(error / 4))
    structure = {"class": "PatchAutoencoder", "channels": config.latent_channels, "patch": config.vae_factor}
    mini_files.save(config.output, "vae", autoencoder.state_dict(), structure, {})
    return autoencoder.encode


def train_vae(config: MiniConfig, accelerator: Accelerator, log: Log) -> Encode:
    """A 4-channel VAE on L1 + squared error and a light KL term; its scaling factor makes latents unit variance."""
    assert config.vae_channels
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(config.vae_channels),
        up_block_types=("UpDecoderBlock2D",) * len(config.vae_channels),
        block_out_channels=config.vae_channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=32,
        sample_size=config.size,
        force_upcast=False,
    )
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, config.vae_steps // 50, config.vae_steps)
    model, optimizer = accelerator.prepare(vae, optimizer)
    generator = torch.Generator(accelerator.device).manual_seed(config.seed)
    progress = tqdm(range(config.vae_steps), desc="VAE", disable=not accelerator.is_local_main_process)
    for step in progress:
        picture = 2 * draw_scenes(config.vae_batch, config.size, generator).picture() - 1
        holes = random_masks(config.vae_batch, config.size, generator)
        holes[config.vae_batch // 4 :] = 0  # a quarter is shown with the grey hole that the network will be shown
        picture = picture * (1 - holes[:, None])
        with accelerator.autocast():
            posterior = vae.encode(picture).latent_dist
            decoded = vae.decode(posterior.sample()).sample
        error = decoded.float() - picture
        loss = error.abs().mean() + 4 * error.square().mean() + 1e-6 * posterior.kl().mean()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == config.vae_steps - 1:
            psnr = -10 * math.log10(float(error.detach().square().mean()) / 4)
            progress.set_postfix(psnr=f"{psnr:.1f} dB")
            log.write(event="vae", step=step, loss=loss.item(), psnr=psnr)
    vae.eval().requires_grad_(False)
    pictures = torch.cat([draw_scenes(16, config.size, generator).picture() for _ in range(8)])
    latents = vae.encode(2 * pictures - 1).latent_dist.mean
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    structure = {"class": "AutoencoderKL", **plain_config(vae.config)}
    mini_files.save(config.output, "vae", vae.state_dict(), structure, {})
    return lambda pictures: vae.encode(pictures).latent_dist.mean * vae.config.scaling_factor


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
        mini_files.save(config.output, "text_encoder", weights, plain_config(text.config), {})
        network = accelerator.unwrap_model(unet)
        mini_files.save(config.output, "unet", network.state_dict(), plain_config(network.config), {})
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


def build_text_encoder(config: MiniConfig, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.text_width,
            intermediate_size=4 * config.text_width,
            num_hidden_layers=config.text_layers,
            num_attention_heads=2,
            projection_dim=config.text_width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids [B, 77]."""
    return tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


def plain_config(config) -> dict:
    """A diffusers or transformers config as plain JSON values, without the paths and versions of this machine."""
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return {key: value for key, value in values.items() if not key.startswith("_") and _is_json(value)}


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True

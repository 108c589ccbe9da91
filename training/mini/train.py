"""The training of the mini model: an autoencoder, then an SDXL-shaped inpainting network with its text encoder.

The network is shown the mask and the picture with a grey hole. It is trained as SDXL-inpainting was, on random and
object-shaped holes whose target is the picture itself, so it has the same vice: it redraws what was masked.
"""

from __future__ import annotations

import math
import shutil
from typing import Any

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTokenizer

from ...adapters import mini as mini_files
from ...kernels import seeds
from ..base_models.mini import load_mini, mini_autoencoder
from ..paths import STATE
from ..recipes.run_folder import check_same, only_training_in, read_state, stop_on_signal, write_state
from .batches import Batch, training_batch
from .config import CPU, MiniConfig
from .network import PlainAttention, build_unet, half_precision
from .progress import Log, fill_unseen
from .text import build_text_encoder, build_tokenizer, tokenize
from .vae import Encode, fit_patches, train_vae


def train_mini(config: MiniConfig = CPU) -> None:
    """Train the autoencoder, then the network, and write both to `config.output` as they get better.

    Raises:
        ValueError: the output folder holds a model that a training would write over, or the training of another one.
        FloatingPointError: the loss is no longer finite.
        InterruptedError: SIGTERM or Ctrl-C; the state was saved and `resume` continues.
    """
    folder = config.output
    state_file, vae_file = folder / STATE, folder / "vae.safetensors"
    if not config.resume and ((folder / "unet.safetensors").exists() or state_file.exists()):
        raise ValueError(
            f"{folder} holds a model: give another folder with --output, or --resume to continue its training."
        )
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with only_training_in(folder):
        state = state_of(config, device) if config.resume and state_file.exists() else None
        step = state["step"] if state else 0
        torch.manual_seed(config.seed)
        log = Log(folder / "training_log.jsonl", step)
        log.write(event="start", step=step, config=config.values(), device=device.type)
        if config.initial and not vae_file.exists():
            shutil.copytree(config.initial / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
            shutil.copyfile(config.initial / vae_file.name, vae_file)
        if vae_file.exists():
            weights, structure, _ = mini_files.load_part(folder, "vae")
            encode, _, _ = mini_autoencoder(weights, structure, str(device))
        else:
            encode = train_vae(config, device, log) if config.vae_channels else fit_patches(config, device, log)
        train_network(config, device, encode, log, state)
    print(
        f"Wrote {folder}. To use it, copy its safetensors files and its tokenizer over those in {mini_files.FOLDER}, and train "
        "the adapters in loras and embeddings there anew: they fit the old model."
    )


def train_network(
    config: MiniConfig, device: torch.device, encode: Encode, log: Log, state: dict[str, Any] | None
) -> None:
    """Train ε-prediction on `[noisy latent, mask, latent of the picture with a grey hole]`, as SDXL-inpainting.

    Args:
        state: of the training to continue.
    """
    words = config.output / "tokenizer"
    tokenizer = CLIPTokenizer.from_pretrained(words) if (words / "vocab.json").exists() else build_tokenizer(words)
    torch.manual_seed(config.seed)
    unet = build_unet(config).to(device).train()
    text_encoder = build_text_encoder(tokenizer, config.text_width, config.text_layers).to(device).train()
    if device.type == "cpu":
        unet.set_attn_processor(PlainAttention())
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    averages = [parameter.detach().clone() for parameter in parameters]
    start = 0
    if config.initial and not state:
        base = load_mini(config.initial, str(device))
        unet.load_state_dict(base.network.state_dict())
        text_encoder.load_state_dict(base.texts.encoders[0].module.state_dict())
        averages = [parameter.detach().clone() for parameter in parameters]
    if state:
        unet.load_state_dict(state["unet"])
        text_encoder.load_state_dict(state["text_encoder"])
        optimizer.load_state_dict(state["optimizer"])
        averages, start = [average.to(device) for average in state["averages"]], state["step"]
    log.write(event="network", step=start, parameters=sum(parameter.numel() for parameter in parameters))

    schedule = DDPMScheduler(**mini_files.SCHEDULE)
    # 1/√SNR (Yu et al., Debias the Training of Diffusion Models, 2023): plain ε-prediction hardly learns the noisy
    # end, where an error in the noise is 15 times as large in the picture, and a small network never catches up.
    weights = compute_snr(schedule, torch.arange(schedule.config["num_train_timesteps"])).rsqrt().to(device)
    alphas = schedule.alphas_cumprod.to(device)
    half = half_precision(config, device)

    def loss_of(step: int, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of a step, and the mean squared error of the noise in the holes."""
        generator = seeds.generator(config.seed, step, device=device)
        noise = torch.randn(batch.latents.shape, generator=generator, device=device)
        timesteps = torch.randint(len(alphas), (config.batch,), generator=generator, device=device)
        alpha = alphas[timesteps, None, None, None]
        noisy = alpha.sqrt() * batch.latents + (1 - alpha).sqrt() * noise
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            context = text_encoder(tokenize(tokenizer, batch.captions).to(device)).last_hidden_state
            prediction = unet(torch.cat([noisy, batch.holes, batch.masked], dim=1), timesteps, context).sample
        errors = (prediction.float() - noise).square()
        where = config.outside + (1 - config.outside) * batch.holes
        loss = ((where * errors).mean(dim=(1, 2, 3)) * weights[timesteps]).mean()
        return loss, (errors * batch.holes).mean().detach() / batch.holes.mean()

    def save(step: int) -> None:
        averaged = iter(averages)
        for part, module in (("unet", unet), ("text_encoder", text_encoder)):
            values = {name: next(averaged).half() for name, _ in module.named_parameters()}
            if part == "text_encoder":
                # Releases of transformers differ in whether the keys carry this prefix; the file always does.
                values = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in values.items()}
            structure = dict(module.config) if part == "unet" else module.config.to_dict()
            mini_files.save(config.output, part, values, structure)
        # The state last: killed in between, a resumed training writes all again.
        kept = {"unet": unet.state_dict(), "text_encoder": text_encoder.state_dict(), "averages": averages}
        kept |= {"optimizer": optimizer.state_dict(), "config": config.values(), "step": step}
        write_state(config.output, kept)

    progress = tqdm(range(start, config.steps), initial=start, total=config.steps, desc="network")
    batch, drawn = None, -1
    losses: list[tuple[Tensor, Tensor]] = []
    with stop_on_signal() as stopped:
        for step in progress:
            if batch is None or drawn != step // config.draws_per_scene:
                drawn = step // config.draws_per_scene
                batch = training_batch(config, encode, drawn, device)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate_at(step)
            loss, error = loss_of(step, batch)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            # The average of the first steps is a short one.
            pace = 1 - min(config.ema, (step + 1) / (step + 10))
            for average, parameter in zip(averages, parameters, strict=True):
                average.lerp_(parameter.detach(), pace)
            losses.append((loss.detach(), error))
            done = step + 1
            last = done == config.steps or stopped.is_set()
            if done % 50 == 0 or last:
                means = [torch.stack(values).mean().item() for values in zip(*losses, strict=True)]
                losses.clear()
                if not all(map(math.isfinite, means)):
                    raise FloatingPointError(
                        f"The loss is {means[0]} before step {done}: start again with a lower learning_rate."
                    )
                progress.set_postfix(loss=f"{means[0]:.4f}")
                log.write(step=done, samples=done * config.batch, loss=means[0], noise_error_in_hole=means[1])
            if done % config.save_every == 0 or last:
                save(done)
            if config.sample_every and (done % config.sample_every == 0 or done == config.steps):
                save(done)
                log.write(step=done, samples=done * config.batch, **fill_unseen(config, done, device))
            if stopped.is_set():
                raise InterruptedError(f"Stopped at step {done}, and saved: the same command with --resume continues.")


def state_of(config: MiniConfig, device: torch.device) -> dict[str, Any]:
    """The state of the training in the output folder.

    Raises:
        ValueError: it was made with other settings.
    """
    state = read_state(config.output, ("step", "config", "averages", "optimizer"), device)
    check_same(config.output, state["config"], config.values(), {"steps", "decay", "learning_rate"})
    return state

"""The mini model as diffusers modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ...adapters import mini
from ...kernels.patches import PatchAutoencoder
from .base import Base, vae_calls
from .text import TextEncoder, Texts
from .unet import UNetBase


def load_mini(path: Path = mini.FOLDER, device: str = "cpu") -> Base:
    """The mini model as diffusers modules, in fp32."""
    files = mini.load(path)
    unet = UNet2DConditionModel.from_config(files.configs["unet"])
    unet.load_state_dict(files.weights["unet"])
    text_encoder = CLIPTextModel(CLIPTextConfig.from_dict(files.configs["text_encoder"]))
    weights = files.weights["text_encoder"]
    # Releases of transformers differ in whether the module's keys carry this prefix; the file's always do.
    keys = {key: f"text_model.{key.removeprefix('text_model.')}" for key in text_encoder.state_dict()}
    text_encoder.load_state_dict({key: weights[stored] for key, stored in keys.items()})
    for module in (unet, text_encoder):
        module.to(device).eval().requires_grad_(False)
    texts = Texts((TextEncoder("clip_l", CLIPTokenizer.from_pretrained(files.tokenizer), text_encoder),))
    encode, decode, factor = mini_autoencoder(files.weights["vae"], files.configs["vae"], device)
    levels = len(files.configs["unet"]["block_out_channels"])
    return UNetBase(
        network=unet,
        encode=encode,
        decode=decode,
        schedule=mini.SCHEDULE,
        texts=texts,
        multiple=factor * 2 ** (levels - 1),
        native_size=factor * files.configs["unet"]["sample_size"],
    )


def is_mini(path: Path) -> bool:
    """Whether a folder holds a mini model, such as the output of `unclutter train mini`."""
    return all((path / f"{part}.safetensors").is_file() for part in mini.PARTS)


def mini_autoencoder(
    weights: dict[str, Tensor], config: dict, device: str
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], int]:
    """Encode, decode, and how many pixels a latent cell covers, of the mini model's VAE or patches."""
    structure = dict(config)
    if structure.pop("class") == "AutoencoderKL":
        vae = AutoencoderKL.from_config(structure)
        vae.load_state_dict(weights)
        return *vae_calls(vae.to(device).eval().requires_grad_(False)), 8
    patches = PatchAutoencoder(structure["channels"], structure["patch"])
    patches.load_state_dict(weights)
    patches.to(device)
    return patches.encode, patches.decode, patches.patch

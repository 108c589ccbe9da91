"""One-step erasing (OSOR): its adapter on a model, and its one call of the network as a sampler."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import comfy.lora
import comfy.patcher_extension
import comfy.samplers
import comfy.utils
import torch
from torch import Tensor

from ...adapters import one_step
from ...adapters.families import Family
from ...adapters.header import Header
from ...adapters.lora import foreign_modules
from ...kernels import finite, onestep
from .common import set_condition_image
from .families import HostFamily, family_of

ERASER = "unclutter_one_step"
COLLECT = "unclutter_alpha"
"""In a call's transformer_options: who wants the alpha's logits."""


@dataclasses.dataclass(frozen=True, eq=False)
class Eraser:
    """The eraser on a model, as Load One-Step Eraser left it.

    conditioning    the eraser's prompt, where a text encoder or the file gave it
    context         width of the text features that the network takes
    """

    family: Family
    phase: int
    metadata: dict[str, str]
    conditioning: list | None
    context: int

    def sigmas(self, timestep: int) -> Tensor:
        """The noise at the timestep, then none, as samplers take them; 0 is the timestep of the training."""
        header = Header(self.metadata)
        trained = header.timestep
        timestep = timestep or trained
        if header.stated("timestep") and timestep != trained:
            logging.getLogger("unclutter").warning(
                "The one-step eraser was trained with timestep %d and runs with %d: set 0 to take the file's.",
                trained,
                timestep,
            )
        return torch.tensor([onestep.noise_level(timestep, self.family.prediction).sigma, 0.0])


@dataclasses.dataclass(frozen=True, eq=False)
class LastLayer:
    """The eraser's last layer, in place of the `forward` of the network's own. As that layer stays where it is, whatever
    loads, casts, offloads or saves the model is not concerned; each call takes these few kilobytes to the device and
    dtype it runs in."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x), self.bias.to(x)
        if weight.ndim == 2:
            return torch.nn.functional.linear(x, weight, bias)
        return torch.nn.functional.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


@dataclasses.dataclass(frozen=True)
class SplitAlpha:
    """Takes the alpha's logits off the network's output, before any sampling maths sees them."""

    channels: int

    def __call__(self, executor: Any, x: Tensor, timestep: Tensor, context: Tensor, *rest: Any, **more: Any) -> Tensor:
        out, options = executor(x, timestep, context, *rest, **more), rest[-1]
        rows = out[:, self.channels :].chunk(len(options["cond_or_uncond"]))
        for index, logits in zip(options["cond_or_uncond"], rows, strict=True):
            if index == 0 and COLLECT in options:
                options[COLLECT](logits)
        return out[:, : self.channels]


@dataclasses.dataclass(frozen=True)
class CorrectionAsNoise:
    """Hands on what the network predicts, a correction to the latent that it is shown, as the noise which that amounts to."""

    channels: int

    def __call__(self, executor: Any, x: Tensor, timestep: Tensor, *rest: Any, **more: Any) -> Tensor:
        out, count = executor(x, timestep, *rest, **more), self.channels
        noisy, shown = x[:, :count].float(), x[:, count + 1 : 2 * count + 1].float()
        level = onestep.noise_level(round(float(timestep[0])), "epsilon")
        noise = onestep.noise_of_correction(noisy, shown, out[:, :count].float(), level)
        return torch.cat([noise.to(out), out[:, count:]], dim=1)


class OneStepSampler(comfy.samplers.Sampler):
    """One call of the network from the noised picture to its estimate without the object, blended by the predicted alpha,
    where there is one, and held outside of the noise mask, where there is one.

    `keep_alpha` is handed the alpha [B,1,h,w] of each run; to samplers of a graph nobody listens.
    """

    def __init__(self, strength: float, keep_alpha: Callable[[Tensor], Any] | None = None) -> None:
        self.strength = strength
        self.keep_alpha = keep_alpha

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict,
        callback: Callable | None,
        noise: Tensor,
        latent_image: Tensor,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        if len(sigmas) != 2 or sigmas[1] != 0:
            raise ValueError(
                f"{len(sigmas)} sigmas came, expected two, the last of them 0: take those of One-Step Sampler."
            )
        found: list[Tensor] = []
        options = extra_args["model_options"]
        if ERASER not in options:
            raise ValueError(
                "The guider's model has no one-step eraser: connect the model of Load One-Step Eraser to it."
            )
        predicts_alpha = options[ERASER].phase > 1
        options = {**options, "transformer_options": {**options["transformer_options"], COLLECT: found.append}}
        noisy = model_wrap.inner_model.model_sampling.noise_scaling(sigmas[0], noise, latent_image)
        clean = model_wrap(noisy, sigmas[:1].expand(len(noisy)), model_options=options, seed=extra_args["seed"])
        if predicts_alpha:
            if not found or any(logits.shape[-2:] != latent_image.shape[-2:] for logits in found):
                raise ValueError(
                    "The guider's conditioning leaves out parts of the picture or this timestep: connect one without an "
                    "area, a mask and a timestep range."
                )
            logits = torch.stack(found).float().mean(dim=0)
            alpha = onestep.alpha_from_logits(logits, self.strength)
            if self.keep_alpha is not None:
                self.keep_alpha(alpha)
            clean = onestep.blend(clean, latent_image, alpha)
        if denoise_mask is not None:
            clean = onestep.blend(clean, latent_image, denoise_mask)
        finite.check_finite(clean, "The network's result")
        if callback is not None:
            callback(0, clean, noisy, 1)
        return clean


def with_one_step(model: Any, file: one_step.OneStep, clip: Any, name: str) -> Any:
    """A clone of the model with the eraser read from the file `name`; a model it does not fit is a ValueError."""
    network, latent = model.model.diffusion_model, model.model.latent_format.latent_channels
    ours = family_of(network)
    if ours is None or ours.facts is not file.family:
        raise ValueError(
            f"{name} is made for {file.family.title} and the model is {'another' if ours is None else ours.facts.title} "
            f"({type(model.model).__name__}): load the other model, or the file made for this one."
        )
    channels = file.family.inpainting_channels(latent)
    if network.in_channels != channels:
        raise ValueError(
            f"The model takes {network.in_channels} channels and a one-step eraser needs an inpainting one with {channels}: "
            "load SDXL Inpainting 0.1 or FLUX.1 Fill."
        )
    if ERASER in model.model_options:
        raise ValueError("The model has a one-step eraser already: keep one Load One-Step Eraser.")
    clone = model.clone()
    add_lora(clone, file, name, ours)
    add_last_layer(clone, file, latent, name, ours)
    conditioning, width = conditioning_of(file, clip), ours.context_width(model.model)
    clone.model_options[ERASER] = Eraser(file.family, file.phase, file.metadata, conditioning, width)
    return clone


def add_lora(model: Any, file: one_step.OneStep, name: str, ours: HostFamily) -> None:
    """Patches the model with the file's LoRA, all of it, by ComfyUI's own machinery."""
    config = model.model.model_config.unet_config
    paths = ours.to_diffusers(config)
    keys = {path.removesuffix(".weight"): key for path, key in paths.items() if path.endswith(".weight")}
    network = model.model.diffusion_model
    targets, shapes, factors = {}, {}, {}
    for module, pair in file.lora.items():
        # FLUX's q, k, v and mlp are slices of one weight: (key, (dimension, start, length)).
        place = keys.get(module)
        key, part = place[:2] if isinstance(place, tuple) else (place, None)
        shape = shape_of(network, key)
        shapes[module] = shape if part is None else (part[2], *shape[1:])
        targets[module] = f"diffusion_model.{key}" if part is None else (f"diffusion_model.{key}", part)
        factors |= {f"{module}.lora_up.weight": pair.up, f"{module}.lora_down.weight": pair.down}
        factors[f"{module}.alpha"] = torch.tensor(pair.alpha)
    if wrong := foreign_modules(file.lora, shapes):
        raise ValueError(
            f"{len(file.lora) - len(wrong)} of {len(file.lora)} LoRA modules in {name} fit this model; not {', '.join(wrong[:3])}"
            f"{', ...' if len(wrong) > 3 else ''}: load the base model that the file was trained on."
        )
    model.add_patches(comfy.lora.load_lora(factors, targets))


def shape_of(network: Any, key: str | None) -> torch.Size:
    """The shape of a weight as its layer knows it: a state_dict would give that of the packed bytes of a quantised one (GGUF,
    NVFP4). Without such a layer it is empty."""
    try:
        return torch.Size() if key is None else comfy.utils.get_attr(network, key).shape
    except AttributeError:
        return torch.Size()


def add_last_layer(model: Any, file: one_step.OneStep, latent_channels: int, name: str, ours: HostFamily) -> None:
    key = ours.last_layer
    own, weight = model.get_model_object(key).weight, file.terminal["weight"]
    if weight.shape[1:] != own.shape[1:] or len(weight) != len(own) + file.alpha_rows:
        raise ValueError(
            f"The last layer in {name} is {list(weight.shape)} and the model's {list(own.shape)}: "
            "load the base model that the file was trained on."
        )
    model.add_object_patch(f"{key}.forward", LastLayer(weight, file.terminal["bias"]))
    # The first of them is the outermost: it takes the alpha off what the second hands on.
    wrappers = [SplitAlpha(latent_channels)] if file.alpha_rows else []
    wrappers += [CorrectionAsNoise(latent_channels)] if file.corrects else []
    for wrapper in wrappers:
        comfy.patcher_extension.add_wrapper_with_key(
            comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL,
            "unclutter_one_step",
            wrapper,
            model.model_options,
            is_model_options=True,
        )


def conditioning_of(file: one_step.OneStep, clip: Any) -> list | None:
    """The fixed prompt, by the text encoder that is connected, else as the file brings it."""
    if clip is not None:
        if file.family.prompt_length is not None:
            clip = clip.clone()
            # As OSOR was trained: the network sees T5's padding, so its length counts.
            clip.set_tokenizer_option("t5xxl_min_length", file.family.prompt_length)
        text = file.header.prompt
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))
    if "prompt_embeds" not in file.prompt:
        return None
    pooled = file.prompt.get("pooled_prompt_embeds")
    return [[file.prompt["prompt_embeds"].float(), {} if pooled is None else {"pooled_output": pooled.float()}]]


def eraser_of(model: Any) -> Eraser:
    """The eraser that Load One-Step Eraser put on the model."""
    if ERASER not in model.model_options:
        raise ValueError("The model has no one-step eraser: put Load One-Step Eraser before this node.")
    return model.model_options[ERASER]


def erase_latent(
    model: Any,
    conditioning: list,
    latent: Tensor,
    mask: Tensor,
    cells: Tensor,
    noise: Tensor,
    sigmas: Tensor,
    strength: float,
) -> tuple[Tensor, Tensor]:
    """One run over one latent.

    Args:
        latent, noise: [1,C,h,w], as the VAE encodes.
        mask: [1,H,W] of 0 and 1 at the size of the picture, and `cells` [1,1,h,w] at that of the latent.

    Returns:
        The latent [1,C,h,w] without the object, and the alpha [1,1,h,w] by which it was blended.
    """
    eraser = eraser_of(model)
    conditioning = set_condition_image(
        conditioning, latent, mask[:, None] if eraser.family.shows_mask_pixels else cells
    )
    if (guidance := eraser.family.guidance) is not None:
        conditioning = [[features, {"guidance": guidance, **values}] for features, values in conditioning]
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({"positive": conditioning})
    found: list[Tensor] = []
    hard = cells if eraser.phase == 1 else None
    sampler = OneStepSampler(strength, found.append)
    clean = guider.sample(noise, latent, sampler, sigmas, denoise_mask=hard, disable_pbar=True, seed=0)
    return clean.to(latent), cells if hard is not None else found[0].to(latent.device)

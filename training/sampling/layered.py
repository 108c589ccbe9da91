"""Layers of a scene with a diffusers network: one batch row for each instance, one for the background (MILD)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ...adapters.layered import Layered
from ...adapters.lora import LoraPair
from ...adapters.methods import LAYERED_GUIDANCE, LAYERED_STEPS
from ...kernels.crowd import row_regions
from ...kernels.finite import check_finite
from ...kernels.layers import check_indices
from ...kernels.lowrank import BACKGROUND, PERSON
from ...kernels.morphology import HumanMorphology, parsing_one_hot, row_tokens
from ...kernels.regions import latent_mask
from ...kernels.vocabulary import LIP
from ..base_models.base import Base, masked_grey
from .layered_network import LayeredNetwork, projection_shapes
from .methods import guided
from .sampler import euler, starting_scale


@torch.inference_mode()
def erase_layers(
    base: Base,
    layered: Layered,
    image: Tensor,
    masks: Tensor,
    *,
    holes: Tensor | None = None,
    wanted: Iterable[int] | None = None,
    pose: Tensor | None = None,
    parsing: Tensor | None = None,
    prompts: tuple[str, str] | None = None,
    negative: str = "",
    guidance: tuple[float, float] = (LAYERED_GUIDANCE, LAYERED_GUIDANCE),
    steps: int = LAYERED_STEPS,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[Tensor, Tensor]:
    """Generate the background and the layers of instances, one network call a step for all of them.

    Every row starts from the same noise. An instance is shown the picture with the others greyed out, the background
    the picture with all of them greyed out, and around its mask each row stays what it was shown; the negative prompt goes
    without morphology.

    Args:
        image: [3, H, W] in 0..1; H and W multiples of `base.multiple`.
        masks: [N, H, W] of 0 and 1, N at least 1.
        holes: [N, H, W] of 0 and 1, what is filled when an instance goes, its mask or more than that; by default the mask.
        wanted: the instances to generate, all by default; none of them costs a background alone.
        pose: [3, H, W] in 0..1, a rendered pose.
        parsing: [H, W], a map of labels.
        prompts: of the instances and of the background; by default those that the eraser was trained with.
        guidance: classifier-free, of the instances and of the background.

    Returns:
        Layers [N, 3, H, W] and background [3, H, W] in 0..1, for `kernels.layers`. A layer that was not wanted is the
        picture. Outside of a row's mask lies what it was shown, through the VAE.

    Raises:
        ValueError: the adapter was made for another network, or an input does not fit.
    """
    device = base.network.device
    chosen = sorted(check_indices(range(len(masks)) if wanted is None else wanted, len(masks), "wanted"))
    image, masks = image.to(device), masks.to(device)
    holes = masks if holes is None else holes.to(device)
    if len(masks) == 0 or masks.shape[-2:] != image.shape[-2:]:
        raise ValueError(f"The masks are {list(masks.shape)} for a picture {list(image.shape)}: expected [N, H, W].")
    made, hidden = row_regions(masks, holes, chosen)

    def tokens(module: HumanMorphology) -> Tensor | None:
        one_hot = None if parsing is None else parsing_one_hot(parsing[None], module.labels).to(device)
        drawn = None if pose is None else pose[None].to(device)
        return row_tokens(module, hidden[:-1], drawn, one_hot, layered.header.background_morphology)

    pictures = make_rows(
        base,
        layered,
        masked_grey(image.expand(len(made), -1, -1, -1), hidden),
        made,
        [PERSON] * len(chosen) + [BACKGROUND],
        tokens,
        prompts=prompts,
        negative=negative,
        guidance=guidance,
        steps=steps,
        seed=seed,
        progress=progress,
    )
    layers = image.expand(len(masks), -1, -1, -1).clone()
    layers[chosen] = pictures[:-1]
    return layers, pictures[-1]


@torch.inference_mode()
def erase_backgrounds(
    base: Base,
    layered: Layered,
    images: Tensor,
    masks: Tensor,
    *,
    steps: int = LAYERED_STEPS,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Tensor:
    """The backgrounds of several pictures [B, 3, H, W] without what masks [B, H, W] mark, in one batch: those that
    `erase_layers` makes of each where nobody's layer is wanted."""
    images, masks = images.to(base.network.device), masks.to(base.network.device)

    def tokens(module: HumanMorphology) -> Tensor | None:
        alone = row_tokens(module, masks[:0], None, None, layered.header.background_morphology)
        return None if alone is None else alone.expand(len(images), -1, -1)

    shown, branches = masked_grey(images, masks), [BACKGROUND] * len(images)
    return make_rows(base, layered, shown, masks, branches, tokens, steps=steps, progress=progress)


def make_rows(
    base: Base,
    layered: Layered,
    shown: Tensor,
    made: Tensor,
    branches: list[int],
    tokens_by: Callable[[HumanMorphology], Tensor | None],
    *,
    prompts: tuple[str, str] | None = None,
    negative: str = "",
    guidance: tuple[float, float] = (LAYERED_GUIDANCE, LAYERED_GUIDANCE),
    steps: int = LAYERED_STEPS,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Tensor:
    """Sample rows that each take a branch of a layered eraser: [R, 3, H, W] in 0..1.

    Args:
        shown: [R, 3, H, W] in 0..1, what each row is shown, what is hidden from it greyed out, so that no colour leaks in.
        made: [R, H, W] of 0 and 1, what each row makes.
        branches: PERSON or BACKGROUND for each row.
        tokens_by: the tokens [R, T, width] of the rows by the eraser's encoders, or None where all are null.
    """
    device, dtype = base.network.device, base.network.dtype
    pooling: Any = layered.header.mask_pooling or base.mask_pooling
    latent = base.encode(2 * shown - 1)
    size = latent.shape[-2:]
    free = latent_mask(made, *size, pooling="max").to(latent)
    channel = latent_mask(made, *size, pooling=pooling).to(latent)
    condition = torch.cat([channel, latent], dim=1)
    rows = torch.tensor(branches)

    scheduler = euler(base, steps)
    noise = torch.randn(latent[:1].shape, generator=torch.Generator().manual_seed(seed)).to(latent)
    x = latent + noise * starting_scale(scheduler)
    person, background = prompts or layered.header.prompts
    texts = [person if branch == PERSON else background for branch in branches]
    side = (shown.shape[-2], shown.shape[-1])
    encoded = {"positive": base.texts.encode(texts, side), "negative": base.texts.encode([negative] * len(rows), side)}
    scale = torch.tensor([guidance[branch] for branch in branches], device=device)[:, None, None, None]

    before = base.network.attn_processors
    network = LayeredNetwork(base.network, layered).to(device)
    try:
        tokens: dict[str, Tensor | None] = {"positive": None, "negative": None}
        if network.morphology is not None:
            tokens["positive"] = tokens_by(network.morphology)
        for sigma, t in zip(scheduler.sigmas.tolist(), progress(scheduler.timesteps), strict=False):
            x = torch.where(free > 0, x, latent + sigma * noise)

            def call(kind: str, x: Tensor = x, sigma: float = sigma, t: Tensor = t) -> Tensor:
                scaled = torch.cat([scheduler.scale_model_input(x, t), condition], dim=1).to(dtype)
                text = encoded[kind]
                out = network(scaled, t, text.context.to(device, dtype), rows, free[:, 0], tokens[kind], text.extra)
                return x - sigma * out.float()

            x0: Tensor = guided(call, "positive", "negative", scale)
            x = scheduler.step(torch.where(free > 0, x0, latent), t, x).prev_sample
    finally:
        base.network.set_attn_processor(before)
    check_finite(x, "The network's result")
    return ((base.decode(x) + 1) / 2).clamp(0, 1)


def fresh_adapter(
    unet: UNet2DConditionModel, rank: int = 16, sma: bool = True, morphology: bool = True, labels: int = LIP
) -> Layered:
    """An adapter that changes nothing yet: LoRAs on Q, K and V of all attention, α = 1, biases and tokens of zero."""
    device = unet.device
    branches: tuple[dict[str, LoraPair], dict[str, LoraPair]] = ({}, {})
    for module, (outputs, inputs) in projection_shapes(unet).items():
        for branch in branches:
            down = torch.randn(rank, inputs, device=device) / rank
            branch[module] = LoraPair(down, torch.zeros(outputs, rank, device=device), float(rank))
    layers = [name.removesuffix(".processor") for name in unet.attn_processors if ".attn1." in name]
    biases = {layer: torch.zeros(2, device=device) for layer in layers} if sma else {}
    state = HumanMorphology(unet.config["cross_attention_dim"], labels).state_dict() if morphology else {}
    return Layered(*branches, biases, state)

"""A network each of whose batch rows takes its own low-rank branch: MILD in diffusers, for training and sampling."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ...adapters.layered import Layered
from ...adapters.lora import LoraPair
from ...adapters.names import QKV
from ...kernels.attention import RegionSettings, region_attention, sma
from ...kernels.lowrank import BACKGROUND, PERSON, Joined, LowRank, add_branches, join, row_selection, stack_branches
from ...kernels.morphology import morphology_attention
from ...kernels.regions import object_tokens
from .region_attention import grid


class LayeredNetwork(nn.Module):
    """A network each of whose batch rows takes its branch, until its attention processors are set anew.

    Raises:
        ValueError: the adapter was made for another network, or the network does not inpaint.
    """

    def __init__(self, unet: UNet2DConditionModel, layered: Layered) -> None:
        super().__init__()
        check_fits(unet, layered)
        self.unet, self.metadata = unet, layered.metadata
        self.morphology = layered.morphology_module()
        self.call = Call()
        self.layers = {
            name.removesuffix(".processor"): LayeredAttnProcessor(name.removesuffix(".processor"), layered, self.call)
            for name in unet.attn_processors
        }
        unet.set_attn_processor({f"{path}.processor": processor for path, processor in self.layers.items()})

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        rows: Tensor,
        masks: Tensor,
        tokens: Tensor | None = None,
        extra: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Predict the noise of every row.

        Args:
            x: [B, C, h, w].
            context: [B, text, width].
            rows: [B] long, PERSON or BACKGROUND, on the CPU.
            masks: [B, h, w] of 0 and 1, the object of each row: its instance, or all of them.
            tokens: [B, T, width], of the morphology.
        """
        self.call.begin(rows, masks, 0 if tokens is None else tokens.shape[1])
        if tokens is not None:
            context = torch.cat([context, tokens.to(context)], dim=1)
        return self.unet(x, timesteps, context, added_cond_kwargs=extra or None).sample

    def adapter(self, metadata: dict[str, str] | None = None) -> Layered:
        """The branches, biases and encoders, as they are saved."""
        pairs: list[dict[str, LoraPair]] = [{}, {}]
        for path, processor in self.layers.items():
            for name, projection in processor.projections.items():
                for branch, found in zip(pairs, (projection.foreground, projection.background), strict=True):
                    if found is not None:
                        alpha = float(found.alpha.detach()) * len(found.down)
                        branch[f"{path}.{name}"] = LoraPair(stored(found.down), stored(found.up), alpha)
        biases = {path: stored(layer.sma) for path, layer in self.layers.items() if layer.sma is not None}
        state = {} if self.morphology is None else self.morphology.state_dict()
        morphology = {key: stored(value) for key, value in state.items()}
        return Layered(pairs[PERSON], pairs[BACKGROUND], biases, morphology, metadata or self.metadata)


class Call:
    """The facts of the call in hand that the layers need. It stays after the call: gradient checkpointing runs the layers again."""

    def begin(self, rows: Tensor, masks: Tensor, tokens: int) -> None:
        self.branches, selection = row_selection(rows)
        self.selection = None if selection is None else selection.to(masks.device)
        self.masks, self.tokens = masks, tokens
        self.objects = functools.cache(self.find_objects)

    def find_objects(self, tokens: int) -> Tensor:
        """[B, tokens] bool, the object of each row in the layers of this size."""
        return object_tokens(self.masks, *grid(self.masks, tokens))


class LayeredAttnProcessor(nn.Module):
    """One attention layer: each row's LoRA on its projections; SMA in self-attention, morphology in cross-attention."""

    def __init__(self, path: str, layered: Layered, call: Call) -> None:
        super().__init__()
        self.call = call
        self.projections: Mapping[str, Projection] = nn.ModuleDict(  # pyright: ignore[reportAttributeAccessIssue]
            {
                name: Projection(layered.foreground.get(module), layered.background.get(module))
                for name in QKV
                if (module := f"{path}.{name}") in layered.foreground or module in layered.background
            }
        )
        self.sma = nn.Parameter(layered.sma[path].detach().clone().float()) if path in layered.sma else None
        self.joined: dict[tuple, Joined] = {}

    def forward(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor:
        if encoder_hidden_states is None:
            projected = self.project(attn, QKV, hidden_states)
        else:
            projected = self.project(attn, QKV[:1], hidden_states)
            projected += self.project(attn, QKV[1:], encoder_hidden_states)
        q, k, v = (rearrange(one, "b n (heads d) -> b heads n d", heads=attn.heads) for one in projected)
        if encoder_hidden_states is not None:
            out = morphology_attention(q, k, v, self.call.tokens, F.scaled_dot_product_attention)
        elif self.sma is None:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            settings = self.fixed_sma if torch.is_inference_mode_enabled() else sma(*self.sma)
            out = region_attention(q, k, v, self.call.objects(q.shape[2]), settings)
        return attn.to_out[0](rearrange(out, "b heads n d -> b n (heads d)"))

    def project(self, attn: Any, names: tuple[str, ...], x: Tensor) -> list[Tensor]:
        projected = {name: getattr(attn, name)(x) for name in names}
        learned = tuple(name for name in names if name in self.projections)
        if learned:
            shared = [projected[name] for name in learned]
            found = add_branches(shared, x, self.branches(learned, shared[0]), self.call.selection)
            projected |= dict(zip(learned, found, strict=True))
        return list(projected.values())

    def branches(self, names: tuple[str, ...], like: Tensor) -> Joined:
        def join_now() -> Joined:
            return join([self.projections[name](self.call.branches) for name in names], self.call.branches)

        if not torch.is_inference_mode_enabled():
            return join_now()
        # Sampling changes nothing between steps.
        key = (names, self.call.branches, like.dtype)
        if key not in self.joined:
            self.joined[key] = join_now().to(like)
        return self.joined[key]

    @cached_property
    def fixed_sma(self) -> RegionSettings:
        """As numbers, which do not wait for the device."""
        assert self.sma is not None
        return sma(*self.sma.tolist())


class Projection(nn.Module):
    """Both branches of one projection."""

    def __init__(self, foreground: LoraPair | None, background: LoraPair | None) -> None:
        super().__init__()
        self.foreground = None if foreground is None else Branch(foreground)
        self.background = None if background is None else Branch(background)

    def forward(self, used: tuple[int, ...]) -> LowRank:
        """Stack both branches; one that is not used gets no gradient at all, so that AdamW passes over it: one of zero would let it go on."""
        branches = (self.foreground, self.background)
        return stack_branches([None if b is None else b.factors(index in used) for index, b in enumerate(branches)])


class Branch(nn.Module):
    """α · up @ down (MILD, Eq. 1)."""

    def __init__(self, pair: LoraPair) -> None:
        super().__init__()
        self.down, self.up = (nn.Parameter(factor.detach().clone().float()) for factor in (pair.down, pair.up))
        self.alpha = nn.Parameter(torch.tensor(pair.alpha / len(pair.down), device=pair.down.device))

    def factors(self, learns: bool) -> tuple[Tensor, Tensor, Tensor]:
        if learns:
            return self.down, self.up, self.alpha
        return self.down.detach(), self.up.detach(), self.alpha.detach()


def check_fits(unet: UNet2DConditionModel, layered: Layered) -> None:
    """Raises ValueError where an adapter was made for another network."""
    channels, outputs = unet.config["in_channels"], unet.config["out_channels"]
    if channels != 2 * outputs + 1:
        raise ValueError(
            f"The base takes {channels} channels, expected an inpainting model with {2 * outputs + 1}: give the "
            "inpainting version of the checkpoint."
        )
    shapes = projection_shapes(unet)
    fitting, count = layered.fitting(shapes)
    layers = sum(f"{layer}.to_q" in shapes for layer in layered.sma)
    if fitting < count or layers < len(layered.sma):
        raise ValueError(
            f"{fitting} of the layered eraser's {count} LoRAs and {layers} of its {len(layered.sma)} attention layers fit "
            "this network, expected all: it was made for another model."
        )
    width = layered.morphology["pose.project.weight"].shape[0] if layered.morphology else 0
    if width and width != unet.config["cross_attention_dim"]:
        raise ValueError(
            f"The layered eraser's morphology makes tokens of width {width}, expected {unet.config['cross_attention_dim']}: "
            "it was made for another model."
        )


def projection_shapes(unet: UNet2DConditionModel) -> dict[str, tuple[int, int]]:
    """(out, in) of all projections to Q, K and V, by module."""
    weights = {name: parameter.shape for name, parameter in unet.named_parameters()}
    paths = [name.removesuffix(".processor") for name in unet.attn_processors]
    return {
        f"{path}.{name}": (weights[f"{path}.{name}.weight"][0], weights[f"{path}.{name}.weight"][1])
        for path in paths
        for name in QKV
    }


def stored(value: Tensor) -> Tensor:
    return value.detach().float().cpu()

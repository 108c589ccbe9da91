"""MILD in ComfyUI: people and background as rows of one call, each with its own low-rank branch, by patches alone."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from einops import rearrange
from torch import Tensor

from ...adapters.layered import Layered
from ...adapters.names import QKV
from ...kernels import attention, lowrank, morphology, regions
from .attention import check_tokens, claim_attention
from .common import core_attention
from .families import family_of, makes_videos

_LAYER = re.compile(r"(?:(input|output)_blocks\.(\d+)|middle_block)\.\d+\.transformer_blocks\.(\d+)\.(attn[12])")


@dataclasses.dataclass(frozen=True, eq=False)
class LayeredModel:
    """A model with a layered eraser that fits it. A layer is (attn1 or attn2, part, block, transformer block).

    Attributes:
        patcher: ComfyUI's ModelPatcher; none of its weights is patched.
        projections: the branches of to_q, to_k and to_v by layer.
        sma: spatially modulated attention by layer.
        morphology: the encoders, or None.
        mask_pooling: how its mask channel is made, "max" or "nearest".
        background_morphology: whether the background was trained with pose and parsing.
    """

    patcher: Any
    projections: dict[tuple, dict[str, lowrank.LowRank]]
    sma: dict[tuple, attention.RegionSettings]
    morphology: morphology.HumanMorphology | None
    mask_pooling: str
    background_morphology: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """The differences between the rows of a batch: R people and the background.

    Attributes:
        branches: [R] long, `lowrank.PERSON` or `lowrank.BACKGROUND`.
        objects: [R,h,w] of 0 and 1, the region of each row for its self-attention.
        free: [R,1,h,w] of 0 and 1, where each row's latent may change.
        tokens: [R,T,width] of the morphology, zeros where it is null; None where all of it is.
    """

    branches: Tensor
    objects: Tensor
    free: Tensor
    tokens: Tensor | None

    def take(self, rows: Tensor) -> Rows:
        tokens = None if self.tokens is None else self.tokens[rows]
        return Rows(self.branches[rows], self.objects[rows], self.free[rows], tokens)


def load_layered(model: Any, layered: Layered, name: str) -> LayeredModel:
    """The model with the layered eraser of the file `name`.

    Raises:
        ValueError: the model has no such layers or no inpainting channels, or the eraser was made for another model.
    """
    network = model.model.diffusion_model
    family = family_of(network)
    if family is None or not family.facts.takes_layers or makes_videos(model.model):
        raise ValueError(
            f"A layered eraser works on no model of the family {type(model.model).__name__}: load the inpainting version "
            "of an SDXL, SD 1.5 or SD 2 checkpoint."
        )
    if "masked_image" not in model.model.concat_keys:
        raise ValueError(
            "The model has no inpainting channels, so it cannot see who is masked: load the inpainting version of the "
            "checkpoint."
        )
    model = claim_attention(model, "Load Layered Eraser")
    paths = {
        key.removesuffix(".to_q.weight"): path.removesuffix(".to_q.weight")
        for key, path in comfy.utils.unet_to_diffusers(model.model.model_config.unet_config).items()
        if key.endswith(".to_q.weight")
    }
    shapes = {}
    for layer, path in paths.items():
        for projection in QKV:
            linear = network.get_submodule(f"{path}.{projection}")
            shapes[f"{layer}.{projection}"] = (linear.out_features, linear.in_features)
    fitting, count = layered.fitting(shapes)
    encoders = layered.morphology_module()
    widths = {shape[1] for module, shape in shapes.items() if module.endswith("attn2.to_k")}
    if fitting < count or not layered.sma.keys() <= paths.keys() or (encoders and {encoders.width} != widths):
        base = layered.header.base
        raise ValueError(
            f"{fitting} of the {count} LoRA modules in {name} fit this model, expected all of them and tokens of its "
            f"width {sorted(widths)}: it was trained for {base}, load that checkpoint or another file."
        )
    projections: dict[tuple, dict[str, lowrank.LowRank]] = {}
    for module, branches in layered.projections().items():
        layer, _, projection = module.rpartition(".")
        projections.setdefault(place(paths[layer]), {})[projection] = branches
    sma = {place(paths[layer]): attention.sma(*value.tolist()) for layer, value in layered.sma.items()}
    pooling = layered.header.mask_pooling or "max"
    return LayeredModel(model, projections, sma, encoders, pooling, layered.header.background_morphology)


def place(path: str) -> tuple:
    """(attn1 or attn2, part, block, transformer block) of ldm's path of an attention layer."""
    match = _LAYER.fullmatch(path)
    assert match, path
    part, block, index, name = match.groups()
    return (name, part or "middle", int(block or 0), int(index))


class LayeredPatch:
    """A wrapper around the network's forward pass that gives each row of this one call its branch.

    The pre-projection patch, last of all, sees what the projections see; the replace patch adds each row's ΔQ, ΔK, ΔV
    to what they gave. Where another pack has taken over a layer, it gets these as its queries, keys and values.
    """

    def __init__(self, model: LayeredModel, rows: Rows, factors: dict) -> None:
        self.model, self.rows, self.factors = model, rows, factors

    def __call__(self, executor: Any, x: Tensor, timestep: Tensor, context: Tensor, *rest: Any, **more: Any) -> Tensor:
        options = rest[-1]
        conds = options["cond_or_uncond"]
        rows, device = self.rows, x.device
        branches, selection = lowrank.row_selection(rows.branches.repeat(len(conds)))
        selection = None if selection is None else selection.to(device, x.dtype)
        tokens, length = None, 0
        # A background that was trained without has null tokens, which change nothing. Nor has the negative prompt any.
        has_tokens = self.model.background_morphology or bool((rows.branches == lowrank.PERSON).any())
        if rows.tokens is not None and has_tokens and 0 in conds:
            tokens = torch.cat([rows.tokens if cond == 0 else torch.zeros_like(rows.tokens) for cond in conds])
            tokens, length = tokens.to(context), tokens.shape[1]
        objects = rows.objects.to(device).repeat(len(conds), 1, 1)
        regions_of = functools.cache(functools.partial(regions.object_tokens, objects))
        seen: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

        def note(attn: str, n: Tensor, context: Tensor, value: Tensor, extra: dict) -> tuple[Tensor, Tensor, Tensor]:
            if attn == "attn2" and tokens is not None:
                joined = torch.cat([context, tokens], dim=1)
                context, value = joined, joined if value is context else torch.cat([value, tokens], dim=1)
            seen[attn] = n, context, value
            return seen[attn]

        def attend(attn: str, taken: Callable | None, q: Tensor, k: Tensor, v: Tensor, extra: dict, **_: Any) -> Tensor:
            comfy.model_management.throw_exception_if_processing_interrupted()
            layer = (attn, *extra["block"], extra["block_index"])
            q, k, v = self.add_branches((q, k, v), seen.pop(attn), layer, branches, selection)
            core = core_attention(extra)
            split = functools.partial(rearrange, pattern="b n (h d) -> b h n d", h=extra["n_heads"])
            text = k.shape[1] - (length if attn == "attn2" else 0)
            if taken is not None:
                out = taken(q, k[:, :text], v[:, :text], extra)
                if text == k.shape[1]:
                    return out
                return out + rearrange(core(split(q), split(k[:, text:]), split(v[:, text:])), "b h n d -> b n (h d)")
            if attn == "attn2":
                out = morphology.morphology_attention(split(q), split(k), split(v), length, core)
            elif layer in self.model.sma:
                region = regions_of(*extra["activations_shape"][-2:])
                check_tokens(q, k, region)
                out = attention.region_attention(split(q), split(k), split(v), region, self.model.sma[layer], core)
            else:
                out = core(split(q), split(k), split(v))
            return rearrange(out, "b h n d -> b n (h d)")

        network = executor.class_obj
        blocks = [("input", i) for i in range(len(network.input_blocks))] + [("middle", 0)]
        blocks += [("output", i) for i in range(len(network.output_blocks))]
        patches, replace = dict(options.get("patches", {})), dict(options.get("patches_replace", {}))
        for attn in ("attn1", "attn2"):
            patches[f"{attn}_patch"] = [*patches.get(f"{attn}_patch", []), functools.partial(note, attn)]
            taken = replace.get(attn, {})
            replace[attn] = {key: functools.partial(attend, attn, taken.get(key)) for key in [*blocks, *taken]}
        return executor(
            x, timestep, context, *rest[:-1], {**options, "patches": patches, "patches_replace": replace}, **more
        )

    def add_branches(
        self,
        projected: tuple[Tensor, ...],
        inputs: tuple[Tensor, ...],
        layer: tuple,
        branches: tuple[int, ...],
        selection: Tensor | None,
    ) -> list[Tensor]:
        """The results of the projections of a layer with the LoRA of each row. Those that share an input go together."""
        found = self.model.projections.get(layer, {})
        out: dict[str, Tensor] = dict(zip(QKV, projected, strict=True))
        sharing: dict[int, list[str]] = {}
        for name, x in zip(QKV, inputs, strict=True):
            if name in found:
                sharing.setdefault(id(x), []).append(name)
        for names in sharing.values():
            shared = [out[name] for name in names]
            key = (layer, *names, branches, shared[0].device, shared[0].dtype)
            if key not in self.factors:
                self.factors[key] = lowrank.join([found[name] for name in names], branches).to(shared[0])
            x = inputs[QKV.index(names[0])]
            added = lowrank.add_branches(shared, x, self.factors[key], selection)
            out |= dict(zip(names, added, strict=True))
        return list(out.values())

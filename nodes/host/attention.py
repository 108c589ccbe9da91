"""Self-attention by region, as wrappers and patches of one model's calls. Nothing of ComfyUI is replaced."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import comfy.patcher_extension
import torch
from einops import rearrange
from torch import Tensor

from ...kernels import attention, regions
from .common import check_mask, core_attention, for_rows, position
from .families import family_of, makes_videos
from .layouts import LAYOUTS, Layout, layout_of
from .own_attention import OwnForward

Wrappers = comfy.patcher_extension.WrappersMP
DIFFUSION_MODEL = Wrappers.DIFFUSION_MODEL
REFERENCES = "reference_image_num_tokens"


@dataclasses.dataclass(frozen=True, eq=False)
class RegionPatch:
    """Runs a model's self-attention by region: a wrapper around its forward pass that patches this one call.

    parts           which self-attentions, of "input", "middle" and "output". A transformer has no such parts: its
                    layout (`layouts.py`) says which of its blocks count as what
    start, end      the sigmas between which it works
    settings_at     (step, steps) -> RegionSettings, with step counting up from 0; between steps it is fractional

    Patches and wrappers of other packs stay in place. Where another pack has taken over a UNet's attention block by
    itself (Perturbed-Attention Guidance in its own pass), that block is left to it.
    """

    mask: Tensor
    parts: frozenset[str]
    start: float
    end: float
    settings_at: Callable[[float, int], attention.RegionSettings]
    cache: dict = dataclasses.field(default_factory=dict, repr=False)

    def is_active(self, sigma: Tensor) -> bool:
        return self.end <= float(sigma.max()) <= self.start

    def run_unet(self, executor: Any, x: Tensor, timestep: Tensor, context: Tensor, *rest: Any, **more: Any) -> Tensor:
        """Wraps the forward pass of a UNet (a wrapper of the kind DIFFUSION_MODEL)."""
        options = rest[-1]
        if self.is_active(options["sigmas"]):
            patch = self.for_window(options)
            options = patch.patch_unet(executor.class_obj, patch.settings(x, options), options)
        return executor(x, timestep, context, *rest[:-1], options, **more)

    def for_window(self, options: dict) -> RegionPatch:
        """The patch for the pictures of the batch that one of core's context windows holds; without one, this one."""
        window = options.get("context_window")
        if len(self.mask) == 1 or window is None or window.dim != 0:
            return self
        frames = (*window.index_list, getattr(window, "causal_anchor_index", None))
        if frames not in self.cache:
            mask = window.get_tensor(self.mask, self.mask.device)
            self.cache[frames] = dataclasses.replace(self, mask=mask, cache={})
        return self.cache[frames]

    def run_transformer(
        self,
        executor: Any,
        x: Tensor,
        timestep: Tensor,
        concat: Tensor | None,
        context: Tensor | None,
        control: Any,
        options: dict,
        **more: Any,
    ) -> Tensor:
        """Wraps a model around any transformer (a wrapper of the kind APPLY_MODEL, the one that all of them pass)."""
        if not self.is_active(options["sigmas"]):
            return executor(x, timestep, concat, context, control, options, **more)
        network = executor.class_obj.diffusion_model
        patch = self.for_window(options)
        outer = options.get("optimized_attention_override")
        settings = patch.settings(x, options)
        with TransformerCall(patch, layout_of(network), network, x, context, settings, more, outer) as call:
            options = {**options, "optimized_attention_override": call.attend}
            # Where a network does not say which block it is in, these are those of the model that ran before.
            options = {name: value for name, value in options.items() if name not in ("block_index", "block_type")}
            out = executor(x, timestep, concat, context, control, options, **more)
        call.check()
        return out

    def settings(self, x: Tensor, options: dict) -> attention.RegionSettings:
        """The settings of this step; latents x [rows, C, h, w] or [rows, C, 1, h, w] that the mask does not fit are a
        ValueError."""
        check_mask(self.mask, x.shape[0] // len(options["cond_or_uncond"]), *x.shape[-2:])
        t, steps = position(options["sigmas"], options)
        return self.settings_at(steps - t, steps)

    def patch_unet(self, unet: Any, settings: attention.RegionSettings, options: dict) -> dict:
        """Drops the object's keys before the projections where all queries of all samples drop the same ones.

        That takes no replace slot and leaves the attention to the model and to other packs; else a slot is needed.
        """
        taken = options.get("patches_replace", {}).get("attn1", {})

        def drop_keys(n: Tensor, context: Tensor, value: Tensor, extra: dict) -> tuple[Tensor, Tensor, Tensor]:
            block = extra["block"]
            if block[0] not in self.parts or block in taken or (*block, extra["block_index"]) in taken:
                return n, context, value
            height, width = extra["activations_shape"][-2:]
            objects, ((_, order, background),) = self.tokens(height, width, n.device)
            check_tokens(n, context, objects)
            if background == 0:
                return n, context, value
            if settings.temperature[1] != 1:
                # The projection to queries has no bias: a scaled input is a scaled query.
                n = torch.where(objects[..., None], n * settings.temperature[1], n)
            keep = order[0, :background]
            kept = context[:, keep]
            return n, kept, kept if value is context else value[:, keep]

        def attend(q: Tensor, k: Tensor, v: Tensor, extra: dict) -> Tensor:
            height, width = extra["activations_shape"][-2:]
            objects, groups = self.tokens(height, width, q.device, q.shape[0])
            check_tokens(q, k, objects)
            q, k, v = (rearrange(tokens, "b n (h d) -> b h n d", h=extra["n_heads"]) for tokens in (q, k, v))
            out = attention.region_attention(q, k, v, objects, settings, core_attention(extra), groups)
            return rearrange(out, "b h n d -> b n (h d)")

        if len(self.mask) == 1 and settings.object_logit == (-math.inf, -math.inf) and settings.temperature[0] == 1:
            patches = options.get("patches", {})
            patches = {**patches, "attn1_patch": [*patches.get("attn1_patch", []), drop_keys]}
            return {**options, "patches": patches}
        blocks = [("input", i) for i in range(len(unet.input_blocks))] + [("middle", 0)]
        blocks += [("output", i) for i in range(len(unet.output_blocks))]
        ours = {block: attend for block in blocks if block[0] in self.parts}
        return {**options, "patches_replace": {**options.get("patches_replace", {}), "attn1": {**ours, **taken}}}

    def tokens(
        self, height: int, width: int, device: torch.device, rows: int = 1, around: tuple[int, int] = (0, 0)
    ) -> tuple[Tensor, list[attention.Group]]:
        """The tokens of the object in a layer of this grid, bool [rows, tokens], with `around` others before and after
        the picture's, and their partition. Kept, as finding them waits for the device."""
        key = (height, width, device, rows, around)
        if key not in self.cache:
            objects = for_rows(regions.object_tokens(self.mask, height, width), rows)
            objects = torch.nn.functional.pad(objects, around).to(device)
            self.cache[key] = objects, attention.partition(objects)
        return self.cache[key]


class TransformerCall:
    """One forward pass of a transformer under a `RegionPatch`. While it is entered, hooks on the network's blocks tell in
    which of them a call of ComfyUI's attention is made; they are gone when it is left, whatever happened."""

    def __init__(
        self,
        patch: RegionPatch,
        layout: Layout | None,
        network: Any,
        x: Tensor,
        context: Tensor | None,
        settings: attention.RegionSettings,
        more: dict,
        outer: Callable | None,
    ) -> None:
        if layout is None:
            raise ValueError(f"{type(network).__name__} is no network whose tokens are known: report this, please.")
        if x.ndim == 5 and x.shape[2] != 1:
            raise ValueError(
                f"A video of {x.shape[2]} latent frames came: removal by attention works on single pictures."
            )
        for name, meaning in layout.refused.items():
            if more.get(name) is not None:
                raise ValueError(
                    f"{layout.name} got {meaning}, and where its tokens lie is not known to removal by attention: "
                    "remove that input, or the node."
                )
        self.patch, self.layout, self.network = patch, layout, network
        self.grid, self.context, self.more, self.outer = layout.grid(network, x), context, more, outer
        self.run = settings
        self.part: str | None = None
        self.aside = self.done = self.entered = 0
        self.hooks: list = []

    def __enter__(self) -> TransformerCall:
        for part, block in self.layout.lists(self.network):
            for own in self.own_forwards(block) if part in self.patch.parts else ():
                own.attend = self.attend
            self.hooks += self.around(block, functools.partial(self.enter, part), self.leave)
            for name in self.layout.aside:
                inner = block.get_submodule(name)
                self.hooks += self.around(inner, self.step_aside, self.step_back)
        return self

    def __exit__(self, *error: Any) -> None:
        for hook in self.hooks:
            hook.remove()
        for _, block in self.layout.lists(self.network):
            for own in self.own_forwards(block):
                own.attend = None

    def own_forwards(self, block: torch.nn.Module) -> list[OwnForward]:
        """The object patch of a block's attention, in a family that needs one."""
        if self.layout.own is None:
            return []
        forward = block.get_submodule(self.layout.own[0]).forward
        return [forward] if isinstance(forward, OwnForward) else []

    @staticmethod
    def around(module: torch.nn.Module, before: Callable, after: Callable) -> list:
        return [
            module.register_forward_pre_hook(lambda *call: before()),
            module.register_forward_hook(lambda *call: after(), always_call=True),
        ]

    def enter(self, part: str) -> None:
        self.part = part
        self.entered += 1

    def leave(self) -> None:
        self.part = None

    def step_aside(self) -> None:
        self.aside += 1

    def step_back(self) -> None:
        self.aside -= 1

    def attend(
        self,
        core: Callable,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        heads: int,
        mask: Tensor | None = None,
        attn_precision: torch.dtype | None = None,
        skip_reshape: bool = False,
        skip_output_reshape: bool = False,
        **more: Any,
    ) -> Tensor:
        """Takes the place of ComfyUI's attention `core`, or of another pack's around it: the network's
        `optimized_attention_override`. It works on queries and keys after their rotation."""
        call = functools.partial(self.outer, core) if self.outer else core
        call = functools.partial(call, heads=heads, attn_precision=attn_precision, **more)
        if self.part is None or self.aside:
            return call(q, k, v, mask=mask, skip_reshape=skip_reshape, skip_output_reshape=skip_output_reshape)
        self.done += 1
        if self.part not in self.patch.parts:
            return call(q, k, v, mask=mask, skip_reshape=skip_reshape, skip_output_reshape=skip_output_reshape)
        if not skip_reshape:
            # Some families give the heads a side of their own here, and some families have fewer of them for keys.
            width = q.shape[-1] if q.ndim == 4 else q.shape[-1] // heads
            q, k, v = (tokens.reshape(*tokens.shape[:2], -1, width).transpose(1, 2) for tokens in (q, k, v))
        height, width = self.grid
        told = {**self.more, **{name: more.get("transformer_options", {}).get(name) for name in (REFERENCES,)}}
        around = self.layout.around(self.network, k.shape[2], height * width, self.context, told)
        objects, groups = self.patch.tokens(height, width, q.device, q.shape[0], around)
        call = functools.partial(call, skip_reshape=True, skip_output_reshape=True)
        out = attention.region_attention(q, k, v, objects, self.run, call, groups, mask)
        return out if skip_output_reshape else rearrange(out, "b h n d -> b n (h d)")

    def check(self) -> None:
        """Raises a ValueError where no attention of the picture was met: the picture would be wrong in silence.

        No block at all runs where EasyCache has taken the network's place.
        """
        if self.entered and not self.done:
            raise ValueError(
                f"No attention layer of {self.layout.name} passed through ComfyUI's attention override: another node has "
                "taken it over, or this ComfyUI runs the family in a new way. Remove such a node; without one, please "
                "report it with your ComfyUI's version."
            )


def with_region_attention(model: Any, patch: RegionPatch, name: str) -> Any:
    """A clone of the model whose every pass runs under `patch`."""
    model = claim_attention(model, name)
    add_patch(model.model_options, patch, model.model)
    return model


def add_patch(options: dict, patch: RegionPatch, model: Any) -> None:
    """Runs the calls of `model` (ComfyUI's BaseModel) with these model options under `patch`."""
    # Token layouts are those of transformers; a UNet tells each attention layer its grid.
    is_transformer = layout_of(model.diffusion_model) is not None
    ours = (Wrappers.APPLY_MODEL, patch.run_transformer) if is_transformer else (DIFFUSION_MODEL, patch.run_unet)
    for kind, wrapper in (ours, (Wrappers.CALC_COND_BATCH, check_areas)):
        comfy.patcher_extension.add_wrapper_with_key(kind, "unclutter", wrapper, options, is_model_options=True)


def check_areas(executor: Any, model: Any, conds: list, x: Tensor, *rest: Any) -> list[Tensor]:
    """The network is given the part of the latent in a prompt's area alone, and the mask is of all of it."""
    height, width = x.shape[-2:]
    for cond in (cond for group in conds if group is not None for cond in group):
        tall, wide, *_ = cond.get("area", (height, width))
        if tall < height or wide < width:
            raise ValueError(
                f"A prompt is for an area of {wide}x{tall} of the {width}x{height} latent pixels, and removal by attention "
                "needs all of them: use Conditioning (Set Mask) with set_cond_area default in place of "
                "Conditioning (Set Area)."
            )
    return executor(model, conds, x, *rest)


def claim_attention(model: Any, name: str) -> Any:
    """A clone marked as patched by the node `name`; a model no such node can work on is a ValueError."""
    if not takes_region_attention(model):
        raise ValueError(
            f"{name} cannot patch a model of the family {type(model.model).__name__}. It works on SD 1.5, SD 2 and SDXL, and "
            f"on {', '.join(sorted(layout.name for layout in LAYOUTS.values()))}; how a family is added is told in "
            "DESIGN.md of the pack, under Add a model family."
        )
    if before := model.model_options.get("unclutter_attention"):
        raise ValueError(
            f"{name} came after {before} on the same model, and both decide what the self-attention sees: "
            "keep one of the two nodes."
        )
    model = model.clone()
    model.model_options["unclutter_attention"] = name
    patch_own_attention(model)
    return model


def patch_own_attention(model: Any) -> None:
    """Puts an object patch on each attention that ComfyUI calls without options, in a family that has such."""
    network = model.model.diffusion_model
    layout = layout_of(network)
    if layout is None or layout.own is None:
        return
    name, project = layout.own
    for part in layout.blocks:
        for index, block in enumerate(network.get_submodule(part)):
            path = f"diffusion_model.{part}.{index}.{name}.forward"
            before = model.get_model_object(path)
            model.add_object_patch(path, OwnForward(block.get_submodule(name), before, project))


def takes_region_attention(model: Any) -> bool:
    network = model.model.diffusion_model
    return layout_of(network) is not None or (family_of(network) is not None and not makes_videos(model.model))


def check_tokens(queries: Tensor, keys: Tensor, objects: Tensor) -> None:
    for tokens in (queries, keys):
        if tokens.shape[1] != objects.shape[1]:
            raise ValueError(
                f"A layer has {tokens.shape[1]} tokens where its grid has {objects.shape[1]}: "
                "remove the node that merges or tiles them (ToMe, HyperTile)."
            )

"""Self-attention by region, as wrappers and patches of one model's calls. Nothing of ComfyUI is replaced."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
import torch
from einops import rearrange
from torch import Tensor

from ...kernels import attention, guidance, regions
from .common import check_mask, core_attention, for_rows, is_flux, is_unet, position

DIFFUSION_MODEL = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL


@dataclasses.dataclass(frozen=True, eq=False)
class RegionPatch:
    """Runs a model's self-attention by region: a wrapper around its forward pass that patches this one call.

    parts           which self-attentions, of "input", "middle" and "output". FLUX has no such parts: its double-stream
                    blocks count as input, and the single-stream blocks after them as the rest
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

    def __call__(self, executor: Any, x: Tensor, timestep: Tensor, context: Tensor, *rest: Any, **more: Any) -> Tensor:
        options = rest[-1]
        if self.is_active(options["sigmas"]):
            t, steps = position(options["sigmas"], options)
            settings = self.settings_at(steps - t, steps)
            check_mask(self.mask, x.shape[0] // len(options["cond_or_uncond"]), *x.shape[-2:])
            patch = self.patch_flux if is_flux(executor.class_obj) else self.patch_unet
            options = patch(executor.class_obj, x, context, settings, options)
        return executor(x, timestep, context, *rest[:-1], options, **more)

    def patch_unet(
        self, unet: Any, x: Tensor, context: Tensor, settings: attention.RegionSettings, options: dict
    ) -> dict:
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

    def patch_flux(
        self, flux: Any, x: Tensor, context: Tensor, settings: attention.RegionSettings, options: dict
    ) -> dict:
        """Works on queries and keys after their rotation, inside each block. Tokens of the text, and of reference
        pictures, are background."""
        patch = flux.patch_size
        text, height, width = context.shape[1], math.ceil(x.shape[-2] / patch), math.ceil(x.shape[-1] / patch)

        def attend(
            outer: Callable | None,
            core: Callable,
            q: Tensor,
            k: Tensor,
            v: Tensor,
            heads: int,
            mask: Tensor | None = None,
            skip_output_reshape: bool = False,
            **more: Any,
        ) -> Tensor:
            around = (text, q.shape[2] - text - height * width)
            objects, groups = self.tokens(height, width, q.device, q.shape[0], around)
            call = functools.partial(outer, core) if outer else core
            call = functools.partial(call, heads=heads, skip_output_reshape=True, **more)
            if mask is None:
                out = attention.region_attention(q, k, v, objects, settings, call, groups)
            else:
                out = masked_region_attention(q, k, v, mask, objects, settings, call)
            return out if skip_output_reshape else rearrange(out, "b h n d -> b n (h d)")

        def wrap(inner: Callable | None) -> Callable:
            def block(args: dict, extra: dict) -> dict:
                block_options = args["transformer_options"]
                outer = block_options.get("optimized_attention_override")
                block_options = {**block_options, "optimized_attention_override": functools.partial(attend, outer)}
                args = {**args, "transformer_options": block_options}
                return inner(args, extra) if inner else extra["original_block"](args)

            return block

        blocks = [("single_block", i) for i in range(len(flux.single_blocks))]
        if "input" in self.parts:
            blocks += [("double_block", i) for i in range(len(flux.double_blocks))]
        replace = options.get("patches_replace", {})
        taken = replace.get("dit", {})
        return {**options, "patches_replace": {**replace, "dit": {**taken, **{b: wrap(taken.get(b)) for b in blocks}}}}

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


def with_region_attention(model: Any, patch: RegionPatch, name: str) -> Any:
    """A clone of the model whose every pass runs under `patch`."""
    model = claim_attention(model, name)
    add_patch(model.model_options, patch)
    return model


def with_removal_guidance(model: Any, patch: RegionPatch, scale: float, name: str) -> Any:
    """A clone of the model with self-attention redirection guidance (SARG, Attentive Eraser): a second conditioned pass
    under `patch`, whose difference to the plain one is added `scale` times on top of any CFG."""
    model = claim_attention(model, name)

    def guide(args: dict) -> Tensor:
        if not patch.is_active(args["sigma"]):
            return args["denoised"]
        comfy.model_management.throw_exception_if_processing_interrupted()
        options = comfy.patcher_extension.copy_nested_dicts(args["model_options"])
        add_patch(options, patch)
        (erased,) = comfy.samplers.calc_cond_batch(args["model"], [args["cond"]], args["input"], args["sigma"], options)
        plain = args["cond_denoised"]
        return guidance.sarg(plain, erased, scale, args["denoised"])

    model.set_model_sampler_post_cfg_function(guide)
    return model


def add_patch(options: dict, patch: RegionPatch) -> None:
    """Runs the calls with these model options under `patch`."""
    for kind, wrapper in ((DIFFUSION_MODEL, patch), (comfy.patcher_extension.WrappersMP.CALC_COND_BATCH, check_areas)):
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
            f"{name} cannot patch a model of the family {type(model.model).__name__}: "
            "load a SD 1.5, SD 2, SDXL or FLUX.1 checkpoint (base or inpainting)."
        )
    if before := model.model_options.get("unclutter_attention"):
        raise ValueError(
            f"{name} came after {before} on the same model, and both decide what the self-attention sees: "
            "keep one of the two nodes."
        )
    model = model.clone()
    model.model_options["unclutter_attention"] = name
    return model


def takes_region_attention(model: Any) -> bool:
    network = model.model.diffusion_model
    return (is_flux(network) or is_unet(network)) and not isinstance(model.model, comfy.model_base.SVD_img2vid)


def check_tokens(queries: Tensor, keys: Tensor, objects: Tensor) -> None:
    for tokens in (queries, keys):
        if tokens.shape[1] != objects.shape[1]:
            raise ValueError(
                f"A layer has {tokens.shape[1]} tokens where its grid has {objects.shape[1]}: "
                "remove the node that merges or tiles them (ToMe, HyperTile)."
            )


def masked_region_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    objects: Tensor,
    settings: attention.RegionSettings,
    call: Callable[..., Tensor],
) -> Tensor:
    """Region attention for the rare call that brings an N x N mask of its own (Redux on FLUX): joined with it."""
    hides = torch.tensor([logit == -math.inf for logit in settings.object_logit], device=q.device)
    blocked = hides[objects.long()][:, None, :, None] & objects[:, None, None, :]
    temperature = q.new_tensor(settings.temperature)[objects.long()][:, None, :, None]
    while mask.ndim < 4:
        mask = mask.unsqueeze(mask.ndim - 2)
    mask = mask & ~blocked if mask.dtype == torch.bool else mask.masked_fill(blocked, torch.finfo(mask.dtype).min)
    return call(q * temperature, k, v, mask=mask)

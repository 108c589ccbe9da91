"""Self-attention redirection guidance (SARG): a second pass of the model, beside whatever other nodes do to the first."""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
from torch import Tensor

from ...kernels import guidance
from .attention import RegionPatch, add_patch, claim_attention

ACROSS_ROWS = ("attn1_output_patch", "attn2_output_patch")
"""Patches that may mix the rows of the positive and the negative prompt of a call, as Normalized Attention Guidance does."""


def with_removal_guidance(model: Any, patch: RegionPatch, scale: float, name: str) -> Any:
    """A clone of the model with SARG (Attentive Eraser): a second conditioned pass under `patch`, whose difference to the
    plain one is added `scale` times on top of any CFG."""
    model = claim_attention(model, name)
    redirection = Redirection(patch, scale)
    # Before the hooks of others, which may change the prediction (Adaptive Projected Guidance).
    hooks = model.model_options.get("sampler_pre_cfg_function", [])
    model.model_options["sampler_pre_cfg_function"] = [redirection.keep_plain, *hooks]
    model.set_model_sampler_post_cfg_function(redirection.guide)
    return model


@dataclasses.dataclass(eq=False)
class Redirection:
    """The two hooks around a step's guidance. Between them, and no longer, it holds the plain prediction."""

    patch: RegionPatch
    scale: float
    plain: tuple[Tensor, Tensor, bool] | None = None
    caches: weakref.WeakKeyDictionary = dataclasses.field(default_factory=weakref.WeakKeyDictionary)

    def keep_plain(self, args: dict) -> list[Tensor]:
        """Notes the latent, what the model predicted for the positive prompt, and whether EasyCache skipped its call."""
        cache = args["model_options"]["transformer_options"].get("easycache")
        self.plain = args["input"], args["conds_out"][0], bool(getattr(cache, "skip_current_step", False))
        return args["conds_out"]

    def guide(self, args: dict) -> Tensor:
        plain, skipped = args["cond_denoised"], False
        if self.plain is not None and self.plain[0] is args["input"]:  # else a guider that calls no such hooks
            _, plain, skipped = self.plain
        self.plain = None
        if not self.patch.is_active(args["sigma"]):
            return args["denoised"]
        comfy.model_management.throw_exception_if_processing_interrupted()
        options = comfy.patcher_extension.copy_nested_dicts(args["model_options"])
        add_patch(options, self.patch, args["model"])
        self.cache_apart(options, args["model"], skipped)
        conds = [args["cond"]]
        if any(options["transformer_options"].get("patches", {}).get(kind) for kind in ACROSS_ROWS):
            conds.append(args["uncond"])
        erased = comfy.samplers.calc_cond_batch(args["model"], conds, args["input"], args["sigma"], options)[0]
        return guidance.sarg(plain, erased, self.scale, args["denoised"])

    def cache_apart(self, options: dict, model: Any, skipped: bool) -> None:
        """Gives this pass an EasyCache of its own, which skips the network where that of the plain pass did.

        In the cache of the plain pass the very same latent would be found, and its prediction taken for this pass's;
        with two caches that decide by themselves one prediction would be old and the other new, and `scale` times their
        difference is an error. LazyCache works around all of a step and needs no such thing.
        """
        cache = options["transformer_options"].get("easycache")
        if not hasattr(cache, "uuid_cache_diffs"):
            return
        if cache not in self.caches:
            own = cache.clone().prepare_timesteps(model.model_sampling)
            own.reuse_threshold = 0.0  # it never decides to skip
            self.caches[cache] = own
        own = options["transformer_options"]["easycache"] = self.caches[cache]

        def follow(executor: Any, *rest: Any) -> list[Tensor]:
            own.skip_current_step = skipped
            return executor(*rest)

        kind = comfy.patcher_extension.WrappersMP.CALC_COND_BATCH
        comfy.patcher_extension.add_wrapper_with_key(kind, "unclutter_cache", follow, options, is_model_options=True)

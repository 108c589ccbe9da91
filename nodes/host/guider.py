"""Mask-aware scheduled guidance as one of ComfyUI's guiders."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from ...kernels import guidance, regions
from .common import check_mask, position, with_frame


class MASGGuider(comfy.samplers.CFGGuider):
    """Mask-aware scheduled guidance (LRNR, Algorithm 1): classifier-free guidance with a scale for each latent pixel.

    `scale_at(t, steps)` is the scale in the mask, with t counting down from `steps` to 1.
    """

    def __init__(
        self,
        model: Any,
        positive: list,
        negative: list,
        mask: Tensor,
        scale_at: Callable[[float, int], float],
        background_scale: float,
    ) -> None:
        super().__init__(model)
        self.set_conds(positive, negative)
        self.set_cfg(background_scale)
        self.mask = mask
        self.scale_at = scale_at
        self.background_scale = background_scale
        self.is_unguided = is_same(positive, negative)
        if self.is_unguided:
            logging.getLogger("unclutter").warning(
                "MASG Guider: positive and negative are the same, so there is nothing to guide: say in positive what is to "
                "be there (background), or in negative what is not (the object)."
            )
        self.latent_mask = functools.lru_cache(maxsize=1)(self.pool_mask)

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict, seed: int | None = None) -> Tensor:
        """The guided prediction of the clean latent, by core's `sampling_function` but for the scale."""
        t, steps = position(timestep, model_options["transformer_options"])
        scale = 1.0 if self.is_unguided else self.scale_map(x, self.scale_at(t, steps))
        positive, negative = self.conds["positive"], self.conds["negative"]
        is_one = isinstance(scale, float) and math.isclose(scale, 1.0)
        if is_one and not model_options.get("disable_cfg1_optimization", False):
            negative = None
        conds = [positive, negative]
        call = {
            "conds": conds,
            "input": x,
            "sigma": timestep,
            "model": self.inner_model,
            "model_options": model_options,
        }
        if "sampler_calc_cond_batch_function" in model_options:
            predictions = model_options["sampler_calc_cond_batch_function"](call)
        else:
            predictions = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)
        for hook in model_options.get("sampler_pre_cfg_function", []):
            predictions = hook({**call, "conds_out": predictions, "cond_scale": scale, "timestep": timestep})
        return comfy.samplers.cfg_function(
            self.inner_model, *predictions, scale, x, timestep, model_options, cond=positive, uncond=negative
        )

    def scale_map(self, x: Tensor, scale: float) -> Tensor | float:
        """The scale for each pixel of the latents x [B,C,h,w]: [B or 1,1,h,w], or one number where all are the same. The
        latents of a family that also makes videos have a side of one frame, [B,C,1,h,w], and so has the scale."""
        if math.isclose(scale, self.background_scale):
            return self.background_scale
        mask = self.latent_mask(x.shape, x.device, x.dtype)
        return scale if mask is None else guidance.masg_map(mask, scale, self.background_scale)

    def pool_mask(self, shape: torch.Size, device: torch.device, dtype: torch.dtype) -> Tensor | None:
        """The mask for latents of this shape; None when it covers them all."""
        if len(shape) not in (4, 5) or (len(shape) == 5 and shape[2] != 1):
            raise ValueError(
                "MASG Guider guides pictures, latents [batch,channels,height,width] or [batch,channels,1,height,width]; "
                f"these are {list(shape)}."
            )
        check_mask(self.mask, shape[0], *shape[-2:])
        mask = regions.latent_mask(self.mask, *shape[-2:], pooling="max")
        return None if mask.all() else with_frame(mask, len(shape)).to(device, dtype)


def is_same(one: Any, other: Any) -> bool:
    """Whether two conditionings (lists and dicts with tensors in them) are the same, value by value."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one.cpu(), other.cpu())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(is_same, one, other))
    return one is other or (isinstance(one, (str, int, float)) and one == other)

"""Sampling the rows of a layered eraser (MILD)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from torch import Tensor

from ...kernels import finite, guidance
from .attention import DIFFUSION_MODEL
from .common import position
from .layered import LayeredModel, LayeredPatch, Rows

SAMPLERS: list[str] = comfy.samplers.SAMPLER_NAMES
SCHEDULERS: list[str] = comfy.samplers.SCHEDULER_NAMES
NOT_BY_ROW = ("area", "mask", "start_percent", "end_percent", "control", "gligen", "hooks")
"""Options that core applies to a whole batch; set by the prompt of one row, they would affect all rows."""


class LayeredGuider(comfy.samplers.CFGGuider):
    """Classifier-free guidance of all rows in one call, with a scale for each; in smaller calls where memory ends."""

    def __init__(self, model: LayeredModel, positive: list, negative: list, rows: Rows, cfg: list[float], masg: str):
        super().__init__(model.patcher)
        self.set_conds(positive, negative)
        self.set_cfg(max(cfg))
        self.model, self.rows, self.scales, self.masg = model, rows, cfg, masg
        self.at_once = 0
        self.factors: dict = {}

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict, seed: int | None = None) -> Tensor:
        scale = self.scale(*position(timestep, model_options["transformer_options"]))
        guided = bool((scale != 1).any()) or model_options.get("disable_cfg1_optimization", False)
        scale = scale.to(x)  # after it was looked at: reading it from a device waits
        conds = [self.conds["positive"], self.conds["negative"] if guided else None]
        options = self.patched(model_options, self.rows)
        call = {"conds": conds, "input": x, "sigma": timestep, "model": self.inner_model, "model_options": options}
        if "sampler_calc_cond_batch_function" in options:
            predictions = options["sampler_calc_cond_batch_function"](call)
        else:
            predictions = self.predict_rows(conds, x, timestep, model_options)
        for hook in options.get("sampler_pre_cfg_function", []):
            predictions = hook({**call, "conds_out": predictions, "cond_scale": scale, "timestep": timestep})
        return comfy.samplers.cfg_function(
            self.inner_model, *predictions, scale, x, timestep, options, cond=conds[0], uncond=conds[1]
        )

    def scale(self, t: float, steps: int) -> Tensor:
        """The guidance of each row, [R,1,1,1], or with MASG of each of its cells, [R,1,h,w]."""
        if self.masg == "off":
            return torch.tensor(self.scales)[:, None, None, None]
        scales = [guidance.masg_scale(t, steps, scale, 1.0, 0.5, self.masg) for scale in self.scales]
        return torch.cat(
            [guidance.masg_map(free, scale, 1.0) for free, scale in zip(self.rows.free[:, None], scales, strict=True)]
        )

    def predict_rows(self, conds: list, x: Tensor, timestep: Tensor, model_options: dict) -> list[Tensor]:
        """The predictions of each conditioning for all rows. A smaller batch stays smaller for the rest of the run."""
        if not self.at_once:
            self.at_once = len(x)
            patcher = self.inner_model.current_patcher
            free = getattr(patcher, "get_free_memory", comfy.model_management.get_free_memory)(x.device)
            while self.at_once > 1 and self.inner_model.memory_required([self.at_once, *x.shape[1:]]) > free:
                self.use_fewer(len(x))
        while True:
            try:
                parts = [
                    comfy.samplers.calc_cond_batch(
                        self.inner_model,
                        [None if cond is None else take_rows(cond, rows, len(x)) for cond in conds],
                        x[rows],
                        timestep[rows],
                        self.patched(model_options, self.rows.take(rows)),
                    )
                    for rows in torch.arange(len(x)).split(self.at_once)
                ]
                return [torch.cat(part) for part in zip(*parts, strict=True)]
            except Exception as error:
                if self.at_once == 1 or not is_out_of_memory(error):
                    raise
            self.use_fewer(len(x))
            comfy.model_management.soft_empty_cache()

    def use_fewer(self, rows: int) -> None:
        self.at_once = math.ceil(self.at_once / 2)
        logging.getLogger("unclutter").warning(
            f"Layered Sampler: memory does not hold all {rows} rows at once, so they go {self.at_once} at a time. The "
            "result is the same."
        )

    def patched(self, model_options: dict, rows: Rows) -> dict:
        options = comfy.patcher_extension.copy_nested_dicts(model_options)
        patch = LayeredPatch(self.model, rows, self.factors)
        comfy.patcher_extension.add_wrapper_with_key(
            DIFFUSION_MODEL, "unclutter", patch, options, is_model_options=True
        )
        return options


def is_out_of_memory(error: Exception) -> bool:
    """As core sees it, whose newer versions know more kinds than one."""
    is_oom = getattr(comfy.model_management, "is_oom", None)
    return is_oom(error) if is_oom else isinstance(error, comfy.model_management.OOM_EXCEPTION)


def take_rows(conds: list[dict], rows: Tensor, count: int) -> list[dict]:
    """The part of processed conds that belongs to some of `count` rows; what is common to all of them stays."""

    def part(value: Any) -> Any:
        inner = getattr(value, "cond", None)
        if count > 1 and isinstance(inner, Tensor) and inner.ndim and len(inner) == count:
            return value._copy_with(inner[rows.to(inner.device)])
        return value

    return [{**cond, "model_conds": {key: part(value) for key, value in cond["model_conds"].items()}} for cond in conds]


def stack_conditionings(rows: list[tuple[str, list]], negative: tuple[str, list]) -> tuple[list, list]:
    """One conditioning for a batch whose row i follows the i-th of `rows` (name, conditioning), and the negative one for
    all of it.

    Raises:
        ValueError: one of them has several parts or an option that a row cannot have of its own, or they are of text
            encoders of different widths.
    """
    named = dict([*rows, negative])
    for name, parts in named.items():
        if len(parts) != 1:
            raise ValueError(
                f"The conditioning {name} has {len(parts)} parts, expected one: leave out Conditioning (Combine), areas and "
                "schedules."
            )
        if found := [option for option in NOT_BY_ROW if parts[0][1].get(option) is not None]:
            raise ValueError(
                f"The conditioning {name} comes with {' and '.join(found)}, which would hold for all layers: connect it "
                "without the nodes that set an area, a mask, a timestep range, ControlNet, GLIGEN or hooks."
            )
    texts = {name: parts[0][0] for name, parts in named.items()}
    if len({text.shape[-1] for text in texts.values()}) != 1:
        raise ValueError(
            f"The conditionings are {sorted({text.shape[-1] for text in texts.values()})} wide: encode all with one text "
            "encoder."
        )
    # As core does: a text said several times over means the same to attention. Equal lengths share a call.
    longest = math.lcm(*(text.shape[1] for text in texts.values()))
    texts = {name: text.repeat(1, longest // text.shape[1], 1) for name, text in texts.items()}
    options = dict(rows[-1][1][0][1])
    pooled = [parts[0][1].get("pooled_output") for _, parts in rows]
    if all(value is not None for value in pooled):
        options["pooled_output"] = torch.cat(pooled)
    positive = [[torch.cat([texts[name] for name, _ in rows]), options]]
    return positive, [[texts[negative[0]], negative[1][0][1]]]


def sample_layers(
    model: LayeredModel,
    positive: list,
    negative: list,
    rows: Rows,
    latent: Tensor,
    cfg: list[float],
    masg: str,
    seed: int,
    steps: int,
    sampler_name: str,
    scheduler: str,
    preview: Callable[[Tensor], Tensor],
) -> Tensor:
    """The latents [R,C,h,w] of all rows, from the same noise each.

    Args:
        latent: [R,C,h,w], the picture that each row is shown, with the people hidden from it greyed out so that their
            colours cannot leak in; sampling begins from it, and around the row's mask it stays.
        cfg: the guidance of each row.
        masg: one of `guidance.SCHEDULES`, with the guidance of a row in its free part and 1 around it; or "off".
        preview: predictions of the rows -> the latent [C,h,w] to show.
    """
    guider = LayeredGuider(model, positive, negative, rows, cfg, masg)
    show = latent_preview.prepare_callback(model.patcher, steps)

    def callback(step: int, x0: Tensor, x: Tensor, total: int) -> None:
        show(step, preview(x0)[None], x, total)

    noise = comfy.sample.prepare_noise(latent[:1], seed).expand(len(cfg), -1, -1, -1)
    device = model.patcher.load_device
    schedule = comfy.samplers.KSampler(model.patcher, steps, device, sampler_name, scheduler, denoise=1.0).sigmas
    samples = guider.sample(
        noise.clone(),
        latent,
        comfy.samplers.sampler_object(sampler_name),
        schedule,
        denoise_mask=rows.free,
        callback=callback,
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    finite.check_finite(samples, "The network's result")
    return samples

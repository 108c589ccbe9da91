"""Guidance that depends on where and when: MASG (LRNR, Algorithm 1) and SARG (Attentive Eraser)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .vocabulary import SCHEDULES as SCHEDULES


def masg_scale(t: float, steps: int, mask_scale: float, background_scale: float, cutoff: float, schedule: str) -> float:
    """The guidance in the mask at one step of the schedule (LRNR, Eq. 3, Eq. 4 and Appendix C).

    Args:
        t: counts down from `steps` (first) to 1 (last); may be fractional. Outside of that it is clamped.
        mask_scale: γ_T, the guidance in the mask at the start.
        background_scale: γ_bg, to which it falls.
        cutoff: t_c as a share of `steps`, 0..1: guidance starts to fall (or, for "one_step", has fallen) below
            t_c = cutoff · steps. "constant", "linear" and "cosine" do not look at it.
        schedule: one of `SCHEDULES`.

    Raises:
        ValueError: an unknown schedule, or a number out of range.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule is {schedule!r}: choose one of {', '.join(SCHEDULES)}.")
    if not 0 <= cutoff <= 1:
        raise ValueError(f"cutoff is {cutoff}: it is a share of the steps, between 0 and 1.")
    if steps < 1:
        raise ValueError(f"steps is {steps}: at least 1 is needed.")
    if not (0 <= mask_scale < math.inf and 0 <= background_scale < math.inf):
        raise ValueError(f"The scales are {mask_scale} and {background_scale}: both must be finite and at least 0.")
    if schedule == "constant":
        return mask_scale
    t = min(max(t, 1.0), float(steps))
    start = cutoff * steps if schedule.endswith("step") else float(steps)
    if t >= start:
        return mask_scale
    if schedule == "one_step" or start <= 1:
        return background_scale
    progress = (t - 1) / (start - 1)
    if schedule.startswith("cosine"):
        progress = 0.5 * (1 - math.cos(math.pi * progress))
    return background_scale + progress * (mask_scale - background_scale)


def masg_map(mask: Tensor, scale: float, background_scale: float) -> Tensor:
    """The guidance of every latent cell: `scale` where mask [B, 1, h, w] is 1, `background_scale` where it is 0."""
    return background_scale + (scale - background_scale) * mask


def sarg(plain: Tensor, erased: Tensor, scale: float, guided: Tensor | None = None) -> Tensor:
    """Self-attention redirection guidance (Attentive Eraser): away from the prediction that sees the object.

    The same for predictions of the noise and of the clean latent, as the weights sum to 1.

    Args:
        plain: the conditioned prediction.
        erased: the same under region attention, which hides the object.
        scale: the removal scale; at 1 without other guidance the result is `erased`.
        guided: the prediction by classifier-free guidance, on top of which SARG is added; `plain` where there is none.
    """
    return (plain if guided is None else guided) + scale * (erased - plain)


def schedule_position(sigma: float, sigmas: Sequence[float], steps: int) -> float:
    """The position of a run in its schedule: `steps` at the first sigma down to 1 at the last that is denoised.

    Between two sigmas the position is interpolated (in log sigma where both are positive), so that samplers which
    call the network in between, such as Heun or DPM-Solver, get what lies in between.

    Args:
        sigma: the noise level of the call.
        sigmas: the run's noise levels, descending, `steps` + 1 of them; the last may be 0.
    """
    for index in range(steps):
        high, low = sigmas[index], sigmas[index + 1]
        if sigma >= high:
            return float(steps - index)
        if sigma > low:
            passed = math.log(high / sigma) / math.log(high / low) if low > 0 else (high - sigma) / high
            return max(1.0, steps - index - passed)
    return 1.0

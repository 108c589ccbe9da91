"""One operator behind AAS, SS, SRA and SMA: attention that depends on which tokens belong to the object.

    out_i = Σ_j softmax_j( τ[m_i] · q_i·k_j / √d  +  δ[m_i] · m_j ) v_j

with m the token mask (1 = object), τ a temperature and δ a logit on object keys, both chosen by the region of the
query. δ = −∞ drops those keys: the rest go through the host's ordinary attention, on less work than before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Attention = Callable[..., Tensor]
Number = float | Tensor


@dataclass(frozen=True)
class RegionSettings:
    """The part of the picture that each kind of query sees.

    Args:
        temperature: τ of background and of object queries, positive floats or scalar tensors.
        object_logit: δ of background and of object queries; `-math.inf` hides the object's keys from them.
    """

    temperature: tuple[Number, Number] = (1.0, 1.0)
    object_logit: tuple[Number, Number] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for value in self.temperature:
            if not isinstance(value, Tensor) and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"temperature is {self.temperature}: both values must be finite and at least 0.")
        for value in self.object_logit:
            if not isinstance(value, Tensor) and (math.isnan(value) or value == math.inf):
                raise ValueError(f"object_logit is {self.object_logit}: both values must be finite or -inf.")


PLAIN = RegionSettings()
AAS = RegionSettings(object_logit=(-math.inf, -math.inf))
"""Attention activation and suppression (Attentive Eraser): nobody sees the object."""
SRA = RegionSettings(object_logit=(0.0, -math.inf))
"""Self-rectifying attention (EraDiff, Eq. 10): the object does not see itself."""
SRA_STRICT = AAS
"""SRA as EraDiff's prose has it: the background does not see the object either."""


def aas(suppression: float) -> RegionSettings:
    """AAS with similarity suppression (SS): object queries attend with their logits scaled by λ = `suppression`."""
    return RegionSettings(temperature=(1.0, suppression), object_logit=AAS.object_logit)


def aas_at(step: float, steps: int, suppression: float, share: float) -> RegionSettings:
    """AAS at one step of a run, with similarity suppression for the first `share` of the steps.

    The authors' code calls the steps 0 to 9 `ss_steps=9`, of 50 of which a strength of 0.8 executes 40: in KSampler these
    are 0.25 of 40 steps at denoise 0.8, with ddim_uniform.

    Args:
        step: counts up from 0; it comes back from its noise level, so it is not quite whole.
        steps: of the run.
        suppression: λ.
        share: of the steps, 0..1.
    """
    # 0.28 · 25 is 7.000000000000001 in floating point, and step 7 is the eighth.
    return aas(suppression) if step + 1e-3 < share * steps else AAS


def sma(delta_bg: Number, delta_obj: Number) -> RegionSettings:
    """Spatially modulated attention (MILD, Eq. 9): δ = (α01 − α00, α11 − α10); softmax sees no more of the four α."""
    return RegionSettings(object_logit=(delta_bg, delta_obj))


class Group(NamedTuple):
    """Rows of a batch with the same number of object tokens: `rows` [R], their tokens `order` [R, N] with the
    `background` ones first, each kind in its order."""

    rows: Tensor
    order: Tensor
    background: int


def partition(objects: Tensor) -> list[Group]:
    """The rows of a token mask [B, N] (bool) by their number of object tokens. It waits for the device: once a mask."""
    order = objects.to(torch.uint8).argsort(dim=1, stable=True)
    counts = (~objects).sum(dim=1).tolist()
    groups = []
    for count in sorted(set(counts)):
        rows = torch.tensor([row for row, other in enumerate(counts) if other == count], device=objects.device)
        groups.append(Group(rows, order[rows], count))
    return groups


def scaled_dot_product_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """PyTorch's attention, with the name that ComfyUI's attention has for its mask."""
    return F.scaled_dot_product_attention(q, k, v, mask)


def region_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    objects: Tensor,
    settings: RegionSettings,
    attention: Attention = scaled_dot_product_attention,
    groups: list[Group] | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Attention by region, exactly, without a mask tensor of its own.

    Hidden keys are left out, temperatures scale the queries, and a finite δ travels in one extra channel. A sample
    without background token gets plain attention.

    Args:
        q: [B, heads, M, d], any floating dtype. Fewer queries than keys are those of the last M tokens, and the tokens
            before them must be background (a network that keeps the keys of its text from an earlier step).
        k, v: [B, heads', N, d], N >= M; heads' divides heads (grouped-query attention), if `attention` can do that.
        objects: [B, N] bool, True where a token belongs to the object.
        attention: the host's own attention, called as `attention(q, k, v)` on [B', heads, N', d'] with its default
            scale 1/√d'. d' exceeds d where a finite δ adds a channel; N' of the keys may be below that of the queries.
        groups: `partition(objects)`, for callers with many layers to one mask.
        mask: what the network itself hides (the padding of a text), added to the logits or, if bool, True where a query
            sees a key; [M, N], [B, M, N] or [B, heads, M, N], where each side but N may be 1. It reaches
            `attention` as its argument `mask`, cut to the keys and queries of each call.

    Returns:
        [B, heads, M, d].
    """
    mask = None if mask is None else _four_sides(mask)
    if not any(_hidden(settings)) and _is_one(settings.temperature):
        # A sample of one kind gets the same logit on all its keys, which a softmax does not see.
        kinds = objects[:, objects.shape[1] - q.shape[2] :]
        return _with_logit(q, k, v, kinds, objects, settings.object_logit, attention, mask)
    groups = partition(objects) if groups is None else groups
    if len(groups) == 1:
        return _one_group(q, k, v, objects, groups[0], settings, attention, mask)
    out = torch.empty_like(q)
    for group in groups:
        rows = group.rows
        theirs = mask if mask is None or len(mask) == 1 else mask[rows]
        part = _one_group(q[rows], k[rows], v[rows], objects[rows], group, settings, attention, theirs)
        out = out.index_copy(0, rows, part.to(out.dtype))
    return out


def region_attention_reference(
    q: Tensor, k: Tensor, v: Tensor, objects: Tensor, settings: RegionSettings, mask: Tensor | None = None
) -> Tensor:
    """Region attention by the plain formula, for tests: every M×N logit in fp32, or in fp64 for fp64 input. `mask` is added
    to the logits."""
    q, k, v = (x if x.dtype == torch.float64 else x.float() for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    only_objects = objects.all(dim=1, keepdim=True)
    kinds = objects[:, objects.shape[1] - q.shape[2] :]
    temperature = _by_region(settings.temperature, kinds, q).masked_fill(only_objects, 1)
    logit = _by_region(settings.object_logit, kinds, q).masked_fill(only_objects, 0)
    logits = temperature[:, None, :, None] * (q @ k.mT) / math.sqrt(q.shape[-1])
    logits = torch.where(objects[:, None, None, :], logits + logit[:, None, :, None], logits)
    return (logits if mask is None else logits + mask).softmax(dim=-1) @ v


def _one_group(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    objects: Tensor,
    group: Group,
    settings: RegionSettings,
    attention: Attention,
    mask: Tensor | None,
) -> Tensor:
    _, order, background = group
    if background == 0:
        return _masked(attention, q, k, v, mask)
    earlier = objects.shape[1] - q.shape[2]
    hidden = _hidden(settings)
    q = _scale_queries(q, objects[:, earlier:], settings.temperature)
    if background == objects.shape[1]:
        return _masked(attention, q, k, v, mask)
    if not any(hidden):
        return _with_logit(q, k, v, objects[:, earlier:], objects, settings.object_logit, attention, mask)
    kept_k, kept_v = _take(k, order[:, :background]), _take(v, order[:, :background])
    kept_mask = _take_sides(mask, keys=order[:, :background])
    if all(hidden):
        return _masked(attention, q, kept_k, kept_v, kept_mask)
    out = q.new_empty(*q.shape[:-1], v.shape[-1])
    # The earlier tokens are background, so they come first in the order and have no query.
    for kind, rows in enumerate((order[:, earlier:background] - earlier, order[:, background:] - earlier)):
        queries = _take(q, rows)
        if hidden[kind]:
            part = _masked(attention, queries, kept_k, kept_v, _take_sides(kept_mask, queries=rows))
        else:
            kinds = objects.new_full(rows.shape, bool(kind))
            theirs = _take_sides(mask, queries=rows)
            part = _with_logit(queries, k, v, kinds, objects, settings.object_logit, attention, theirs)
        out = _put(out, rows, part.to(out.dtype))
    return out


def _with_logit(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kinds: Tensor,
    objects: Tensor,
    logits: tuple[Number, Number],
    attention: Attention,
    mask: Tensor | None,
) -> Tensor:
    """Attention with a finite logit on object keys, by the kind of each query [B, N of q] (bool)."""
    if all(not isinstance(value, Tensor) and value in (0, -math.inf) for value in logits):
        return _masked(attention, q, k, v, mask)
    width = q.shape[-1]
    # Attention kernels of GPUs want multiples of 8; on a CPU each further channel only costs.
    wide = width + 1 if q.device.type == "cpu" else -(-(width + 1) // 8) * 8
    finite = (0.0 if not isinstance(value, Tensor) and value == -math.inf else value for value in logits)
    logit = _by_region((next(finite), next(finite)), kinds, q)
    # The host scales by 1/√wide; the logits are to be scaled by 1/√width, and δ not at all.
    wide_q, wide_k = F.pad(q * math.sqrt(wide / width), (0, wide - width)), F.pad(k, (0, wide - width))
    # fp16 ends at 65504, and an infinite one would be NaN beside the zeros of the background.
    limit = torch.finfo(q.dtype).max / 2
    wide_q[..., width] = (logit * math.sqrt(wide)).clamp(-limit, limit)[:, None]
    wide_k[..., width] = objects[:, None].to(k)
    return _masked(attention, wide_q, wide_k, F.pad(v, (0, wide - v.shape[-1])), mask)[..., : v.shape[-1]]


def _masked(attention: Attention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return attention(q, k, v) if mask is None else attention(q, k, v, mask=mask)


def _four_sides(mask: Tensor) -> Tensor:
    """A mask that may be broadcast to [B, heads, M, N], with all four sides."""
    while mask.ndim < 4:
        mask = mask.unsqueeze(mask.ndim - 2)
    return mask


def _take_sides(mask: Tensor | None, keys: Tensor | None = None, queries: Tensor | None = None) -> Tensor | None:
    """A mask of four sides cut to these keys [B, K] and queries [B, M'], where it tells them apart."""
    if mask is None:
        return None
    if queries is not None and mask.shape[2] > 1:
        index = queries[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3])
        mask = mask.expand(len(queries), -1, -1, -1).gather(2, index)
    if keys is not None:
        index = keys[:, None, None, :].expand(-1, *mask.shape[1:3], -1)
        mask = mask.expand(len(keys), -1, -1, -1).gather(3, index)
    return mask


def _hidden(settings: RegionSettings) -> list[bool]:
    """The kinds of queries, (background, object), that see no object keys."""
    return [not isinstance(value, Tensor) and value == -math.inf for value in settings.object_logit]


def _is_one(temperature: tuple[Number, Number]) -> bool:
    return all(not isinstance(value, Tensor) and value == 1 for value in temperature)


def _scale_queries(q: Tensor, objects: Tensor, temperature: tuple[Number, Number]) -> Tensor:
    if _is_one(temperature):
        return q
    return q * _by_region(temperature, objects, q)[:, None, :, None]


def _by_region(values: tuple[Number, Number], objects: Tensor, like: Tensor) -> Tensor:
    """[B, N]: the first value where a token is background, the second where it is the object."""
    # Not as_tensor: a number copied to a GPU makes the CPU wait. PyTorch 2.5 fills no fp16 beyond its range.
    wide = torch.promote_types(like.dtype, torch.float32)
    background, of_object = (
        (value if isinstance(value, Tensor) else like.new_full((), value, dtype=wide)).to(like) for value in values
    )
    return torch.where(objects, of_object, background)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Tokens `index` [B, K] of x [B, heads, N, d]: [B, heads, K, d]."""
    if len(x) == 1:
        return x.index_select(2, index[0])
    return x.gather(2, index[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[-1]))


def _put(x: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """x [B, heads, N, d] with `values` [B, heads, K, d] written over its tokens `index` [B, K], in place."""
    if len(x) == 1:
        return x.index_copy_(2, index[0], values)
    return x.scatter_(2, index[:, None, :, None].expand_as(values), values)

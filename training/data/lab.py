"""Lab in the whole numbers of 8-bit pictures, as OpenCV makes it: by tables of fixed-point numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_SHIFT, _GAMMA_SHIFT = 12, 3
_BOTH = _SHIFT + _GAMMA_SHIFT
_WHITE = np.array([[0.950456], [1.0], [1.088754]])
"""D65."""
_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_WEIGHTS = np.rint(2**_SHIFT * _TO_XYZ / _WHITE).astype(np.int64)


def lab_in_bytes(pixels: Tensor) -> Tensor:
    """Lab of sRGB pixels [3, H, W], whole numbers of 0..255, as floats [3, H, W]: L in 0..255, a and b in -128..127."""
    linear = _LINEAR[pixels.round().long().movedim(0, -1).cpu().numpy()]
    x, y, z = np.moveaxis(_ROOTS[_descaled(linear @ _WEIGHTS.T, _SHIFT)], -1, 0)
    light = _descaled((116 * 255 + 50) // 100 * y - (16 * 255 * 2**_BOTH + 50) // 100, _BOTH)
    red = _descaled(500 * (x - y), _BOTH)
    yellow = _descaled(200 * (y - z), _BOTH)
    return torch.from_numpy(np.stack([light.clip(0, 255), red.clip(-128, 127), yellow.clip(-128, 127)])).to(pixels)


def _descaled(values: np.ndarray, shift: int) -> np.ndarray:
    """Fixed-point numbers rounded to whole ones."""
    return (values + (1 << (shift - 1))) >> shift


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Tables, in fixed point: sRGB's levels in linear light, and the function f of CIE Lab of linear light."""
    levels = np.arange(256) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    single = np.float32  # as OpenCV computes it, or an entry rounds the other way
    light = np.arange(256 * 3 // 2 << _GAMMA_SHIFT, dtype=single) * single(1 / (255 << _GAMMA_SHIFT))
    roots = np.where(light < 0.008856, light * single(7.787) + single(16 / 116), np.cbrt(light))
    return np.rint((255 << _GAMMA_SHIFT) * linear).astype(np.int64), np.rint(2**_BOTH * roots).astype(np.int64)


_LINEAR, _ROOTS = _tables()

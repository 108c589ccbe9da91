"""Holes filled by OpenCV: what a library that everybody has makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor


def telea(picture: Tensor, hole: Tensor) -> Tensor:
    """Smear the hole's surroundings inwards (Telea, 2004); picture [1, 3, H, W] in 0..1, hole [1, H, W] of 0 and 1.

    Raises:
        ModuleNotFoundError: OpenCV is not installed.
    """
    cv2 = opencv()
    return tensor(cv2.inpaint(pixels(picture), (hole[0] > 0).byte().numpy() * 255, 3, cv2.INPAINT_TELEA))


def shift_map(picture: Tensor, hole: Tensor) -> Tensor:
    """Fill the hole with shifted copies of the picture (OpenCV's xphoto: patch offsets, He and Sun, 2012). In another process
    a few pixels may come out otherwise, whatever seed OpenCV is given.

    Raises:
        ModuleNotFoundError: OpenCV is not installed, or without its extra modules.
    """
    cv2 = opencv()
    if not hasattr(cv2, "xphoto"):
        raise ModuleNotFoundError("opencv-contrib-python-headless", name="opencv-contrib-python-headless")
    lab = cv2.cvtColor(pixels(picture), cv2.COLOR_RGB2Lab)
    filled = np.zeros_like(lab)
    cv2.xphoto.inpaint(lab, (hole[0] == 0).byte().numpy() * 255, filled, cv2.xphoto.INPAINT_SHIFTMAP)
    return tensor(cv2.cvtColor(filled, cv2.COLOR_Lab2RGB))


def opencv() -> Any:
    import cv2

    cv2.setNumThreads(torch.get_num_threads())
    return cv2


def pixels(picture: Tensor) -> np.ndarray:
    return (rearrange(picture, "1 c h w -> h w c").cpu().numpy() * 255).round().astype(np.uint8)


def tensor(array: np.ndarray) -> Tensor:
    return rearrange(torch.from_numpy(array.astype(np.float32)), "h w c -> 1 c h w") / 255

"""Words and counts of the maths that need no tensors, so that the command line can offer them before PyTorch is imported."""

from __future__ import annotations

from typing import Literal

Difficulty = Literal["objects", "smooth", "texture", "clutter"]
DIFFICULTIES: tuple[Difficulty, ...] = ("objects", "smooth", "texture", "clutter")
"""Kinds of drawn scenes (`scenes.py`). `objects`: soft backgrounds, small objects. `smooth`: a border, broad bands and strong
light that go on behind larger objects, and a floor that may reflect them. `texture`: stripes, checks, tiles, bricks or planks
there. `clutter`: both, with more objects, all look-alikes, that touch."""
LIP = 20
"""Labels of the LIP data set, 0 for background: what SCHP's parsing maps hold."""
Schedule = Literal["constant", "linear", "cosine", "one_step", "cosine_step", "linear_step"]
SCHEDULES: tuple[Schedule, ...] = ("constant", "linear", "cosine", "one_step", "cosine_step", "linear_step")
"""Ways in which MASG's guidance falls (`guidance.masg_scale`)."""

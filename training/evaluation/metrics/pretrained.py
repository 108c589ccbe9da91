"""Networks of transformers, from a folder or downloaded, and pictures as their processors show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .networks import DOWNLOAD

UNUSED = "pooler."
"""Weights that no metric looks at, and that DINO's own checkpoints do not have."""


def pretrained_network(kind: Any, path: Path, source: str) -> Any:
    """The network that a class of transformers loads from a folder, or from the Hub by its name there (`source`), frozen.

    Raises:
        OSError, ValueError: the folder holds another network, or it cannot be downloaded.
    """
    try:
        network, found = pretrained(kind, path, source, output_loading_info=True)
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    if missing := [name for name in found["missing_keys"] if not name.startswith(UNUSED)]:
        # transformers would go on with random numbers in their place.
        raise ValueError(
            f"{len(missing)} of the {len(network.state_dict())} tensors of {kind.__name__} are missing, such as {min(missing)}"
        )
    return network.eval().requires_grad_(False)


def pretrained(kind: Any, path: Path, source: str, **options: Any) -> Any:
    """Loads what a class of transformers finds in a folder, or from the Hub.

    Raises:
        OSError, ValueError: the folder holds nothing for it, or it cannot be downloaded.
    """
    if path == DOWNLOAD:
        return kind.from_pretrained(source, **options)
    # Never more than what lies in the folder: a name that is none would be looked for on the Hub.
    return kind.from_pretrained(str(path.resolve()), local_files_only=True, **options)


def show(processor: Any, picture: Tensor) -> Tensor:
    """A picture [3, H, W] in 0..1 as a network's processor resizes and normalises it, [1, 3, h, w].

    Like a photo from a file it has 8 bits a channel.
    """
    seen = (picture.clamp(0, 1) * 255).round().to(torch.uint8)
    return processor(images=seen, input_data_format="channels_first", return_tensors="pt")["pixel_values"]

"""Files of weights that other projects made, read without running what may be in them."""

from __future__ import annotations

import struct
from pathlib import Path

from torch import Tensor

from ..adapters.lora import read_safetensors
from ..adapters.one_step import unpickle


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of one by torch.save, also where a training wrapped them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds code, or something else than tensors by name.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    try:
        held = unpickle(path)
    except struct.error:
        raise ValueError(f"{path.name} is no whole file of tensors: get it again.") from None
    if isinstance(held, dict):
        held = next((held[name] for name in ("state_dict", "model") if isinstance(held.get(name), dict)), held)
    if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()):
        raise ValueError(
            f"{path.name} holds {type(held).__name__} of other things than tensors: give a file of weights."
        )
    return held

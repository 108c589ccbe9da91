"""Files of weights that other projects made, read without running what may be in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ...adapters.files import read_safetensors, unpickle


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of one by torch.save, also where a training wrapped them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds code, or something else than tensors by name.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    held = unpickle(path)
    if isinstance(held, dict):
        held = next((held[name] for name in ("state_dict", "model") if isinstance(held.get(name), dict)), held)
    if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()):
        raise ValueError(
            f"{path.name} holds {type(held).__name__} of other things than tensors: give a file of weights."
        )
    return held


def load_whole(network: nn.Module, found: Mapping[str, Tensor | None], path: Path, expected: str) -> None:
    """Load what a file holds under the names of a network, where it is all that the network needs.

    Args:
        expected: the network's name, and what file to give.

    Raises:
        ValueError: a tensor is missing or has another shape.
    """
    own = network.state_dict()
    fitting = {name: value for name in own if (value := found.get(name)) is not None and value.shape == own[name].shape}
    if len(fitting) < len(own):
        raise ValueError(f"{path.name} holds {len(fitting)} of the {len(own)} tensors of {expected}")
    network.load_state_dict(fitting)

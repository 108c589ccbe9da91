"""The mini model on disk: three safetensors files and a tokenizer folder, in diffusers' naming.

```
unet.safetensors  vae.safetensors  text_encoder.safetensors    weights; the config of each is in its header
tokenizer/                                                     a CLIP tokenizer with a vocabulary of its own
```
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PARTS = ("unet", "vae", "text_encoder")
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}
FOLDER = Path(__file__).resolve().parent.parent / "mini"
SIZE, DIFFICULTY = 64, "objects"
"""The side in pixels and the difficulty of the drawn scenes (`kernels/scenes.py`) that the pack's model was trained on."""


@dataclass(frozen=True)
class Mini:
    """The mini model's weights and configs, each keyed by part: "unet", "vae", "text_encoder"."""

    weights: dict[str, dict[str, Tensor]]
    configs: dict[str, dict]
    metadata: dict[str, str]
    tokenizer: Path


def load(path: Path = FOLDER) -> Mini:
    """Read the mini model from a folder.

    Raises:
        FileNotFoundError: a file is missing; the message names it and how to get it.
        ValueError: a file is no part of a mini model.
    """
    weights, configs, metadata = {}, {}, {}
    for part in PARTS:
        weights[part], configs[part], header = load_part(Path(path), part)
        metadata |= {key: value for key, value in header.items() if key.startswith("modelspec.")}
    return Mini(weights, configs, metadata, Path(path) / "tokenizer")


def load_part(path: Path, part: str) -> tuple[dict[str, Tensor], dict, dict[str, str]]:
    """Read one part of the mini model from a folder: its weights, its config, and the header of its file.

    Raises:
        FileNotFoundError, ValueError: as for `load`.
    """
    # The command line asks for the facts above before it imports PyTorch.
    from .files import json_value, read_safetensors

    file = path / f"{part}.safetensors"
    made = f"make it with `unclutter train {'mini' if part in PARTS else part}`"
    if not file.is_file():
        raise FileNotFoundError(f"The mini model has no {file.name} in {path}: reinstall the pack, or {made}.")
    weights, header = read_safetensors(file)
    if header.get("unclutter.kind") != f"mini.{part}":
        raise ValueError(
            f"{file} says it is {header.get('unclutter.kind', 'nothing of ours')[:40]!r}, expected mini.{part}: {made}."
        )
    return weights, json_value(header.get("config", ""), dict, f"The config of {file.name}"), header


def save(path: Path, part: str, weights: dict[str, Tensor], config: dict) -> None:
    """Write one part of the mini model, all of it or nothing; keys of `config` that start with _ are left out."""
    from .files import write_safetensors

    header = {
        "unclutter.kind": f"mini.{part}",
        "config": json.dumps({key: value for key, value in config.items() if not key.startswith("_")}),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "unclutter-mini",
        "modelspec.title": f"Unclutter mini model, {part}",
        "modelspec.license": "MIT",
    }
    write_safetensors(path / f"{part}.safetensors", weights, header)

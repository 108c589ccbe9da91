"""Networks that metrics look through: who made each, under which licence, and where its weights are. No PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DOWNLOAD = Path("download")
"""In place of a path: the library that knows the network fetches its weights."""


@dataclass(frozen=True)
class NetworkFacts:
    """Weights of a network.

    Attributes:
        name: as on the command line, `--weights NAME=PATH`.
        title: the network.
        source: its name on the Hugging Face Hub, or the address of its file.
        licence: of the weights.
        contents: what the path holds: one file, or a folder as transformers saves it.
    """

    name: str
    title: str
    source: str
    licence: str
    contents: str = "folder"


NETWORKS: dict[str, NetworkFacts] = {
    facts.name: facts
    for facts in (
        NetworkFacts(
            "alexnet",
            "AlexNet of torchvision; LPIPS' own few weights come with torchmetrics",
            "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            "BSD-3-Clause",
            "file",
        ),
        NetworkFacts(
            "inception",
            "Inception v3 of the first FID (2015-12-05), for PyTorch by torch-fidelity",
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
            "Apache-2.0",
            "file",
        ),
        NetworkFacts("clip", "CLIP ViT-L/14", "openai/clip-vit-large-patch14", "MIT"),
        NetworkFacts("clip-336", "CLIP ViT-L/14 at 336 pixels", "openai/clip-vit-large-patch14-336", "MIT"),
        NetworkFacts("dino", "DINO ViT-B/16", "facebook/dino-vitb16", "Apache-2.0"),
        NetworkFacts("dinov2", "DINOv2 ViT-g/14", "facebook/dinov2-giant", "Apache-2.0"),
        NetworkFacts("sam", "SAM ViT-H", "facebook/sam-vit-huge", "Apache-2.0"),
    )
}


def check_weights(weights: Mapping[str, Path]) -> None:
    """Look at paths of weights before anything is loaded.

    Raises:
        ValueError: there is no network of a name.
        FileNotFoundError: nothing lies at a path.
    """
    for name, path in weights.items():
        if name not in NETWORKS:
            raise ValueError(f"There is no network {name} to give weights of: expected {', '.join(NETWORKS)}.")
        if path != DOWNLOAD and not path.exists():
            raise FileNotFoundError(f"There is nothing at {path}, the weights of {name}: {how_to_get(name)}")


def how_to_get(name: str) -> str:
    """A sentence that says how to give a network's weights."""
    facts = NETWORKS[name]
    if facts.contents == "file":
        return f"get {facts.source} and give --weights {name}=FILE, or --weights {name}=download."
    return (
        f"run `hf download {facts.source} --local-dir FOLDER` and give --weights {name}=FOLDER, or --weights "
        f"{name}=download."
    )

"""The files that the pack's loaders offer, of their kind and the user's first, and the names of files that it writes.

The mini model's own lie in the pack and in none of ComfyUI's folders, so that core's loaders do not list them.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import folder_paths

from ...adapters import mini
from ...adapters.writing import name_fault

KIND = re.compile(rb'"unclutter\.kind"\s*:\s*"([^"]*)"')
LAYERED, LAST_LAYER = re.compile(rb'"fg\.'), re.compile(rb'\.?(?:conv_out|proj_out)\.weight"')
PICKLES = (".pth", ".pt", ".bin")
LONGEST_HEADER = 100 << 20
"""In bytes, as the safetensors library has it."""


def lora_files() -> list[str]:
    """The LoRAs: in models/loras every .safetensors file that is no eraser, ours first; then the mini model's."""
    return offered("loras", {"lora": 0, "": 1})


def layered_files() -> list[str]:
    """The layered erasers in models/loras, then the mini model's."""
    return offered("loras", {"layered": 0})


def one_step_files() -> list[str]:
    """The one-step erasers in models/loras, then its pickles, as OSOR released them, then the mini model's."""
    return offered("loras", {"one_step": 0, "pickle": 1})


def embedding_files() -> list[str]:
    """The files of tensors in models/embeddings, removal prompts first, then the mini model's."""
    return offered("embeddings", {"prompt": 0, "": 1, "pickle": 1})


def file_path(folder: str, name: str) -> Path:
    """The path of a file of one of these lists; a file of the user is taken before one of the mini model with the same name.

    Raises:
        FileNotFoundError: there is no such file.
    """
    of_mini = mini.FOLDER / folder / name
    if folder_paths.get_full_path(folder, name) is None and name in mini_files(folder):
        return of_mini
    return Path(folder_paths.get_full_path_or_raise(folder, name))


def next_output_file(prefix: str, suffix: str, height: int, width: int) -> tuple[Path, str]:
    """A path that does not exist yet in ComfyUI's output folder, by core's rules for prefixes, and its subfolder.

    Raises:
        ValueError: no file can have such a name.
    """
    parts = prefix.replace("\\", "/").split("/")
    if faults := [fault for part in parts if (fault := name_fault(part))]:
        shown = f"{prefix[:40]!r}{' and so on' if len(prefix) > 40 else ''}"
        raise ValueError(f"filename_prefix is {shown}, of which a part {faults[0]}: give another name.")
    # A name that ends in a folder has no number to go on from, so that core would take the first one again and again.
    prefix = prefix if parts[-1].strip() else f"{prefix.rstrip()}layers"
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory(), width, height
    )
    return Path(folder) / f"{name}_{counter:05}_{suffix}", subfolder


def offered(folder: str, kinds: dict[str | None, int]) -> list[str]:
    names = folder_paths.get_filename_list(folder)
    ranks = {name: kinds.get(kind_of(name, Path(folder_paths.get_full_path(folder, name) or ""))) for name in names}
    own = sorted((name for name, rank in ranks.items() if rank is not None), key=lambda name: ranks[name] or 0)
    return own + [
        name for name in mini_files(folder) if name not in own and kind_of(name, mini.FOLDER / folder / name) in kinds
    ]


def mini_files(folder: str) -> list[str]:
    return sorted(path.name for path in (mini.FOLDER / folder).glob("*.safetensors"))


def kind_of(name: str, path: Path) -> str | None:
    """The kind of a file, as its header says or its tensors suggest: lora, layered, one_step, prompt, pickle, or "" where
    neither tells; None for other files."""
    if name.endswith(PICKLES):
        return "pickle"
    if not name.endswith(".safetensors") or not path.is_file():
        return None
    return kind_in_header(path, path.stat().st_mtime_ns)


@functools.cache
def kind_in_header(path: Path, changed: int) -> str:
    """The lists are made again for each look at a node, so a file is read again only once it has changed."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= LONGEST_HEADER else b""
    if stated := KIND.search(header):
        return stated[1].decode(errors="replace")
    if LAYERED.search(header):
        return "layered"
    return "one_step" if LAST_LAYER.search(header) else ""

"""Settings of `unclutter data cases`, checked before PyTorch is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ...paths import check_file, check_folder

SetName = Literal["auto", "rord", "rorem", "osor", "corne", "hq-sam", "brushbench", "openimages", "ober", "nhr-edit"]


@dataclass(frozen=True)
class CasesConfig:
    """Write a public set, downloaded by you, as a folder that `evaluate photos` and the trainings read.

    Sets without a truth (hq-sam, brushbench, openimages) give pictures and masks alone. Of hq-sam the folder serves `data
    store --cutouts` too. nhr-edit, which has no masks, becomes a folder for `data verify`. docs/datasets.md tells where each
    set is got and under which licence.
    """

    name: Annotated[tyro.conf.Positional[SetName], tyro.conf.arg(metavar="SET")]
    """The set, or auto: recognised by its files."""
    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder of the set as it was downloaded and unpacked."""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUTPUT")]
    """Folder that receives the pictures, the masks and manifest.jsonl; a stopped run goes on."""
    count: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None
    """Cases at most. None: 10,000 of openimages, as in the papers, and all of the others."""
    seed: int = 0
    """openimages: chooses the objects; their ids are written to ids.txt."""
    ids: Path | None = None
    """openimages: an ids.txt of an earlier run, so that two places test on the same objects."""
    split: Literal["test", "train"] = "test"
    """ober: the part that is taken."""

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError(f"count is {self.count}, expected at least 1.")

    def check(self) -> None:
        check_folder(self.data, "a downloaded set")
        if self.ids is not None:
            check_file(self.ids, "an ids.txt")

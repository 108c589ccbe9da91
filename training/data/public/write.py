"""`unclutter data cases`: a public set as a folder of the project's own format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ....adapters.writing import replacing, write_text
from ...images.files import open_picture, picture_size
from ..generate import keep_settings
from ..sample import SUFFIXES, Sample, write_manifest
from .archives import columns_of, parquet_rows, read_ober, read_openimages, unpacked
from .cases import safe_names
from .layouts import PUBLIC, recognised
from .public_case import PublicCase, Source
from .settings import CasesConfig

OPENIMAGES = 10_000
"""Objects that the papers test on."""
NHR_EDIT = {"category", "source_image", "edited_image", "edit_instruction"}
DIRECTIONS = {"add object": ("edited_image", "source_image"), "remove object": ("source_image", "edited_image")}
"""Category of NHR-Edit -> the column of the picture with the object, and that of the picture without it."""


def write_cases(config: CasesConfig) -> None:
    """Write the cases of a public set and their manifest; what is there from a stopped run is kept.

    Raises:
        ValueError: the folder holds no such set, a case of it is damaged, or the output holds another set.
    """
    config.check()
    is_edits = config.name in ("auto", "nhr-edit") and columns_of(config.data) >= NHR_EDIT
    name = "nhr-edit" if is_edits else config.name if config.name != "auto" else recognised(config.data)
    if (
        name is None
        or (name == "nhr-edit" and not is_edits)
        or (name in PUBLIC and not PUBLIC[name].recognise(config.data))
    ):
        wanted = f"the files of {config.name}" if config.name != "auto" else f"those of one of {', '.join(PUBLIC)}"
        raise ValueError(f"{config.data} holds no set that is known here, expected {wanted}: see docs/datasets.md.")
    keep_settings(config.output, {"command": "cases", "set": name, "seed": config.seed, "split": config.split})
    if name == "nhr-edit":
        write_edits(config.data, config.output, config.count)
        return
    count = OPENIMAGES if name == "openimages" and config.count is None else config.count
    samples, ids = [], []
    for case in tqdm(islice(_cases(name, config), count), total=count, desc=name, unit="case"):
        ids.append(case.name)
        samples.append(_write(case, config.output, "image" if name == "hq-sam" else "source"))
    write_manifest(config.output, samples)
    if name == "openimages":
        write_text(config.output / "ids.txt", "".join(f"{each}\n" for each in ids))
    licence = f"{PUBLIC[name].title}, {PUBLIC[name].licence}. {PUBLIC[name].page}\n"
    write_text(config.output / "LICENCE.txt", licence)
    print(f"{len(samples)} cases in {config.output}. Licence: {licence.strip()}")


def _cases(name: str, config: CasesConfig) -> Iterator[PublicCase]:
    if name == "openimages":
        ids = config.ids.read_text(encoding="utf-8").split() if config.ids else None
        return read_openimages(config.data, config.seed, ids)
    return read_ober(config.data, config.split) if name == "ober" else PUBLIC[name].read(config.data)


def write_edits(data: Path, output: Path, count: int | None) -> None:
    """Write the edits of NHR-Edit's parquet files that add or remove an object as shot/, bg/ and prompts.json."""
    prompts: dict[str, str] = {}
    rows = parquet_rows(data, sorted(NHR_EDIT))
    chosen = ((number, row) for number, row in enumerate(rows) if str(row["category"]).lower() in DIRECTIONS)
    for number, row in tqdm(islice(chosen, count), total=count, desc="nhr-edit", unit="edit"):
        columns = DIRECTIONS[row["category"].lower()]
        for kind, column in zip(("shot", "bg"), columns, strict=True):
            path = output / kind / f"{number:06}.png"
            if not path.exists():
                _save(unpacked(row[column]).convert("RGB"), path)
        prompts[f"{number:06}"] = row["edit_instruction"]
    write_text(output / "prompts.json", json.dumps(prompts, indent=0))
    print(f"{len(prompts)} edits in {output}. `unclutter data verify {output} --output PAIRS` finds their masks.")


def _write(case: PublicCase, output: Path, pictures: str) -> Sample:
    name = safe_names([case.name])[0]
    picture = _written(case.picture, output / pictures / name)
    size = picture_size(picture)
    truth = None if case.truth is None else _written(case.truth, output / "target" / name)
    if truth is not None and picture_size(truth) != size:
        (height, width), (other_height, other_width) = size, picture_size(truth)
        raise ValueError(
            f"{case.name} is {width}x{height} and its truth {other_width}x{other_height}, expected one size: leave it out."
        )
    mask = _mask(case.mask, output / "mask" / f"{name}.png", size)
    effects = None if case.effects is None else _mask(case.effects, output / "effect_mask" / f"{name}.png", size)
    return Sample(name, picture, truth or picture, mask, effects, prompt=case.caption)


def _written(source: Source, stem: Path) -> Path:
    """The picture beside others of its kind: a copy of the file, bit for bit, or a PNG."""
    suffix = source.suffix.lower() if isinstance(source, Path) else ".png"
    path = stem.with_name(f"{stem.name}{suffix if suffix in SUFFIXES else '.png'}")
    if path.exists():
        return path
    if not isinstance(source, Path):
        _save(source().convert("RGB"), path)
    else:
        open_picture(source).load()
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            shutil.copyfile(source, temporary)
    return path


def _mask(source: Source, path: Path, size: tuple[int, int]) -> Path:
    """A mask as black and white, of the picture's (height, width)."""
    if not path.exists():
        picture = (open_picture(source) if isinstance(source, Path) else source()).convert("L")
        values = np.asarray(picture)
        # Some sets write masks as 0 and 1.
        white = Image.fromarray(np.where(values > (127 if values.max(initial=0) > 1 else 0), 255, 0).astype(np.uint8))
        _save(white.resize((size[1], size[0]), Image.Resampling.NEAREST), path)
    return path


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        picture.save(temporary)

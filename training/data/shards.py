"""Large sets as webdataset shards: tar files whose members `NAME.source.png`, `NAME.target.png`, ... are one pair.

Written by webdataset, so that its tools and other trainings read them; read here by place, so that order, augmentation
and resuming are those of a folder.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import tyro
from tqdm import tqdm

from .manifest import OPTIONAL, REQUIRED, Sample, read_manifest


@dataclass(frozen=True)
class Member:
    """A file inside a tar; opens as a path does."""

    tar: Path
    name: str
    offset: int
    size: int

    def open(self) -> io.BytesIO:
        with self.tar.open("rb") as file:
            file.seek(self.offset)
            return io.BytesIO(file.read(self.size))

    def __str__(self) -> str:
        return f"{self.tar}/{self.name}"


def write_shards(
    folder: tyro.conf.Positional[Path],
    output: tyro.conf.Positional[Path],
    megabytes: int = 512,
) -> None:
    """Pack a folder of pairs into webdataset shards, which every training reads as it reads a folder.

    Args:
        folder: a manifest.jsonl, or folders source, target and mask.
        output: folder that receives shard-000000.tar and so on; it must not exist.
        megabytes: size at which a shard is closed.
    """
    from webdataset.writer import ShardWriter

    samples = read_manifest(folder)
    if output.exists():
        raise ValueError(f"{output} exists: give a folder that does not.")
    temporary = output.with_name(f".{output.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    with ShardWriter(str(temporary / "shard-%06d.tar"), maxsize=megabytes * 2**20, verbose=0) as writer:
        for sample in tqdm(samples, desc="packing"):
            entry: dict[str, object] = {"__key__": sample.name, "json": {"prompt": sample.prompt}}
            for kind in (*REQUIRED, *OPTIONAL):
                if (path := getattr(sample, kind)) is not None:
                    entry[f"{kind}{path.suffix.lower()}"] = path.read_bytes()
            writer.write(entry)
    os.replace(temporary, output)
    print(f"{len(samples)} pairs in {len(list(output.glob('*.tar')))} shards: {output}")


def read_shards(root: Path) -> list[Sample]:
    """The pairs in all tars of a folder.

    Raises:
        ValueError: a tar is damaged, or a pair in it incomplete.
    """
    found: dict[str, dict] = {}
    for path in sorted(root.glob("*.tar")):
        try:
            with tarfile.open(path) as tar:
                for member in tar:
                    key, _, kind = member.name.partition(".")
                    entry = found.setdefault(key, {})
                    if kind == "json":
                        entry["prompt"] = json.load(tar.extractfile(member) or io.BytesIO(b"{}")).get("prompt")
                    else:
                        entry[kind.partition(".")[0]] = Member(path, member.name, member.offset_data, member.size)
        except (tarfile.TarError, EOFError) as error:
            raise ValueError(f"{path} is no whole tar file ({error}): pack the set again.") from None
    for key, entry in found.items():
        if missing := [kind for kind in REQUIRED if kind not in entry]:
            raise ValueError(f"The shards in {root} lack {', '.join(missing)} of {key}: pack the set again.")
    kinds = (*REQUIRED, *OPTIONAL, "prompt")
    return [Sample(key, **{kind: entry[kind] for kind in kinds if kind in entry}) for key, entry in found.items()]

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
from pathlib import Path, PurePosixPath

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

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    def open(self) -> io.BytesIO:
        return io.BytesIO(self.read_bytes())

    def read_bytes(self) -> bytes:
        with self.tar.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

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
        for number, sample in enumerate(tqdm(samples, desc="packing")):
            # A key ends at its first dot, and a name may have some.
            entry: dict[str, object] = {
                "__key__": f"{number:06}",
                "json": {"name": sample.name, "prompt": sample.prompt},
            }
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
    samples = []
    for path in sorted(root.glob("*.tar")):
        try:
            with tarfile.open(path, "r:") as tar:
                samples += _read_shard(path, tar)
        except (tarfile.TarError, EOFError) as error:
            raise ValueError(f"{path} is no whole tar file ({error}): pack the set again.") from None
    return samples


def _read_shard(path: Path, tar: tarfile.TarFile) -> list[Sample]:
    found: dict[str, dict] = {}
    for member in tar:
        if not member.isfile():
            continue
        folder, _, file = member.name.removeprefix("./").rpartition("/")
        stem, _, kind = file.partition(".")
        entry = found.setdefault(f"{folder}/{stem}".lstrip("/"), {})
        content = Member(path, member.name, member.offset_data, member.size)
        if kind != "json":
            entry[kind.partition(".")[0]] = content
            continue
        try:
            values = json.loads(content.read_bytes())
        except ValueError as error:
            raise ValueError(f"{content} is no JSON ({error}): pack the set again.") from None
        if not isinstance(values, dict) or not all(isinstance(values.get(k), str | None) for k in ("name", "prompt")):
            raise ValueError(f"{content} is no object with the texts name and prompt: pack the set again.")
        entry |= {key: values[key] for key in ("name", "prompt") if values.get(key) is not None}
    for key, entry in found.items():
        if missing := [kind for kind in REQUIRED if kind not in entry]:
            raise ValueError(f"{path} lacks {', '.join(missing)} of {key}: pack the set again.")
    kinds = ("name", *REQUIRED, *OPTIONAL, "prompt")
    return [
        Sample(**{"name": key, **{kind: entry[kind] for kind in kinds if kind in entry}})
        for key, entry in found.items()
    ]

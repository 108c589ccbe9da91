"""`unclutter data shard`: a large set as webdataset shards."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import tyro
from tqdm import tqdm

from .manifest import read_manifest
from .sample import OPTIONAL, REQUIRED


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
    # Left to itself, webdataset takes a path for a URL and all of it for a format; a stream of ours it does not close.
    with ShardWriter(
        "shard-%06d.tar",
        maxsize=megabytes * 2**20,
        verbose=0,
        opener=lambda name: (temporary / name).open("wb"),
        post=lambda _: writer.tarstream.stream.close(),  # pyright: ignore[reportOptionalMemberAccess]
    ) as writer:
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

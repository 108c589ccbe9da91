"""`unclutter data shard`: a large set as webdataset shards."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections import deque
from pathlib import Path

from tqdm import tqdm

from .manifest import read_manifest
from .sample import OPTIONAL, REQUIRED, Sample
from .settings import ShardConfig


def write_shards(config: ShardConfig) -> None:
    """Pack a folder of pairs into webdataset shards, which every training reads as it reads a folder.

    Raises:
        ValueError: the output exists.
        OSError: a picture cannot be read, or the shards cannot be written, on a full disk for one; nothing of them is left.
    """
    samples = read_manifest(config.folder)
    if config.output.exists():
        raise ValueError(f"{config.output} exists: give a folder that does not.")
    temporary = config.output.with_name(f".{config.output.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    left = deque(enumerate(samples))
    try:
        with tqdm(total=len(samples), desc="packing") as progress:
            while left:
                number = len(list(temporary.iterdir()))
                write_shard(temporary / f"shard-{number:06}.tar", left, config.megabytes * 2**20, progress)
        os.replace(temporary, config.output)
    except OSError as error:
        if error.filename is not None:  # of a file that cannot be opened, and not of a disk that is full
            raise
        raise OSError(f"{config.output} could not be written ({error}): make room, or give another folder.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"{len(samples)} pairs in {len(list(config.output.glob('*.tar')))} shards: {config.output}")


def write_shard(path: Path, left: deque[tuple[int, Sample]], limit: int, progress: tqdm) -> None:
    """Take numbered samples from the left into one tar until it holds `limit` bytes."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        while left:
            # A key ends at its first dot, and a name may have some: the pair's number is the key.
            number, sample = left.popleft()
            for kind, content in contents(sample).items():
                member = tarfile.TarInfo(f"{number:06}.{kind}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            progress.update()
            if tar.offset >= limit:
                return


def contents(sample: Sample) -> dict[str, bytes]:
    """The files of a pair by the end of their names, and its name and prompt as JSON."""
    found = {"json": json.dumps({"name": sample.name, "prompt": sample.prompt}).encode()}
    for kind in (*REQUIRED, *OPTIONAL):
        if (path := getattr(sample, kind)) is not None:
            found[f"{kind}{path.suffix.lower()}"] = path.read_bytes()
    return found

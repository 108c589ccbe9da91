"""A folder of photos and a folder of masks: gone on with after a stop, and past what fails."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from tqdm import tqdm

from .data.folders import by_stem, pictures_in
from .images.instances import instance_files
from .paths import SUFFIXES

Remove = Callable[[Path, Path, Path | None, Path], float]
"""(photo, its marks, what may not be copied, result, which it writes) -> the share of the photo that goes."""
LOG = "log.jsonl"
WRITABLE = {".png", ".jpg", ".jpeg", ".webp"}
"""Of other formats a .png is made."""
FAILURES = (ValueError, OSError, RuntimeError, MemoryError)
"""Of one photo: damaged or missing files, empty masks, pictures too large for the memory."""


@dataclass(frozen=True)
class Marks:
    """The folder of what marks, in each photo, what is to go: masks, or instances, which may be folders themselves."""

    folder: Path
    instances: bool

    @property
    def name(self) -> str:
        return "instances" if self.instances else "mask"

    def expected(self, stem: str) -> str:
        """The names that are looked for beside the photo of a stem."""
        if self.instances:
            return f"a folder {stem}, or {stem}.png"
        return f"{stem}.png, {stem}_mask.png or mask/{stem}.png"

    def by_stem(self) -> dict[str, list[Path]]:
        """The files that are there, by the stem of the photo that it belongs to."""
        known = by_stem(self.folder)
        if self.instances:
            for path in sorted(self.folder.iterdir()):
                if path.is_dir() and instance_files(path):
                    known.setdefault(path.name, []).append(path)
        return known


@dataclass(frozen=True)
class Job:
    """A photo, what may be its marks and its avoided places (one is expected), and where it goes."""

    photo: Path
    marks: tuple[Path, ...]
    avoids: tuple[Path, ...]
    out: Path
    kind: Marks

    def inputs(self) -> tuple[Path, Path, Path | None]:
        """The photo, its marks and what may not be copied.

        Raises:
            ValueError: the marks are missing, or there are several.
        """
        several = "instances" if self.kind.instances else "masks"
        for found, what in ((self.marks, several), (self.avoids, "pictures to avoid")):
            if len(found) > 1:
                names = " and ".join(path.name for path in found)
                raise ValueError(f"{self.photo.name} has {len(found)} {what}, {names}: keep one.")
        if not self.marks:
            raise ValueError(
                f"{self.photo.name} has no {self.kind.name}: expected {self.kind.expected(self.photo.stem)}."
            )
        return self.photo, self.marks[0], self.avoids[0] if self.avoids else None


def remove_folder(
    photos: Path,
    marks: Marks,
    avoid: Path | None,
    out: Path,
    settings: dict[str, Any],
    load: Callable[[], Remove],
    console: Console,
) -> None:
    """Go through a folder of photos.

    Args:
        settings: all that decides a result but the files, `seed` among them.
        load: called once, and not where everything is finished.

    Raises:
        ValueError: the folders do not fit, the output holds results of other settings, or, at the end, photos failed.
    """
    jobs = find_jobs(photos, marks, avoid, out)
    log = open_log(out, settings, jobs)
    todo = [job for job in jobs if not is_finished(job, log)]
    if not todo:
        console.print(f"All {len(jobs)} photos are finished: see {out}", soft_wrap=True)
        return
    remove, failed = load(), 0
    with tqdm(total=len(jobs), initial=len(jobs) - len(todo), unit="photo", desc="photos") as progress:
        for job in todo:
            started, error, digest, share = time.perf_counter(), None, None, None
            try:
                inputs = job.inputs()
                digest = content(*inputs)
                share = round(remove(*inputs, job.out), 4)
            except FAILURES as failure:
                error, failed = " ".join(str(failure).split()) or type(failure).__name__, failed + 1
                tqdm.write(f"{job.photo.name}: {error}", file=sys.stderr)
            line = {
                "file": job.photo.name,
                "out": job.out.name,
                "content": digest,
                "marked": share,
                "seed": settings["seed"],
            }
            line |= {"settings": settings, "seconds": round(time.perf_counter() - started, 2), "error": error}
            append(out / LOG, line)
            progress.update()
    console.print(f"{len(todo) - failed} written, {len(jobs) - len(todo)} were finished, {failed} failed.")
    if failed:
        raise ValueError(
            f"{failed} of {len(jobs)} photos failed, see {out / LOG}; run the command again to try these again."
        )


def find_jobs(photos: Path, marks: Marks, avoid: Path | None, out: Path) -> list[Job]:
    """Match masks to photos by their stems: a.jpg goes with a.png, a_mask.png and mask/a.png, or with the instances in a.

    Raises:
        ValueError: a folder is missing, none of the photos has a mask, or two photos would be written to one file.
    """
    masks = marks.folder
    for folder, what in ((masks, marks.name), (avoid, "avoid")):
        if folder and not folder.is_dir():
            wrong = f"{what} is the file {folder}" if folder.exists() else f"there is no folder {folder}"
            raise ValueError(f"{photos} is a folder of photos, and {wrong}: give a folder of pictures for {what}.")
    read_from = [folder / below for folder in (photos, masks, *([avoid] if avoid else [])) for below in ("", "mask")]
    if out.resolve() in [folder.resolve() for folder in read_from]:
        raise ValueError(
            f"{out} is what is read here, and its pictures would be lost: give another folder for the results."
        )
    if out.is_file() or (out.suffix.lower() in SUFFIXES and not out.exists()):
        raise ValueError(f"{out} is the name of one picture, and a folder of photos has many results: give a folder.")
    listed = pictures_in(photos)
    stems = {path.stem for path in listed}
    listed = [path for path in listed if path.stem.removesuffix("_mask") not in stems - {path.stem}]
    if not listed:
        raise ValueError(f"{photos} holds no photos: expected files that end in {', '.join(sorted(SUFFIXES))}.")
    for one, other in itertools.pairwise(sorted(listed, key=lambda path: path.stem)):
        if one.stem == other.stem:
            raise ValueError(
                f"{photos} holds {one.name} and {other.name}: rename one, or call it {one.stem}_mask{other.suffix} if it is a mask."
            )
    known_masks, known_avoids = marks.by_stem(), by_stem(avoid) if avoid else {}
    jobs = []
    for photo in listed:
        found, avoided = (
            tuple(path for path in known.get(photo.stem, ()) if path.resolve() != photo.resolve())
            for known in (known_masks, known_avoids)
        )
        suffix = photo.suffix if photo.suffix.lower() in WRITABLE else ".png"
        jobs.append(Job(photo, found, avoided, out / f"{photo.stem}{suffix}", marks))
    if not any(job.marks for job in jobs):
        what = "instances" if marks.instances else "a mask"
        raise ValueError(
            f"No photo in {photos} has {what} in {masks}: for {listed[0].name}, for one, expected "
            f"{marks.expected(listed[0].stem)}."
        )
    return jobs


def open_log(out: Path, settings: dict[str, Any], jobs: list[Job]) -> dict[str, dict[str, Any]]:
    """The last line about each photo of earlier runs; what they left half-written goes.

    Raises:
        ValueError: the folder holds pictures that no such run wrote, or that one with other settings did.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / LOG
    if not path.exists():
        if foreign := [job.out.name for job in jobs if job.out.exists()]:
            raise ValueError(f"{out} holds {foreign[0]}, and no {LOG} that tells of it: give another folder.")
        path.touch()
    lines = read_log(path)
    for line in lines:
        if line["error"] is None and (out / line["out"]).exists() and (before := line["settings"]) != settings:
            changed = [key for key in before | settings if before.get(key) != settings.get(key)]
            told = ", ".join(f"{key} was {before.get(key)}, and is {settings.get(key)}" for key in changed)
            raise ValueError(f"{out} holds results of other settings ({told}): give another folder.")
    for part in out.glob(".*.part.*"):
        part.unlink()
    return {line["file"]: line for line in lines}


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole lines; what a stop left of one more is cut off."""
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    os.truncate(path, len(whole))
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
        return [{key: line[key] for key in ("file", "out", "content", "settings", "error")} for line in lines]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is no log of this command ({error!r}): give another folder for the results."
        ) from None


def is_finished(job: Job, log: dict[str, dict[str, Any]]) -> bool:
    """Whether a result is there and was made of these very files."""
    line = log.get(job.photo.name)
    if line is None or line["error"] is not None or line["out"] != job.out.name or not job.out.exists():
        return False
    try:
        return line["content"] == content(*job.inputs())
    except FAILURES:
        return False


def content(*paths: Path | None) -> str:
    """A digest of the bytes of files, and of the pictures in folders with their order."""
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        files = [] if path is None else instance_files(path) if path.is_dir() else [path]
        digest.update(b"".join(hashlib.blake2b(file.read_bytes()).digest() for file in files) or b"-")
    return digest.hexdigest()


def append(log: Path, line: dict[str, Any]) -> None:
    """Add a line in one write, so that a stop tears at most the last one."""
    with log.open("ab", buffering=0) as file:
        file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

"""Files as downloads, crashes and strangers leave them, made from whole ones: a few hundred ways to be wrong.

`python -m unclutter.tests.malformed` reads all of them and prints what is neither read nor told in one sentence;
`tests/test_malformed.py` reads every eighth.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import struct
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from unclutter.adapters import layered, lora, mini, one_step, prompt
from unclutter.adapters.lora import LoraPair

Read = Callable[[Path], Any]
DEEP = "[" * 10_000
JSON = ("5", "null", '"word"', "{}", "[1, 2]", '[["a"]]', '{"a": 5}', "{", "", DEEP, "\ud7ff", "NaN", "1e999")
"""Contents in place of some text of JSON."""
TEXTS = ("", "-1", "0", "1e9", "٣", "x" * 5000, "a\nb", "99999999999999999999")
"""Values in place of a number or a word."""
NO_NUMBERS = (" NaN", " infinite", " 1e20")
"""Ends of the names of cases that must be refused."""


@dataclass(frozen=True)
class Case:
    """A file, how it was made, and the function that is to read it."""

    name: str
    path: Path
    read: Read


def complaint(case: Case) -> str | None:
    """Reads a file; a sentence about how that went wrong, None where it was read or refused in one sentence."""
    try:
        case.read(case.path)
        if case.name.endswith(NO_NUMBERS) and not case.name.startswith("mini"):
            return f"{case.name}: read, and it makes black pictures."
    except (ValueError, OSError) as error:
        text = str(error)
        if type(error) not in (ValueError, OSError, FileNotFoundError):
            return f"{case.name}: {type(error).__name__}: {text[:200]}"
        if (
            "\n" in text
            or len(text) > 900
            or not text.rstrip().endswith(".")
            or not (": " in text or ", expected" in text)
        ):
            return f"{case.name}: no sentence: {text[:200]!r}"
    except Exception as error:
        return f"{case.name}: {type(error).__name__}: {str(error)[:200]}"
    return None


def corpus(folder: Path) -> Iterator[Case]:
    """All files, each made when it is asked for; the same in every run."""
    for make in (safetensors_files, headers, pickles, pictures, lists, shards):
        yield from make(folder)


def whole_files(folder: Path) -> dict[str, tuple[Path, Read]]:
    """A whole file of each kind and what reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)

    def pair(out: int = 6, width: int = 4) -> LoraPair:
        return LoraPair(torch.randn(2, width, generator=generator), torch.randn(out, 2, generator=generator), 2.0)

    block = "mid_block.attentions.0.transformer_blocks.0.attn1"
    modules = [f"{block}.{name}" for name in ("to_q", "to_k")]
    files: dict[str, tuple[Path, Read]] = {
        name: (folder / f"{name}.safetensors", read)
        for name, read in (
            ("kohya", lora.load),
            ("diffusers", lora.load),
            ("one_step", one_step.load),
            ("layered", layered.load),
            ("prompt", prompt.load),
            ("powerpaint", prompt.load),
        )
    }
    adapter = lora.Lora({f"unet.{module}": pair() for module in modules})
    lora.save(files["kohya"][0], adapter)
    lora.save(files["diffusers"][0], adapter, "diffusers")
    terminal = {"weight": torch.randn(5, 4, 3, 3, generator=generator), "bias": torch.zeros(5)}
    eraser = one_step.OneStep("unet", {module: pair() for module in modules}, terminal, {"unclutter.resolution": "64"})
    one_step.save(files["one_step"][0], eraser)
    from unclutter.kernels.morphology import HumanMorphology

    state = HumanMorphology(2, 3).state_dict()
    branches = ({module: pair() for module in modules}, {module: pair() for module in modules})
    layered.save(files["layered"][0], layered.Layered(*branches, {block: torch.zeros(2)}, state))
    prompt.save(files["prompt"][0], prompt.RemovalPrompt({"clip_l": torch.randn(2, 8, generator=generator)}, ("8K",)))
    table = f"text_model.embeddings.{prompt.POWERPAINT}"
    save_file({f"{table}{name}": torch.zeros(10, 8) for name in ("P_ctxt", "P_shape", "P_obj")}, files["powerpaint"][0])
    part = folder / "mini" / "vae.safetensors"
    mini.save(part.parent, "vae", {"weight": torch.zeros(2, 2)}, {"channels": 4})
    files["mini"] = part, lambda path: mini.load_part(path.parent, "vae")
    return files


def safetensors_files(folder: Path) -> Iterator[Case]:
    """Cut off, of flipped bytes, and with tensors of other names, shapes, types and values."""
    for kind, (path, read) in whole_files(folder).items():
        whole = path.read_bytes()
        length = 8 + struct.unpack("<Q", whole[:8])[0]
        cuts = (0, 4, 8, 9, length // 2, length - 1, length, length + 1, (length + len(whole)) // 2, len(whole) - 1)
        changes = {f"cut at {cut}": whole[:cut] for cut in cuts}
        changes |= {
            "longer": whole + b"\0",
            "zeros": bytes(len(whole)),
            "header claims 2^63": b"\xff" * 7 + b"\x7f" + whole[8:],
        }
        changes |= {f"byte {place} flipped": _flip(whole, place) for place in range(0, length, max(1, length // 8))}
        tensors, metadata = load_file(path), _metadata(whole)
        for name, damage in TENSORS.items():
            for key in list(tensors)[:2]:
                if (changed := damage(dict(tensors), key)) is not None:
                    changes[f"{key} {name}"] = _packed({k: v.contiguous() for k, v in changed.items()}, metadata)
        for name, data in changes.items():
            path.write_bytes(data)
            yield Case(f"{kind}: {name}", path, read)
        path.unlink()
        yield Case(f"{kind}: gone", path, read)
        path.mkdir()
        yield Case(f"{kind}: a folder", path, read)
        path.rmdir()
        if hasattr(os, "mkfifo"):
            os.mkfifo(path)
            yield Case(f"{kind}: a pipe that nobody writes to", path, read)
            path.unlink()


TENSORS: dict[str, Callable[[dict[str, Tensor], str], dict[str, Tensor] | None]] = {
    "lacking": lambda t, k: {key: value for key, value in t.items() if key != k},
    "renamed": lambda t, k: {f"{key}x" if key == k else key: value for key, value in t.items()},
    "flat": lambda t, k: t | {k: t[k].flatten()},
    "one number": lambda t, k: t | {k: torch.tensor(1.0)},
    "empty": lambda t, k: t | {k: t[k][:0]} if t[k].ndim else None,
    "of a side more": lambda t, k: t | {k: t[k][None]},
    "transposed": lambda t, k: t | {k: t[k].mT} if t[k].ndim > 1 else None,
    "whole numbers": lambda t, k: t | {k: t[k].int()},
    "true or false": lambda t, k: t | {k: t[k] > 0},
    "fp8": lambda t, k: t | {k: t[k].to(torch.float8_e4m3fn)},
    "fp64": lambda t, k: t | {k: t[k].double()},
    "complex": lambda t, k: t | {k: t[k].to(torch.complex64)},
    "NaN": lambda t, k: t | {k: t[k] * math.nan},
    "infinite": lambda t, k: t | {k: torch.full_like(t[k], math.inf)},
    "1e20": lambda t, k: t | {k: torch.full_like(t[k], 1e20)},
    "and a stranger": lambda t, k: t | {"stranger.weight": torch.ones(2)},
}


def headers(folder: Path) -> Iterator[Case]:
    """Headers that lie: of no JSON, of other types, of none at all."""
    for kind, (path, read) in whole_files(folder).items():
        tensors, metadata = load_file(path), _metadata(path.read_bytes())
        keys = {"kohya": (lora.HEADER,), "prompt": ("unclutter.enhancers", "unclutter.condition_image")}.get(kind, ())
        keys += {"one_step": ("unclutter.timestep", "unclutter.resolution", "unclutter.phase")}.get(kind, ())
        keys += {
            "mini": ("config", "unclutter.kind"),
            "layered": ("unclutter.mask_pooling", "unclutter.resolution", "unclutter.prompts"),
        }.get(kind, ())
        path.write_bytes(_packed(tensors, {}))
        yield Case(f"{kind}: no header", path, read)
        for key in keys:
            for value in (*JSON, *TEXTS):
                path.write_bytes(_packed(tensors, {**metadata, key: value}))
                yield Case(f"{kind}: {key} = {value[:20]!r}", path, read)
    path = folder / "peft" / "adapter_model.safetensors"
    path.parent.mkdir()
    save_file(
        {
            "base_model.model.mid_block.x.lora_A.weight": torch.ones(2, 3),
            "base_model.model.mid_block.x.lora_B.weight": torch.ones(3, 2),
        },
        path,
    )
    configs = (
        *JSON,
        '{"lora_alpha": "four"}',
        '{"lora_alpha": null}',
        '{"alpha_pattern": 5}',
        '{"alpha_pattern": {"(": 4}}',
    )
    for config in configs:
        path.with_name("adapter_config.json").write_text(config, "utf-8", errors="surrogatepass")
        yield Case(f"peft: {config[:30]!r}", path, lora.load)


class Runs:
    """In a pickle, code that would run."""

    def __reduce__(self) -> tuple:
        return (sys.exit, (17,))


def pickles(folder: Path) -> Iterator[Case]:
    """Pickles of things that torch.save can be given, and files that it never wrote."""
    good = {"unet.conv_out.weight": torch.zeros(5, 4, 3, 3), "unet.conv_out.bias": torch.zeros(5)}
    good |= {"unet.mid.lora_A.default.weight": torch.ones(2, 3), "unet.mid.lora_B.default.weight": torch.ones(3, 2)}
    terabytes = torch.zeros(1).expand(10**12)
    held: dict[str, Any] = {
        "integer keys": {1: torch.zeros(2), 2: torch.zeros(2)},
        "a list": [torch.zeros(2)],
        "a number": 5,
        "nothing": None,
        "an empty dictionary": {},
        "words": {"a": "b"},
        "nested": {"state_dict": good},
        "sparse": {**good, "unet.conv_out.bias": torch.eye(2).to_sparse()},
        "a claim of terabytes": {**good, "unet.conv_out.bias": terabytes},
        "meta": {**good, "unet.conv_out.bias": torch.zeros(5, device="meta")},
        "code": Runs(),
        "code among tensors": {**good, "x": Runs()},
        "string_to_param of a number": {"string_to_param": 5},
        "string_to_param of nothing": {"string_to_param": {}},
    }
    for suffix, read in ((".pth", one_step.load), (".bin", prompt.load)):
        path = folder / f"pickle{suffix}"
        for name, value in held.items():
            torch.save(value, path)
            yield Case(f"pickle{suffix}: {name}", path, read)
        torch.save(good, path)
        whole = path.read_bytes()
        for cut in (0, 1, 2, len(whole) // 3, len(whole) // 2, len(whole) - 30, len(whole) - 1):
            path.write_bytes(whole[:cut])
            yield Case(f"pickle{suffix}: cut at {cut}", path, read)
        for place in range(0, len(whole), len(whole) // 10):
            path.write_bytes(_flip(whole, place))
            yield Case(f"pickle{suffix}: byte {place} flipped", path, read)
        for name, data in {
            "bare pickle": pickle.dumps({"a": 1}),
            "bare code": pickle.dumps(Runs()),
            "HTML": b"<!DOCTYPE html><html>404</html>",
            "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
            "zip": b"PK\x05\x06" + bytes(18),
            "endless frames": b"\x80\x05" + b"(" * 100_000,
        }.items():
            path.write_bytes(data)
            yield Case(f"pickle{suffix}: {name}", path, read)


def pictures(folder: Path) -> Iterator[Case]:
    """Pictures cut off, of flipped bytes, of claims that are not theirs."""
    from unclutter.training.images.files import picture_size, read_image, read_labels, read_mask

    source = Image.effect_noise((24, 16), 60)
    for number, suffix in enumerate((".png", ".jpg", ".webp", ".tif", ".bmp", ".gif")):
        read = (read_image, read_mask, read_labels, picture_size)[number % 4]
        buffer = io.BytesIO()
        source.convert("RGB").save(buffer, {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper()))
        whole, path = buffer.getvalue(), folder / f"picture{suffix}"
        for cut in (0, 1, 8, 20, len(whole) // 2, len(whole) - 3):
            path.write_bytes(whole[:cut])
            yield Case(f"{path.name}: cut at {cut}", path, read)
        for place in range(0, min(len(whole), 120), 10):
            path.write_bytes(_flip(whole, place))
            yield Case(f"{path.name}: byte {place} flipped", path, read)
        path.write_bytes(b"GIF89a<html>")
        yield Case(f"{path.name}: something else", path, read)
    large = folder / "large.png"
    Image.new("1", (13_000, 13_000)).save(large)
    for read in (read_image, read_mask, read_labels):
        yield Case(f"13,000² pixels: {read.__name__}", large, read)


def lists(folder: Path) -> Iterator[Case]:
    """Lists of pairs and of edits with lines that are none."""
    from unclutter.training.data.edits import list_edits
    from unclutter.training.data.manifest import read_manifest

    pair = {"source": "a.png", "target": "a.png", "mask": "a.png"}
    edit = {"name": "a", "before": "a.png", "after": "a.png", "instruction": "the ball", "direction": "add"}
    folder = folder / "pairs"
    folder.mkdir()
    for path, good, read in (
        (folder / "manifest.jsonl", pair, lambda path: read_manifest(path.parent)),
        (folder / "edits.jsonl", edit, list_edits),
    ):
        lines: dict[str, bytes] = {repr(text[:20]): text.encode(errors="replace") for text in JSON}
        lines |= {"bytes": b"\xff\xfe\x00", "cut": json.dumps(good).encode()[:-5]}
        for key in good:
            for value in (None, 5, [], {"a": 1}, "", "a\0b", "../../etc/passwd", "/etc/passwd", "x" * 5000, "\ud800"):
                lines[f"{key} = {value!r:.20}"] = json.dumps({**good, key: value}).encode()
        for name, line in lines.items():
            path.write_bytes(line + b"\n")
            yield Case(f"{path.name}: {name}", path, read)
        path.unlink()


def shards(folder: Path) -> Iterator[Case]:
    """Tars that are cut off, lie about sizes, or are no files."""
    from unclutter.training.data.manifest import read_manifest

    def read(path: Path) -> Any:
        return [sample.mask.read_bytes() for sample in read_manifest(path.parent)]

    path = folder / "shards" / "set.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for kind in ("source", "target", "mask"):
            member = tarfile.TarInfo(f"000000.{kind}.png")
            member.size = 600
            tar.addfile(member, io.BytesIO(b"x" * 600))
    whole = path.read_bytes()
    for cut in (0, 100, 511, 512, 700, 1536, 2000, 3600):
        path.write_bytes(whole[:cut])
        yield Case(f"shard: cut at {cut}", path, read)
    for place in (0, 50, 100, 124, 130, 136, 148, 156, 157, 257, 345, 1536, 1660):
        path.write_bytes(_flip(whole, place))
        yield Case(f"shard: byte {place} flipped", path, read)
    for claim in (10**9, 10**12, 8**11 - 1):
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
            for kind in ("source", "target", "mask"):
                member = tarfile.TarInfo(f"000000.{kind}.png")
                member.size = claim
                tar.addfile(member)
        yield Case(f"shard: claims {claim} bytes", path, read)
    path.unlink()
    os.mkfifo(path)
    yield Case("shard: a pipe that nobody writes to", path, read)
    path.unlink()


def _flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]


def _metadata(data: bytes) -> dict[str, str]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]).get("__metadata__", {})


def _packed(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    from safetensors.torch import save

    return save(tensors, metadata)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cases = 0
        for case in corpus(Path(folder)):
            cases += 1
            if text := complaint(case):
                print(text)
        print(f"{cases} files")


if __name__ == "__main__":
    main()

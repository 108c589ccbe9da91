"""Shards from other hands: names with dots, plain tar, the same shard twice."""

import json
import resource
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from unclutter.training.cli import main
from unclutter.training.data.drawn import draw_pairs
from unclutter.training.data.manifest import read_manifest, scan_manifest
from unclutter.training.data.pack import write_shards
from unclutter.training.data.sample import write_manifest
from unclutter.training.data.settings import DrawnConfig, ShardConfig
from unclutter.training.data.shards import Part
from unclutter.training.images.files import picture_size, read_image


@pytest.fixture
def pairs(tmp_path):
    draw_pairs(DrawnConfig(tmp_path / "pairs", count=3, size=32))
    return tmp_path / "pairs"


def test_names_with_dots_and_folders_survive(pairs, tmp_path):
    (pairs / "manifest.jsonl").unlink()
    for path in pairs.glob("*/000001.png"):
        path.rename(path.with_name("photo.v2 final.png"))
    write_shards(ShardConfig(pairs, tmp_path / "packed"))
    before, after = read_manifest(pairs), read_manifest(tmp_path / "packed")
    assert (
        [sample.name for sample in after]
        == [sample.name for sample in before]
        == ["000000", "000002", "photo.v2 final"]
    )
    for one, other in zip(before, after, strict=True):
        for kind in ("source", "target", "mask", "effect_mask"):
            assert (read_image(getattr(one, kind)) == read_image(getattr(other, kind))).all()


def test_shards_can_be_packed_anew_and_split(pairs, tmp_path, monkeypatch):
    write_shards(ShardConfig(pairs, tmp_path / "packed"))
    write_shards(ShardConfig(tmp_path / "packed", tmp_path / "again", megabytes=0))
    assert len(list((tmp_path / "again").glob("*.tar"))) >= 3
    assert [sample.name for sample in read_manifest(tmp_path / "again")] == ["000000", "000001", "000002"]


def test_a_folder_is_no_url_and_no_format(pairs, tmp_path, monkeypatch):
    """c:/ as on Windows, and a per cent sign."""
    monkeypatch.chdir(tmp_path)
    write_shards(ShardConfig(pairs, Path("c:") / "100%d packed", megabytes=0))
    assert len(read_manifest(tmp_path / "c:" / "100%d packed")) == 3


def test_shards_made_by_plain_tar_are_read(pairs, tmp_path):
    (tmp_path / "flat").mkdir()
    for kind in ("source", "target", "mask"):
        for path in (pairs / kind).iterdir():
            shutil.copy(path, tmp_path / "flat" / f"{path.stem}.{kind}.png")
    (tmp_path / "made").mkdir()
    with tarfile.open(tmp_path / "made" / "set.tar", "w") as tar:
        tar.add(tmp_path / "flat", arcname=".")
    samples = read_manifest(tmp_path / "made")
    assert [sample.name for sample in samples] == ["000000", "000001", "000002"]
    assert (read_image(samples[2].source) == read_image(pairs / "source" / "000002.png")).all()


def test_a_shard_that_is_there_twice_is_refused(pairs, tmp_path):
    write_shards(ShardConfig(pairs, tmp_path / "packed"))
    shutil.copy(tmp_path / "packed" / "shard-000000.tar", tmp_path / "packed" / "copy.tar")
    with pytest.raises(ValueError, match="names 000000 more than once"):
        read_manifest(tmp_path / "packed")


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1]", "no object with the texts"), ("{", "is no JSON"), ('{"prompt": 3}', "no object with the texts")],
)
def test_a_broken_description_is_named(tmp_path, content, message):
    (tmp_path / "7.json").write_text(content)
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(tmp_path / "7.json", arcname="7.json")
    with pytest.raises(ValueError, match=rf"set\.tar/7\.json.*{message}"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a tar at all" * 100])
def test_a_file_that_is_no_tar_is_named_in_one_line(tmp_path, content):
    (tmp_path / "set.tar").write_bytes(content)
    with pytest.raises(ValueError, match=r"set\.tar is no whole tar file") as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_picture_leaves_no_shards_behind(pairs, tmp_path):
    write_manifest(pairs, read_manifest(pairs))
    (pairs / "target" / "000002.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"000002\.png"):
        write_shards(ShardConfig(pairs, tmp_path / "packed"))
    assert not (tmp_path / "packed").exists() and not list(tmp_path.glob(".*"))


def test_a_full_disk_is_one_sentence_and_leaves_no_shards_behind(pairs, tmp_path, capsys):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        assert main(["data", "shard", str(pairs), str(tmp_path / "packed")]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"{tmp_path / 'packed'} could not be written" in last and last.endswith("make room, or give another folder.")
    assert not (tmp_path / "packed").exists() and not list(tmp_path.glob(".*"))


def test_a_damaged_shard_does_not_hide_the_others(pairs, tmp_path):
    write_shards(ShardConfig(pairs, tmp_path / "packed"))
    (tmp_path / "packed" / "a.tar").write_bytes(b"")
    (tmp_path / "packed" / "b.tar").write_bytes(b"not a tar at all" * 100)
    samples, faults = scan_manifest(tmp_path / "packed")
    assert len(samples) == 3 and len(faults) == 2


@pytest.mark.parametrize("ending", ["tif", "png"])
def test_a_size_costs_a_header_and_not_the_picture(tmp_path, monkeypatch, ending):
    noise = torch.randint(256, (600, 500, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    (tmp_path / "pairs").mkdir()
    packing = {"compression": "tiff_lzw"} if ending == "tif" else {}
    for kind in ("source", "target", "mask"):
        Image.fromarray(noise.numpy()).save(tmp_path / "pairs" / f"{kind}.{ending}", **packing)
    entry = {kind: f"{kind}.{ending}" for kind in ("source", "target", "mask")}
    (tmp_path / "pairs" / "manifest.jsonl").write_text(json.dumps(entry))
    write_shards(ShardConfig(tmp_path / "pairs", tmp_path / "packed"))
    source = read_manifest(tmp_path / "packed")[0].source
    whole = (tmp_path / "pairs" / f"source.{ending}").read_bytes()
    with source.open() as file:
        assert file.read() == whole and file.seek(-5, 2) == len(whole) - 5 and file.read() == whole[-5:]
    read = []
    plain = Part.readinto
    monkeypatch.setattr(Part, "readinto", lambda part, buffer: read.append(plain(part, buffer)) or read[-1])
    assert picture_size(source) == (600, 500) and sum(read) < 200_000 < source.size
    torch.testing.assert_close((read_image(source)[0] * 255).round().byte(), noise.permute(2, 0, 1))

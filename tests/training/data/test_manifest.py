"""Folders as other people write them, unlike those of `write_manifest`."""

import json
import shutil

import pytest
from PIL import Image

from unclutter.training.data.drawn import draw_pairs
from unclutter.training.data.manifest import read_manifest, scan_manifest
from unclutter.training.data.sample import write_manifest
from unclutter.training.data.settings import DrawnConfig


@pytest.fixture
def pairs(tmp_path):
    draw_pairs(DrawnConfig(tmp_path, count=3, size=32))
    return tmp_path


def change_line(folder, **values):
    first, *rest = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    changed = json.dumps({**json.loads(first), **values}, ensure_ascii=False)
    (folder / "manifest.jsonl").write_text("\n".join([changed, *rest]), encoding="utf-8")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": None}, "line 1 lacks source: expected"),
        ({"source": ""}, "line 1 has '' for a path"),
        ({"prompt": 3}, "line 1 has 3 for a prompt"),
    ],
)
def test_a_value_that_is_none_or_of_another_kind_is_named(pairs, values, message):
    change_line(pairs, **values)
    with pytest.raises(ValueError, match=message):
        read_manifest(pairs)


@pytest.mark.parametrize("with_manifest", [True, False])
def test_a_link_out_of_the_folder_is_refused(pairs, tmp_path_factory, with_manifest):
    outside = tmp_path_factory.mktemp("outside") / "secret.png"
    shutil.move(pairs / "mask" / "000001.png", outside)
    (pairs / "mask" / "000001.png").symlink_to(outside)
    if not with_manifest:
        (pairs / "manifest.jsonl").unlink()
    with pytest.raises(ValueError, match="outside of the folder"):
        read_manifest(pairs)


def test_a_link_within_the_folder_is_followed(pairs):
    shutil.move(pairs / "mask", pairs / "masks_of_tuesday")
    (pairs / "mask").symlink_to(pairs / "masks_of_tuesday")
    assert len(read_manifest(pairs)) == 3


def test_pictures_of_one_stem_in_a_folder_for_each_scene_need_no_names(pairs):
    entries = []
    for index in range(3):
        entry = {kind: f"scene{index}/{kind}.png" for kind in ("source", "target", "mask")}
        (pairs / f"scene{index}").mkdir()
        for kind, path in entry.items():
            shutil.copy(pairs / kind / f"{index:06}.png", pairs / path)
        entries.append(json.dumps(entry))
    (pairs / "manifest.jsonl").write_text("\n".join(entries))
    assert [sample.name for sample in read_manifest(pairs)] == ["scene0/source", "scene1/source", "scene2/source"]


def test_prompts_of_any_language_and_editor_come_through(pairs):
    prompt = "ein Café\u2028am Straßenrand 木"
    change_line(pairs, prompt=prompt)
    manifest = pairs / "manifest.jsonl"
    manifest.write_bytes(b"\xef\xbb\xbf" + manifest.read_bytes().replace(b"\n", b"\r\n"))
    samples = read_manifest(pairs)
    assert samples[0].prompt == prompt
    write_manifest(pairs, reversed(samples))
    assert read_manifest(pairs) == samples
    assert not list(pairs.glob("*.part")) and not list(pairs.glob(".*.part"))


def test_hidden_files_are_no_pairs(pairs):
    (pairs / "manifest.jsonl").unlink()
    shutil.copy(pairs / "source" / "000000.png", pairs / "source" / ".000003.part.png")
    assert [sample.name for sample in read_manifest(pairs)] == ["000000", "000001", "000002"]


def test_two_pictures_of_one_name_are_named(pairs):
    (pairs / "manifest.jsonl").unlink()
    Image.new("RGB", (32, 32)).save(pairs / "source" / "000001.jpg")
    with pytest.raises(ValueError, match=r"source holds 000001\.jpg and 000001\.png"):
        read_manifest(pairs)


def test_a_backup_beside_a_manifest_is_left_alone(pairs):
    (pairs / "backup.tar").write_bytes(b"")
    assert len(read_manifest(pairs)) == 3


def test_every_line_that_is_wrong_is_told(pairs):
    lines = (pairs / "manifest.jsonl").read_bytes().splitlines()
    wrong = [b"{", b"[]", b'{"source": "a.png"}', b'{"source": "\xff"}', lines[0].replace(b"mask/", b"../../etc/")]
    (pairs / "manifest.jsonl").write_bytes(b"\n".join([*wrong, *lines, lines[1]]))
    samples, faults = scan_manifest(pairs)
    assert [sample.name for sample in samples] == ["000000", "000001", "000001", "000002"]
    parts = ("no JSON", "is no object", "lacks target, mask", "no JSON", "outside of the folder")
    assert len(faults) == 6 and "000001 more than once" in faults[5]
    for number, (fault, part) in enumerate(zip(faults, parts, strict=False), start=1):
        assert f"line {number} " in fault and part in fault
    with pytest.raises(ValueError, match=r"line 1 is no JSON .* 5 more such: `unclutter data check` lists them"):
        read_manifest(pairs)


def test_every_picture_without_a_partner_is_told(pairs):
    (pairs / "manifest.jsonl").unlink()
    (pairs / "mask" / "000001.png").unlink()
    (pairs / "target" / "000002.png").unlink()
    samples, faults = scan_manifest(pairs)
    assert [sample.name for sample in samples] == ["000000"]
    assert [
        f"{kind} has no picture for {name}" in fault
        for fault, kind, name in zip(faults, ("target", "mask"), ("000002", "000001"), strict=True)
    ] == [True, True]


@pytest.mark.parametrize("with_manifest", [True, False])
def test_pictures_that_are_their_own_truth_need_no_target(pairs, with_manifest):
    shutil.rmtree(pairs / "target")
    if with_manifest:
        change_line(pairs, target=None)
        lines = (pairs / "manifest.jsonl").read_text().splitlines()
        (pairs / "manifest.jsonl").write_text(lines[0])
    else:
        (pairs / "manifest.jsonl").unlink()
    assert all(sample.target == sample.source for sample in read_manifest(pairs, targets=False))
    with pytest.raises((ValueError, FileNotFoundError), match="target"):
        read_manifest(pairs)

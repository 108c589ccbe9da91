"""A folder of pairs: what is read, what is refused, and in which order a training sees it."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from unclutter.training.cli import main
from unclutter.training.data.drawn import draw_pairs
from unclutter.training.data.loader import BucketBatches, RemovalDataset, batches, bucket_of, buckets, fit_mask
from unclutter.training.data.manifest import read_manifest
from unclutter.training.data.settings import DrawnConfig
from unclutter.training.data.synthesize import synthesize
from unclutter.training.images.files import picture_size, read_image, read_mask


@pytest.fixture
def pairs(tmp_path):
    draw_pairs(DrawnConfig(tmp_path, count=5, size=32))
    return tmp_path


def lines(folder):
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def write_lines(folder, entries):
    (folder / "manifest.jsonl").write_text("\n".join(json.dumps(entry) for entry in entries))


def check(folder, capsys):
    code = main(["data", "check", str(folder)])
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return code, output.out + output.err


def test_a_manifest_and_bare_folders_name_the_same_pairs(pairs):
    with_manifest = read_manifest(pairs)
    (pairs / "manifest.jsonl").unlink()
    without = read_manifest(pairs)
    assert [(s.name, s.source, s.mask, s.effect_mask) for s in with_manifest] == [
        (s.name, s.source, s.mask, s.effect_mask) for s in without
    ]
    assert len(without) == 5 and with_manifest[0].prompt.endswith("background")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"mask": "../../etc/passwd"}, "line 2 names ../../etc/passwd, which is outside of the folder"),
        ({"mask": "/etc/passwd"}, "which is outside of the folder"),
        ({"mask": "link.png"}, "which is outside of the folder"),
        ({"mask": 3}, "line 2 has 3 for a path"),
        ({"colour": "red"}, "line 2 has colour, expected source"),
        ({"name": "000000"}, "names 000000 more than once"),
        ({"source": None}, "line 2 lacks source"),
    ],
)
def test_a_manifest_that_is_wrong_says_where(pairs, entry, message):
    (pairs / "link.png").symlink_to("/etc/passwd")
    entries = lines(pairs)
    entries[1] = {key: value for key, value in {**entries[1], **entry}.items() if value is not None}
    write_lines(pairs, entries)
    with pytest.raises(ValueError, match=message):
        read_manifest(pairs)


def test_folders_that_do_not_pair_say_which(pairs):
    (pairs / "manifest.jsonl").unlink()
    (pairs / "mask" / "000003.png").unlink()
    with pytest.raises(ValueError, match="mask has no picture for 000003"):
        read_manifest(pairs)
    with pytest.raises(FileNotFoundError, match="no manifest.jsonl and no folder source, target, mask"):
        read_manifest(pairs / "source")


def test_check_finds_every_kind_of_fault(pairs, capsys):
    assert check(pairs, capsys)[0] == 0
    names = [pairs / "mask" / f"{i:06}.png" for i in range(5)]
    Image.new("L", (32, 32), 0).save(names[0])
    Image.new("L", (32, 32), 255).save(names[1])
    Image.new("L", (16, 32), 255).save(names[2])
    names[3].write_bytes(b"")
    target = pairs / "target" / "000004.png"
    target.write_bytes(target.read_bytes()[:300])
    code, output = check(pairs, capsys)
    assert code == 1 and "5 of 5 samples" in output
    for message in ("mask is empty", "mask is full", "mask is 16x32, expected 32x32", "cannot be read", "is damaged"):
        assert message in output


def test_check_finds_a_mask_that_misses_the_object(pairs, capsys):
    entries = lines(pairs)
    write_lines(pairs, [{**entries[0], "mask": entries[1]["mask"], "effect_mask": entries[1]["mask"]}])
    code, output = check(pairs, capsys)
    assert code == 1 and "it misses the object" in output


def test_check_draws_a_sheet(pairs):
    assert main(["data", "check", str(pairs), "--sheet", str(pairs / "sheet.png")]) == 0
    assert read_image(pairs / "sheet.png").std() > 0.05


def test_pictures_of_every_kind_are_read_right(tmp_path):
    grey = np.linspace(0, 65535, 64).reshape(8, 8)
    Image.fromarray(grey.astype(np.uint16)).save(tmp_path / "deep.png")
    expected = torch.tensor(grey / 65535).float()
    torch.testing.assert_close(read_image(tmp_path / "deep.png")[0, 0], expected, atol=0.005, rtol=0)
    Image.new("CMYK", (5, 4), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    assert read_image(tmp_path / "cmyk.jpg")[0, :, 2, 2].tolist() == pytest.approx([1, 0, 0], abs=0.05)
    turned = Image.new("RGB", (6, 3))
    turned.getexif()[274] = 6
    turned.save(tmp_path / "turned.jpg", exif=turned.getexif())
    assert read_image(tmp_path / "turned.jpg").shape == (1, 3, 6, 3)
    assert picture_size(tmp_path / "turned.jpg") == (6, 3)
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "float.tif")
    assert read_image(tmp_path / "float.tif").mean() == pytest.approx(0.5, abs=0.01)
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putdata([0, 1])
    palette.save(tmp_path / "palette.png", transparency=1)
    assert read_mask(tmp_path / "palette.png").flatten().tolist() == [0, 1]
    Image.new("RGB", (1, 1), "red").save(tmp_path / "one.png")
    assert read_image(tmp_path / "one.png").shape == (1, 3, 1, 1)


def test_a_size_is_that_of_the_picture_wherever_a_png_says_how_it_is_turned(tmp_path):
    """Before the pixels it counts, behind them it counts for neither."""
    turned = Image.new("RGB", (6, 3))
    exif = Image.Exif()
    exif[274] = 6
    turned.save(tmp_path / "before.png", exif=exif)
    assert picture_size(tmp_path / "before.png") == read_image(tmp_path / "before.png").shape[-2:] == (6, 3)
    content = (tmp_path / "before.png").read_bytes()
    start, pixels = content.index(b"eXIf") - 4, content.index(b"IDAT") - 4
    end = content.index(b"IEND") - 4
    (tmp_path / "behind.png").write_bytes(content[:start] + content[pixels:end] + content[start:pixels] + content[end:])
    assert Image.open(tmp_path / "behind.png").getexif()[274] == 6
    assert picture_size(tmp_path / "behind.png") == read_image(tmp_path / "behind.png").shape[-2:] == (3, 6)


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_broken_exif_data_names_the_file(tmp_path, ending):
    Image.new("RGB", (6, 3)).save(tmp_path / f"odd.{ending}", exif=b"Exif\0\0no TIFF at all")
    for read in (picture_size, read_image, read_mask):
        with pytest.raises(ValueError, match=rf"odd\.{ending} cannot be read as a picture"):
            read(tmp_path / f"odd.{ending}")


def test_buckets_keep_the_area_and_the_shape():
    assert all(0.8 < height * width / 512**2 < 1.2 and height % 64 == width % 64 == 0 for height, width in buckets(512))
    assert bucket_of(3000, 4000, 1024) == (896, 1216) or bucket_of(3000, 4000, 1024)[0] < bucket_of(3000, 4000, 1024)[1]
    assert bucket_of(500, 500, 512) == (512, 512)


def test_no_thin_part_of_a_mask_is_lost():
    mask = torch.zeros(1, 100, 100)
    mask[:, :, 37] = 1
    assert fit_mask(mask, 16, 16).any(dim=-1).all()
    assert fit_mask(mask, 200, 200).sum() == 400


def test_the_number_of_workers_changes_nothing(pairs):
    def first(workers):
        found = batches(pairs, batch=2, size=32, seed=3, workers=workers)
        return [next(found) for _ in range(4)]

    for one, other in zip(first(0), first(2), strict=True):
        assert one["name"] == other["name"]
        assert all(torch.equal(one[key], other[key]) for key in ("source", "target", "mask", "effect_mask"))


def test_a_training_that_goes_on_sees_what_it_would_have_seen(pairs):
    whole = batches(pairs, batch=2, size=32, seed=3)
    later = batches(pairs, batch=2, size=32, seed=3, start=5)
    expected = [next(whole) for _ in range(7)][5:]
    for one in expected:
        other = next(later)
        assert one["name"] == other["name"] and torch.equal(one["source"], other["source"])


def test_an_epoch_shows_every_picture_and_each_epoch_another_order(pairs):
    dataset = RemovalDataset(read_manifest(pairs), 32)
    sampler = BucketBatches(dataset, 2, seed=0)
    epochs = [[index for batch in sampler.epoch(epoch) for index, _ in batch] for epoch in range(3)]
    assert all(set(epoch) == set(range(5)) and len(epoch) == 6 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_batches_hold_one_size(pairs):
    wide = {key: Image.open(pairs / key / "000000.png").resize((64, 32)) for key in ("source", "target", "mask")}
    for key, picture in wide.items():
        picture.save(pairs / key / "000000.png")
    entries = lines(pairs)
    del entries[0]["effect_mask"]
    write_lines(pairs, entries)
    found = batches(pairs, batch=4, size=32, seed=0)
    shapes = {tuple(next(found)["source"].shape) for _ in range(6)}
    assert len(shapes) == 2 and all(shape[0] == 4 for shape in shapes)


def test_one_picture_fills_a_batch(pairs):
    write_lines(pairs, lines(pairs)[:1])
    batch = next(batches(pairs, batch=3, size=32))
    assert batch["source"].shape == (3, 3, 32, 32) and batch["name"] == ["000000"] * 3


def test_masks_grow_and_cover_the_effect(pairs):
    (tight,) = (next(batches(pairs, batch=4, size=32, dilation=(0, 0), flip=False)) for _ in range(1))
    loose = next(batches(pairs, batch=4, size=32, dilation=(0.3, 0.3), flip=False))
    assert (loose["mask"] >= tight["mask"]).all() and loose["mask"].sum() > tight["mask"].sum()
    assert (tight["effect_mask"] >= tight["mask"]).all()


def test_a_pair_of_two_sizes_is_named(pairs):
    Image.new("RGB", (16, 16)).save(pairs / "target" / "000002.png")
    dataset = RemovalDataset(read_manifest(pairs), 32)
    with pytest.raises(ValueError, match="000002 has pictures of 16x16 and 32x32"):
        dataset[(2, 0)]


@pytest.mark.parametrize("seed", range(6))
def test_synthesis_moves_the_object_and_masks_all_it_changes(seed):
    picture = torch.full((3, 48, 64), 0.25)
    mask = torch.zeros(48, 64)
    mask[10:22, 8:20] = 1
    picture[0, mask > 0] = 1.0
    source, target, hole = synthesize(picture, mask, torch.Generator().manual_seed(seed))
    assert torch.equal(target, picture)
    changed = (source != target).any(dim=0)
    assert changed.any() and not (changed & (hole == 0)).any()
    assert source[0].max() > 0.9 and (source[0] > 0.9).sum() > (picture[0] > 0.9).sum()
    assert (changed & (mask > 0)).sum() <= 0.6 * changed.sum()


def test_synthesis_in_the_loader_keeps_the_source_as_the_truth(pairs):
    shutil.rmtree(pairs / "target")  # of no use here, so not asked for
    (pairs / "manifest.jsonl").unlink()
    batch = next(batches(pairs, batch=4, size=32, flip=False, synthesis=True))
    for row, name in enumerate(batch["name"]):
        torch.testing.assert_close(batch["target"][row], read_image(pairs / "source" / f"{name}.png")[0])
    assert (batch["source"] != batch["target"]).any()


def test_shards_are_read_as_the_folder_they_came_from(pairs, tmp_path):
    import webdataset

    packed = tmp_path / "packed"
    assert main(["data", "shard", str(pairs), str(packed), "--megabytes", "1"]) == 0
    one, other = (batches(root, batch=2, size=32, seed=1) for root in (pairs, packed))
    for _ in range(4):
        first, second = next(one), next(other)
        assert first["name"] == second["name"] and first["prompt"] == second["prompt"]
        assert all(torch.equal(first[key], second[key]) for key in ("source", "target", "mask", "effect_mask"))
    # Other tools read them too.
    sample = next(iter(webdataset.WebDataset(str(packed / "shard-000000.tar"), shardshuffle=False)))
    assert sample["__key__"] == "000000" and sample["source.png"] == (pairs / "source" / "000000.png").read_bytes()


def test_a_cut_shard_and_an_incomplete_pair_are_named(pairs, tmp_path):
    assert main(["data", "shard", str(pairs), str(tmp_path / "packed")]) == 0
    shard = tmp_path / "packed" / "shard-000000.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:700])
    with pytest.raises(ValueError, match="shard-000000.tar is no whole tar|lack .* of 000000"):
        read_manifest(tmp_path / "packed")

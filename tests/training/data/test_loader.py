"""Pictures of odd shapes and places, and the order of batches."""

import pytest
import torch
from PIL import Image

from unclutter.training.data.drawn import draw_pairs
from unclutter.training.data.loader import BucketBatches, RemovalDataset, batches, bucket_of, buckets, window
from unclutter.training.data.manifest import read_manifest
from unclutter.training.data.sample import Sample
from unclutter.training.data.settings import DrawnConfig


def sample(folder, size, box):
    """A red object in `box` of a white picture of `size`."""
    source, target, mask = Image.new("RGB", size, "white"), Image.new("RGB", size, "white"), Image.new("L", size)
    source.paste("red", box)
    mask.paste(255, box)
    paths = {"source": folder / "source.png", "target": folder / "target.png", "mask": folder / "mask.png"}
    for path, picture in zip(paths.values(), (source, target, mask), strict=True):
        picture.save(path)
    return Sample("one", **paths)


@pytest.mark.parametrize("left", [0, 100, 236])
@pytest.mark.parametrize("upright", [True, False])
def test_an_object_at_the_edge_of_a_panorama_is_kept(tmp_path, left, upright):
    box = (left, 20, left + 20, 40)
    size = (256, 64)
    if upright:
        box, size = (box[1], box[0], box[3], box[2]), size[::-1]
    dataset = RemovalDataset([sample(tmp_path, size, box)], 64, dilation=(0, 0), flip=False)
    item = dataset[(0, 0)]
    height, width = bucket_of(size[1], size[0], 64)
    assert item["source"].shape == (3, height, width)
    # Nothing of the object is cut off; a mask's edge moves out by less than a pixel on each side.
    side = 20 * min(height, width) / 64
    assert int(side) ** 2 <= item["mask"].sum() <= (side + 2) ** 2
    red = (item["source"] - item["target"]).abs().amax(dim=0) > 0.5
    assert red.any() and not (red & (item["mask"] == 0)).any()


def test_a_window_stays_in_the_middle_where_it_can():
    mask = torch.zeros(1, 10, 40)
    mask[:, 4:6, 18:24] = 1
    assert window(mask, 10, 20) == (slice(0, 10), slice(10, 30))
    mask[:, :, 30:33] = 1
    assert window(mask, 10, 20) == (slice(0, 10), slice(13, 33))
    assert window(torch.zeros(1, 10, 40), 10, 20) == (slice(0, 10), slice(10, 30))
    assert window(mask, 30, 120) == (slice(0, 10), slice(0, 40))


@pytest.mark.parametrize("size", [(1, 1), (20000, 1), (1, 20000)])
def test_pictures_one_pixel_wide_become_batches(tmp_path, size):
    dataset = RemovalDataset([sample(tmp_path, size, (0, 0, 1, 1))], 512)
    item = dataset[(0, 0)]
    assert item["source"].shape[-2:] == bucket_of(size[1], size[0], 512)
    assert item["mask"].any()


@pytest.mark.parametrize("seed", [-1, 2**32 - 1, 2**63 - 1])
def test_any_seed_works(tmp_path, seed):
    draw_pairs(DrawnConfig(tmp_path, count=2, size=32))
    one, other = (next(batches(tmp_path, batch=2, size=32, seed=seed)) for _ in range(2))
    assert torch.equal(one["source"], other["source"]) and one["name"] == other["name"]


def test_seeds_and_epochs_differ(tmp_path):
    draw_pairs(DrawnConfig(tmp_path, count=1, size=32))
    samples = read_manifest(tmp_path)
    masks = {
        RemovalDataset(samples, 32, dilation=(0, 0.5), seed=seed)[(0, epoch)]["mask"].numpy().tobytes()
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(masks) > 3


def test_a_batch_larger_than_the_set_shows_all_of_it(tmp_path):
    draw_pairs(DrawnConfig(tmp_path, count=3, size=32))
    sampler = BucketBatches(RemovalDataset(read_manifest(tmp_path), 32), batch=8, seed=0)
    (batch,) = sampler.epoch(0)
    assert len(batch) == 8 and {index for index, _ in batch} == {0, 1, 2}


def test_an_empty_set_says_so():
    with pytest.raises(ValueError, match="data set is empty"):
        RemovalDataset([], 32)


def test_buckets_of_one_short_side():
    assert {min(sides) for sides in buckets(512, short_side=True)} == {512}
    assert bucket_of(400, 600, 512, short_side=True) == (512, 768)
    assert bucket_of(600, 400, 512, short_side=True) == (768, 512)
    assert bucket_of(400, 600, 512) == (448, 640)

"""EraDiff's dynamic image synthesis."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from unclutter.training.cli import main
from unclutter.training.data.manifest import read_manifest
from unclutter.training.data.settings import SynthesizeConfig
from unclutter.training.data.synthesize import synthesize, synthesize_pairs
from unclutter.training.images.files import read_image, read_mask


def test_the_moved_object_brings_nothing_of_its_old_background_along():
    picture, mask = torch.zeros(3, 64, 160), torch.zeros(64, 160)
    mask[20:44, 10:34] = 1
    picture[1, :, :50] = 1.0
    picture[2, :, 50:] = 1.0
    picture[:, mask > 0] = torch.tensor([1.0, 0.0, 0.0])[:, None]
    greens = []
    for seed in range(20):
        source, _, hole = synthesize(picture, mask, torch.Generator().manual_seed(seed))
        if not hole[:, :50].any():
            greens.append(float(source[1].where(hole > 0, 0).max()))
    assert len(greens) > 5 and max(greens) < 0.2


def test_the_same_generator_makes_the_same_pair():
    picture, mask = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.zeros(32, 32)
    mask[8:16, 8:16] = 1
    one, other, third = (synthesize(picture, mask, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0], third[0])


def test_no_object_is_said_so():
    with pytest.raises(ValueError, match="mask is empty"):
        synthesize(torch.zeros(3, 8, 8), torch.zeros(8, 8), torch.Generator())


@pytest.fixture
def folder(tmp_path):
    """Three pictures of different sizes with a red object each; no targets."""
    for kind in ("source", "mask"):
        (tmp_path / "pictures" / kind).mkdir(parents=True)
    for number, (width, height) in enumerate(((90, 60), (64, 64), (40, 150))):
        picture, mask = Image.new("RGB", (width, height), (40, 90, 140)), Image.new("L", (width, height))
        box = (5, 10, 20, 30)
        picture.paste((250, 20, 20), box)
        mask.paste(255, box)
        picture.save(tmp_path / "pictures/source" / f"{number}.png")
        mask.save(tmp_path / "pictures/mask" / f"{number}.png")
    return tmp_path


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_set_of_moved_objects_is_a_set_to_train_on(folder):
    config = SynthesizeConfig(folder / "pictures", folder / "out", count=5, size=80, workers=1)
    synthesize_pairs(config)
    assert main(["data", "check", str(folder / "out")]) == 0
    samples = read_manifest(folder / "out")
    assert len(samples) == 5 and read_image(samples[2].source).shape == (1, 3, 80, 21)
    torch.testing.assert_close(read_image(samples[1].target), read_image(folder / "pictures/source/1.png"))
    for sample in samples:
        source, target = read_image(sample.source), read_image(sample.target)
        red = [(picture[0, 0] > 0.8).sum() for picture in (source, target)]
        assert red[0] > red[1]
        assert not ((source != target).any(dim=1) & (read_mask(sample.mask) < 0.5)).any()
    assert len({path.read_bytes() for path in (folder / "out/source").iterdir()}) == 5


def test_workers_and_a_stop_change_no_byte(folder):
    config = SynthesizeConfig(folder / "pictures", folder / "one", count=4, workers=1)
    synthesize_pairs(config)
    synthesize_pairs(replace(config, output=folder / "two", workers=2))
    synthesize_pairs(replace(config, output=folder / "stopped", count=2))
    (folder / "stopped/mask/000000.png").unlink()
    synthesize_pairs(replace(config, output=folder / "stopped"))
    assert contents(folder / "one") == contents(folder / "two") == contents(folder / "stopped")
    with pytest.raises(ValueError, match="made with other settings"):
        synthesize_pairs(replace(config, seed=1))


def test_a_picture_whose_mask_cannot_be_used_is_named(folder):
    Image.new("L", (64, 64)).save(folder / "pictures/mask/1.png")
    config = SynthesizeConfig(folder / "pictures", folder / "out", workers=1)
    with pytest.raises(ValueError, match="mask of 1 is empty or not of 64x64"):
        synthesize_pairs(config)
    Image.new("L", (9, 9), 255).save(folder / "pictures/mask/0.png")
    with pytest.raises(ValueError, match="mask of 0 is empty or not of 90x60"):
        synthesize_pairs(replace(config, output=folder / "other"))


def test_large_pictures_are_tried_small_and_keep_to_the_limits():
    picture, mask = torch.zeros(3, 700, 500), torch.zeros(700, 500)
    mask[300:420, 100:260] = 1
    for seed in range(10):
        source, _, hole = synthesize(picture + mask, mask, torch.Generator().manual_seed(seed))
        moved = hole > 0
        # Of 0.5 to 1.5 times its size, at most 0.4 of it cut off, at most half of it over the old place.
        assert 0.25 * 0.55 < moved.sum() / mask.sum() < 1.5**2 * 1.1
        assert (moved & (mask > 0)).sum() < 0.55 * moved.sum()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (300, 1)])
def test_pictures_one_pixel_wide_are_no_error(size):
    source, _, hole = synthesize(torch.rand(3, *size), torch.ones(size), torch.Generator().manual_seed(0))
    assert source.shape == (3, *size) and hole.shape == size and source.isfinite().all()

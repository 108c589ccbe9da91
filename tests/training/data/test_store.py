"""STORE scenes from a user's own pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from kornia.filters import gaussian_blur2d
from kornia.geometry.transform import warp_affine
from PIL import Image, ImageDraw
from torch.nn import functional as F

from unclutter.training.cli import main
from unclutter.training.data import store as store_module
from unclutter.training.data.blend import Patch, contact_shadow, join_tiles, paint, visible_parts, warp
from unclutter.training.data.manifest import read_manifest
from unclutter.training.data.settings import StoreConfig
from unclutter.training.data.store import store
from unclutter.training.images.files import read_image, read_mask

SIDE = 96


@pytest.fixture
def folders(tmp_path):
    for name in ("backgrounds", "cutouts", "frames/occupied", "frames/clean"):
        (tmp_path / name).mkdir(parents=True)
    for name, seed in (("a", 0), ("b", 1)):
        noise = torch.randint(90, 160, (8, 10, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
        Image.fromarray(noise.numpy()).resize((120, 100)).save(tmp_path / "backgrounds" / f"{name}.png")
    for name, colour in (("red", (250, 20, 20, 255)), ("blue", (20, 20, 250, 255))):
        cutout = Image.new("RGBA", (60, 50))
        ImageDraw.Draw(cutout).ellipse((5, 5, 55, 45), fill=colour)
        cutout.save(tmp_path / "cutouts" / f"{name}.png")
    clean = Image.open(tmp_path / "backgrounds" / "a.png")
    clean.save(tmp_path / "frames/clean/a.png")
    ImageDraw.Draw(clean).ellipse((30, 20, 90, 80), fill=(20, 240, 20))
    clean.save(tmp_path / "frames/occupied/a.png")
    return tmp_path


@pytest.fixture
def config(folders):
    inputs = {name: folders / name for name in ("backgrounds", "cutouts", "frames")}
    return StoreConfig(folders / "out", **inputs, count=6, size=SIDE, workers=1)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def layers(sample):
    return read_image(sample.source)[0], read_image(sample.target)[0], read_mask(sample.mask)[0] > 0.5


def test_workers_and_a_stop_in_between_change_no_byte(config):
    store(config)
    store(replace(config, output=config.output.with_name("two"), workers=2))
    stopped = replace(config, output=config.output.with_name("stopped"))
    store(replace(stopped, count=3))
    (stopped.output / "target" / "000001.png").unlink()
    store(stopped)
    whole = contents(config.output)
    assert whole == contents(config.output.with_name("two")) == contents(stopped.output)
    assert len(whole) == 6 * 5 + 3
    other = replace(config, output=config.output.with_name("other"), seed=1)
    store(other)
    assert contents(other.output) != whole


def test_what_changes_is_the_removed_object_and_its_shadow(config):
    store(config)
    for sample in read_manifest(config.output):
        source, target, mask = layers(sample)
        effect = read_mask(sample.effect_mask)[0] > 0.5
        changed = (source - target).abs().amax(dim=0) > 4 / 255
        assert mask.any() and changed[mask].float().mean() > 0.8
        assert not (changed & ~effect).any()
    assert main(["data", "check", str(config.output)]) == 0


def test_one_of_several_look_alikes_goes(config):
    store(replace(config, tile_share=0.0, count=8))
    for sample in read_manifest(config.output):
        source, _, mask = layers(sample)
        red, blue = source[0] - source[2] > 0.6, source[2] - source[0] > 0.6
        removed = red if (red & mask).sum() > (blue & mask).sum() else blue
        numbers = (read_image(sample.instance_masks)[0, 0] * 255).round()
        alike = {int(number) for number in numbers[removed & (numbers > 0)].unique()}
        assert len(alike) >= 2


def test_a_tile_scene_is_a_grid_with_one_clean_cell(config):
    store(replace(config, tile_share=1.0, count=3, size=192))
    for sample in read_manifest(config.output):
        source, target, mask = layers(sample)
        green = [(picture[1] - picture[0] > 0.5).sum() for picture in (source, target)]
        cells = len((read_image(sample.instance_masks)[0, 0] * 255).round().unique()) - 1
        assert cells in (4, 9, 16, 25)
        assert green[0] / green[1] == pytest.approx(cells / (cells - 1), rel=0.1)
        assert mask.sum() / green[0] == pytest.approx(1 / cells, rel=0.35)


def test_a_cameras_noise_is_no_effect_and_a_faint_shadow_is(folders, config, monkeypatch):
    monkeypatch.setattr(store_module, "GRID", (2, 2))
    random = np.random.default_rng(0)
    view = random.normal(120, 20, (6, 6, 3)).repeat(16, 0).repeat(16, 1)
    occupied = view.copy()
    occupied[20:60, 20:60] = (20, 240, 20)
    occupied[60:80, 20:60] -= 12
    mask = np.zeros((96, 96), np.uint8)
    mask[18:62, 18:62] = 255
    (folders / "frames/mask").mkdir()
    Image.fromarray(mask).save(folders / "frames/mask/a.png")
    for kind, picture in (("occupied", occupied), ("clean", view)):
        noisy = (picture + random.normal(0, 2, view.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folders / "frames" / kind / "a.png")
    store(replace(config, tile_share=1.0, count=3, size=192))
    for sample in read_manifest(config.output):
        mask, effect = (read_mask(path)[0] > 0.5 for path in (sample.mask, sample.effect_mask))
        beside = effect & ~mask
        # The shadow below the mask is 18 by 40 pixels; the mean over some pixels adds a rim.
        assert 0.9 * 18 * 40 < beside.sum() < 1.4 * 18 * 40
        speckles = beside & (F.avg_pool2d(effect[None].float(), 5, stride=1, padding=2)[0] < 0.25)
        assert speckles.sum() <= 3


def test_shadows_are_a_choice(config):
    only = replace(config, tile_share=0.0, count=4)
    store(only)
    store(replace(only, output=config.output.with_name("without"), shadows=False))
    for one, other in zip(read_manifest(only.output), read_manifest(config.output.with_name("without")), strict=True):
        assert read_mask(one.effect_mask).sum() > 1.1 * read_mask(other.effect_mask).sum()
        assert torch.equal(read_mask(one.mask), read_mask(other.mask))


def test_the_removed_object_is_never_hidden(config, monkeypatch):
    monkeypatch.setattr(store_module, "SCALE", (0.9, 0.9))
    monkeypatch.setattr(store_module, "OBJECTS", (3, 3))
    store(replace(config, tile_share=0.0, count=10, shadows=False))
    for sample in read_manifest(config.output):
        source, target, mask = layers(sample)
        assert mask.float().mean() > 0.25
        assert (source - target)[:, ~mask].abs().max() < 0.06


def test_a_shadow_stays_at_its_object():
    scene = torch.zeros(1, 64, 64)
    shadow = contact_shadow(Patch(torch.ones(4, 24, 24), 40, 40), torch.tensor([1.0, 1.0]), 64, 64)
    shadow.of(scene).add_(shadow.values)
    assert scene[0, 45:, 45:].min() > 0.15 and scene[0, :37].max() == 0 and scene[0, :, :37].max() == 0


def test_a_large_shadow_is_as_dark_as_a_blur_of_every_pixel():
    """It is made from every few pixels."""
    alpha = torch.zeros(600, 600)
    alpha[100:500, 150:450] = 1
    shadow = contact_shadow(Patch(alpha.expand(4, -1, -1), 0, 0), torch.zeros(2), 600, 600)
    sigma = 0.06 * float(alpha.sum().sqrt())
    kernel = 2 * round(2.5 * sigma) + 1
    expected = 0.45 * gaussian_blur2d(alpha[None, None], (kernel, kernel), (sigma, sigma), "constant")[0]
    assert (shadow.values - shadow.of(expected)).abs().max() < 0.02


def test_objects_in_a_scene_are_painted_as_over_all_of_it():
    """Against the plain way: every layer as large as the scene."""
    random = torch.Generator().manual_seed(0)
    size, background, cutout = 40, torch.rand(3, 40, 40, generator=random), torch.rand(4, 11, 17, generator=random)
    cutout[:3] *= cutout[3]
    layers, plain = [], background
    for x, y in ((-6.0, 3.0), (9.0, 9.0), (15.0, 30.0)):
        matrix, shift = torch.tensor([[0.8, -0.6], [0.6, 0.8]]), torch.tensor([x, y])
        layers.append(warp(cutout, matrix, shift, size, size))
        whole = warp_affine(cutout[None], torch.cat([matrix, shift[:, None]], dim=1)[None], (size, size))[0]
        assert layers[-1].values.shape[-1] < 30
        plain = plain * (1 - whole[3]) + whole[:3]
    torch.testing.assert_close(paint(background, layers, []), plain)
    first, _, last = visible_parts(layers, size, size)
    torch.testing.assert_close(last.values[0], layers[2].values[3])
    assert first.values.sum() < layers[0].values[3].sum()


def test_seams_between_tiles_are_soft_and_tiles_keep_their_middle():
    slope = torch.linspace(0.1, 0.9, 32).expand(1, 3, 32, 32)
    (joined,) = join_tiles(slope, torch.zeros(1, 3, 3, dtype=torch.long))
    assert joined.shape == (3, 96, 96)
    assert joined.diff(dim=2).abs().max() < 0.5 * 0.8
    torch.testing.assert_close(joined[:, 40:56, 46:50], slope[0, :, :16, 14:18], atol=0.02, rtol=0)
    flat = torch.full((1, 3, 13, 13), 0.3)
    joined = join_tiles(flat, torch.zeros(1, 2, 2, dtype=torch.long))
    torch.testing.assert_close(joined, torch.full((1, 3, 26, 26), 0.3))


def test_a_tile_that_differs_shows_nowhere_but_in_its_cell_and_at_its_seams():
    grey = torch.tensor([0.2, 0.7]).reshape(2, 1, 1, 1).expand(2, 3, 64, 64)
    layout = torch.zeros(3, 3, dtype=torch.long)
    layout[1, 2] = 1
    (joined,) = join_tiles(grey, layout[None])
    assert (joined[:, 80:112, 144:176] - 0.7).abs().max() < 0.02
    assert (joined[:, :16] - 0.2).abs().max() < 1e-4
    joined[:, 48:144, 112:] = 0.2
    assert (joined - 0.2).abs().max() < 0.01


def test_opaque_objects_come_with_masks(folders, config):
    for kind in ("image", "mask"):
        (folders / "cutouts" / kind).mkdir()
    for path in sorted((folders / "cutouts").glob("*.png")):
        cutout = Image.open(path)
        cutout.getchannel("A").save(folders / "cutouts/mask" / path.name)
        cutout.convert("RGB").save(folders / "cutouts/image" / f"{path.stem}.jpg", quality=100, subsampling=0)
    masked = replace(config, tile_share=0.0, count=3)
    store(masked)
    transparent = replace(masked, output=config.output.with_name("transparent"), cutouts=folders / "transparent")
    (folders / "transparent").mkdir()
    for path in (folders / "cutouts").glob("*.png"):
        path.rename(folders / "transparent" / path.name)
    store(transparent)
    for one, other in zip(read_manifest(masked.output), read_manifest(transparent.output), strict=True):
        assert torch.equal(read_mask(one.mask), read_mask(other.mask))
        assert (read_image(one.source) - read_image(other.source)).abs().mean() < 0.01
    (folders / "cutouts/mask/red.png").unlink()
    with pytest.raises(ValueError, match=r"mask lacks red\.jpg"):
        store(replace(masked, output=config.output.with_name("lacking")))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: [path.unlink() for path in (f / "cutouts").iterdir()], "holds no pictures, expected cut-outs"),
        (lambda f: Image.new("RGB", (9, 9)).save(f / "cutouts" / "red.png"), "red.png has no transparency"),
        (lambda f: Image.new("RGBA", (9, 9)).save(f / "cutouts" / "red.png"), "red.png is transparent all over"),
        (lambda f: (f / "backgrounds" / "a.png").write_bytes(b"\x89PNG"), "a.png cannot be read"),
        (lambda f: Image.new("RGB", (9, 9)).save(f / "frames/clean/a.png"), "a.png is 120x100 and its clean frame 9x9"),
        (lambda f: (f / "frames/clean/a.png").rename(f / "frames/clean/b.png"), "lacks a.png"),
        (lambda f: (f / "backgrounds").rename(f / "elsewhere"), "There is no folder"),
    ],
)
def test_pictures_that_cannot_be_used_are_named(folders, config, capsys, break_it, message):
    break_it(folders)
    options = [f"--{name}={folders / name}" for name in ("backgrounds", "cutouts", "frames")]
    command = ["data", "store", f"--output={config.output}", *options, "--count=8", "--size=64", "--workers=1"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_folder_holds_one_set(config):
    store(replace(config, count=1))
    with pytest.raises(ValueError, match="made with other settings"):
        store(replace(config, count=1, seed=5))


def test_every_folder_that_is_not_there_is_named(config):
    nowhere = replace(config, backgrounds=config.output / "rooms", cutouts=config.output / "objects")
    with pytest.raises(FileNotFoundError, match=r"no folder \S*rooms and no folder \S*objects:"):
        store(nowhere)

"""STORE scenes from a user's own pictures."""

from dataclasses import replace

import pytest
import torch
from PIL import Image, ImageDraw

from unclutter.training.cli import main
from unclutter.training.data import store as store_module
from unclutter.training.data.blend import contact_shadow, join_tiles
from unclutter.training.data.manifest import read_manifest
from unclutter.training.data.store import StoreConfig, store
from unclutter.training.pictures import read_image, read_mask

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
    store(replace(config, tile_share=1.0, count=3))
    for sample in read_manifest(config.output):
        source, target, mask = layers(sample)
        green = [(picture[1] - picture[0] > 0.5).sum() for picture in (source, target)]
        cells = len((read_image(sample.instance_masks)[0, 0] * 255).round().unique()) - 1
        assert cells in (4, 9, 16, 25)
        assert green[0] / green[1] == pytest.approx(cells / (cells - 1), rel=0.1)
        assert mask.sum() / green[0] == pytest.approx(1 / cells, rel=0.35)


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
    alpha = torch.zeros(64, 64)
    alpha[40:, 40:] = 1
    shadow = contact_shadow(alpha, torch.tensor([1.0, 1.0]))
    assert shadow[45:, 45:].min() > 0.15 and shadow[:37].max() == 0 and shadow[:, :37].max() == 0


def test_seams_between_tiles_are_soft_and_tiles_keep_their_middle():
    slope = torch.linspace(0.1, 0.9, 32).expand(3, 32, 32)
    joined = join_tiles(slope.expand(3, 3, 3, 32, 32))
    assert joined.shape == (3, 96, 96)
    assert joined.diff(dim=2).abs().max() < 0.5 * 0.8
    torch.testing.assert_close(joined[:, 40:56, 46:50], slope[:, :16, 14:18], atol=0.02, rtol=0)
    torch.testing.assert_close(join_tiles(torch.full((2, 2, 3, 13, 13), 0.3)), torch.full((3, 26, 26), 0.3))


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

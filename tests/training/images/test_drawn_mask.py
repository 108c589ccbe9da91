"""Masks as programs and people save them: the same strokes, understood alike, or refused by what they look like."""

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from unclutter.kernels.scenes import draw_scenes
from unclutter.training.cli import main
from unclutter.training.images.drawn_mask import read_drawn_mask
from unclutter.training.images.files import read_image
from unclutter.training.images.photo import read_photo

SIZE = 96


@pytest.fixture
def photo(tmp_path):
    """A photograph-like picture photo.png, and the strokes [SIZE, SIZE + 32] of a mask."""
    scene = draw_scenes(1, SIZE + 32, torch.Generator().manual_seed(2)).picture()[0, :, :SIZE]
    noise = 0.05 * torch.rand(scene.shape, generator=torch.Generator().manual_seed(0))
    pixels = ((scene + noise).clamp(0, 1) * 255).byte().movedim(0, -1).numpy()
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    strokes = np.zeros((SIZE, SIZE + 32), bool)
    strokes[20:50, 30:70] = True
    return tmp_path, pixels, strokes


def layer(strokes, colour, ground=(0, 0, 0)):
    """Strokes on a clear layer."""
    rgba = np.zeros((*strokes.shape, 4), np.uint8)
    rgba[...] = (*ground, 0)
    rgba[strokes] = (*colour, 255)
    return Image.fromarray(rgba)


def painted(pixels, strokes, colour):
    return Image.fromarray(np.where(strokes[..., None], np.uint8(colour), pixels))


EXPORTS = {
    "white on black": (lambda p, s: Image.fromarray(np.uint8(s * 255)), ""),
    "RGB, white on black": (lambda p, s: Image.fromarray(np.uint8(s * 255)).convert("RGB"), ""),
    "one bit": (lambda p, s: Image.fromarray(s), ""),
    "white strokes on a clear layer": (lambda p, s: layer(s, (255, 255, 255)), "white strokes on a clear layer"),
    "red strokes on a clear white layer": (
        lambda p, s: layer(s, (220, 20, 30), (255, 255, 255)),
        "red (220, 20, 30) strokes",
    ),
    "black strokes on a clear layer": (lambda p, s: layer(s, (0, 0, 0)), "black strokes"),
    "ComfyUI's": (lambda p, s: Image.fromarray(np.dstack([p, np.uint8(~s * 255)])), "its clear part"),
    "red on black": (lambda p, s: painted(np.zeros_like(p), s, (255, 0, 0)), "red (255, 0, 0) paint"),
    "green on white": (lambda p, s: painted(np.full_like(p, 255), s, (0, 200, 60)), "green (0, 200, 60) paint"),
    "paint over the photo": (lambda p, s: painted(p, s, (255, 0, 0)), "red (255, 0, 0) paint over the photo"),
}


@pytest.mark.parametrize("export", EXPORTS)
def test_the_strokes_of_every_export_are_what_is_marked(photo, export):
    folder, pixels, strokes = photo
    make, words = EXPORTS[export]
    make(pixels, strokes).save(folder / "mask.png")
    drawn = read_drawn_mask(folder / "mask.png", read_photo(folder / "photo.png"), folder / "photo.png")
    wrong = (drawn.marked[0].numpy() > 0) != strokes
    assert wrong.mean() < (0.01 if "over the photo" in export else 1e-6)
    assert words in drawn.reading and (words or not drawn.reading)


def run(folder, *more, photo="photo.png", mask="mask.png"):
    return main(["remove", str(folder / photo), str(folder / mask), "-o", str(folder / "out.png"), *more])


def test_a_photo_is_no_mask_and_a_swap_is_named(photo, capsys):
    folder, pixels, strokes = photo
    Image.fromarray(np.uint8(strokes * 255)).save(folder / "mask.png")
    Image.fromarray(pixels[::-1].copy()).save(folder / "other.png")
    assert run(folder, photo="mask.png", mask="photo.png") == 1
    assert "give the photo first, and then the mask" in capsys.readouterr().err
    assert run(folder, mask="other.png") == 1
    assert "looks like a photo and marks nothing" in capsys.readouterr().err
    assert not (folder / "out.png").exists()


def test_the_line_the_warning_and_the_preview(photo, capsys):
    folder, pixels, strokes = photo
    Image.fromarray(np.uint8(~strokes * 255)).save(folder / "mask.png")
    assert run(folder, "--preview") == 1  # filled, it is all of the photo
    assert "give --invert" in capsys.readouterr().err
    strokes[:, 30:70] = True
    Image.fromarray(np.uint8(~strokes * 255)).save(folder / "mask.png")
    assert run(folder, "--preview", "--grow", "0") == 0
    said = capsys.readouterr().err
    share = 1 - strokes.mean()
    assert f"mask.png marks {share:.1%} of photo.png" in said and "more than half: give --invert" in said
    assert run(folder, "--preview", "--grow", "0", "--invert") == 1
    assert "out.png exists: give another name, or --overwrite" in capsys.readouterr().err
    assert run(folder, "--preview", "--grow", "0", "--invert", "--overwrite") == 0
    assert f"mask.png marks {strokes.mean():.1%} of photo.png, inverted" in capsys.readouterr().err
    preview = (read_image(folder / "out.png")[0] * 255).round().byte().movedim(0, -1).numpy()
    assert np.array_equal(preview[~strokes], pixels[~strokes])
    assert (preview[strokes][:, 0] > preview[strokes][:, 1:].max(axis=1)).all()


def test_a_mask_drawn_before_exif_turned_the_photo_is_turned_with_it(photo, capsys):
    folder, pixels, strokes = photo
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    lying = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    lying.save(folder / "phone.png", exif=exif)
    Image.fromarray(np.uint8(np.rot90(strokes) * 255)).save(folder / "mask.png")
    assert run(folder, "--preview", "--grow", "0", photo="phone.png") == 0
    assert "turned as the photo's EXIF data turns it" in capsys.readouterr().err
    preview = (read_image(folder / "out.png")[0] * 255).round().byte().movedim(0, -1).numpy()
    assert np.array_equal(preview[~strokes], pixels[~strokes]) and not np.array_equal(preview, pixels)


def test_a_folder_is_previewed_into_a_folder(photo):
    folder, _, strokes = photo
    (folder / "in").mkdir()
    (folder / "photo.png").rename(folder / "in" / "photo.png")
    layer(strokes, (255, 255, 255)).save(folder / "in" / "photo_mask.png")
    assert main(["remove", *[str(folder / "in")] * 2, "-o", str(folder / "out"), "--preview"]) == 0
    assert (folder / "out" / "preview" / "photo.png").is_file()

"""`unclutter remove` leaves every pixel that is not removed as it is, in its depth, and the file's metadata."""

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms, ImageOps

from unclutter.training.images.files import LARGEST, read_image
from unclutter.training.images.photo import XMP, png16, read_photo, upright_pixels, write_photo

HEIGHT, WIDTH = 40, 56
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PACKET = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'


def noise(channels, bits=8, seed=0):
    values = np.random.default_rng(seed).integers(0, 2**bits, (HEIGHT, WIDTH, channels))
    return values.astype(np.uint8 if bits == 8 else np.uint16)


def removed(photo):
    """The photo with its top left quarter made grey."""
    result = photo.picture.clone()
    result[..., : HEIGHT // 2, : WIDTH // 2] = 0.5
    return result


@pytest.mark.parametrize("out", ["out.png", "out.webp", "out.tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_that_stay_are_the_same_bit_for_bit(tmp_path, channels, out):
    pixels = noise(channels)
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(tmp_path / "in.png")
    photo = read_photo(tmp_path / "in.png")
    write_photo(tmp_path / out, photo, removed(photo))
    with Image.open(tmp_path / out) as written:
        assert out == "out.webp" or written.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
        before, after = (np.asarray(each.convert("RGBA")) for each in (Image.open(tmp_path / "in.png"), written))
    assert np.array_equal(before[..., 3], after[..., 3])
    assert np.array_equal(before[HEIGHT // 2 :], after[HEIGHT // 2 :])
    assert (after[: HEIGHT // 2, : WIDTH // 2, :3] == 128).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_stay_sixteen(tmp_path, channels):
    from kornia_rs import io

    pixels = noise(channels, 16)
    metadata = {"icc_profile": PROFILE, "xmp": PACKET.replace(b"6", b"1"), "dpi": (300.0, 300.0)}
    (tmp_path / "in.png").write_bytes(png16(pixels, {} if channels == 1 else metadata))
    photo = read_photo(tmp_path / "in.png")
    assert photo.depth == 16 and photo.grey == (channels == 1)
    write_photo(tmp_path / "out.png", photo, removed(photo))
    after = np.asarray(io.read_image(str(tmp_path / "out.png")))
    assert after.dtype == np.uint16 and np.array_equal(after[HEIGHT // 2 :], pixels[HEIGHT // 2 :])
    if channels == 4:
        assert np.array_equal(after[..., 3], pixels[..., 3])
    if channels > 1:
        with Image.open(tmp_path / "out.png") as written:
            assert written.info["icc_profile"] == PROFILE and round(written.info["dpi"][0]) == 300
            assert "xmpmeta" in written.info[XMP]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_exif_orientation_is_pillows(orientation):
    pixels = noise(3)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture = Image.fromarray(pixels)
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    assert np.array_equal(upright_pixels(pixels, orientation), np.asarray(ImageOps.exif_transpose(picture)))


@pytest.mark.parametrize("out", ["out.png", "out.jpg", "out.webp", "out.tif"])
def test_what_the_file_says_goes_along(tmp_path, out):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Model] = 6, "Camera"
    Image.fromarray(noise(3)).save(
        tmp_path / "in.jpg", exif=exif, icc_profile=PROFILE, xmp=PACKET, dpi=(300, 300), quality=71
    )
    photo = read_photo(tmp_path / "in.jpg")
    assert torch.equal(photo.picture, read_image(tmp_path / "in.jpg")) and photo.turned == 6
    write_photo(tmp_path / out, photo, photo.picture)
    with Image.open(tmp_path / out) as written, Image.open(tmp_path / "in.jpg") as before:
        packet = written.info.get("xmp") or written.info.get(XMP)
        packet = packet if isinstance(packet, bytes) else packet.encode()
        assert b'tiff:Orientation="1"' in packet
        assert written.info["icc_profile"] == PROFILE
        if out != "out.webp":  # it has no field for it
            assert round(float(written.info["dpi"][0])) == 300
        if out != "out.tif":
            assert written.getexif()[ExifTags.Base.Model] == "Camera"
            assert written.getexif().get(ExifTags.Base.Orientation, 1) == 1
        if out == "out.jpg":
            assert written.quantization == before.quantization


def test_what_a_format_cannot_hold_is_said_before_the_work(tmp_path):
    Image.fromarray(noise(4)).save(tmp_path / "in.png")
    with pytest.raises(ValueError, match="transparency and a JPEG has none: write out.png"):
        write_photo(tmp_path / "out.jpg", (photo := read_photo(tmp_path / "in.png")), photo.picture)
    (tmp_path / "wide.png").write_bytes(png16(noise(3, 16), {}))
    with pytest.raises(ValueError, match="TIFF of 16 bits .*: write out.png"):
        write_photo(tmp_path / "out.tif", (photo := read_photo(tmp_path / "wide.png")), photo.picture)
    assert not list(tmp_path.glob("*out*"))


def test_a_picture_of_more_pixels_than_cameras_have_names_its_size(tmp_path):
    Image.new("1", (13_000, 13_000)).save(tmp_path / "large.png")
    with pytest.raises(ValueError, match=f"13000x13000 pixels, expected at most {LARGEST // 10**6} million"):
        read_photo(tmp_path / "large.png")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(ValueError, match="save a HEIC photo as JPEG or PNG first"):
        read_photo(tmp_path / "phone.heic")

import math
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageCms

from unclutter.adapters import mini, one_step
from unclutter.adapters.files import read_safetensors, write_safetensors
from unclutter.kernels import regions, seams
from unclutter.kernels.scenes import draw_scenes
from unclutter.training.base_models.mini import load_mini
from unclutter.training.cli import COMMANDS, main
from unclutter.training.comfyui_server import PACK
from unclutter.training.evaluation.demo import METHODS, PHOTOGRAPHS, demo, photographs, score
from unclutter.training.evaluation.judge import own_ground
from unclutter.training.evaluation.settings import DemoConfig
from unclutter.training.images.files import read_image, read_mask, write_image
from unclutter.training.images.photo import read_photo, write_photo
from unclutter.training.images.sheets import write_page
from unclutter.training.sampling.one_step import erase_once, taken_by


@pytest.fixture
def photo(tmp_path):
    image, mask = torch.rand(1, 3, 90, 150), torch.zeros(1, 3, 90, 150)
    mask[..., 30:50, 60:90] = 1
    write_image(tmp_path / "photo.png", image)
    write_image(tmp_path / "mask.png", mask)
    return tmp_path


@pytest.mark.parametrize("method", ["masg", "attentive-eraser", "sra", "plain"])
def test_remove_changes_the_mask_and_nothing_else(photo, method, capsys):
    files = [str(photo / name) for name in ("photo.png", "mask.png", "out.png")]
    assert main(["remove", *files[:2], "-o", files[2], "--base", "mini", "--method", method, "--steps", "2"]) == 0
    before, after = read_image(photo / "photo.png"), read_image(photo / "out.png")
    mask = regions.grow(read_mask(photo / "mask.png"), percent=7.5)
    outside = (regions.feather(mask, 8) == 0)[:, None].expand_as(before)
    assert torch.equal(before[outside], after[outside])
    assert (before - after).abs()[mask[:, None].expand_as(before) > 0].mean() > 0.05
    assert "mini model" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, message",
    [
        (["nothing.png", "mask.png"], "no picture at"),
        (["photo.png", "mask.png", "--base", "nowhere"], "no checkpoint at"),
        (["photo.png", "mask.png", "--base", "."], "model_index.json"),
        (["photo.png", "mask.png", "--base", "mini", "--device", "nowhere"], "device nowhere cannot be used"),
        (
            ["photo.png", "mask.png", "--base", "mini", "--method", "plain", "--strength", "5"],
            'prompt and negative are both ""',
        ),
        (
            ["photo.png", "mask.png", "--base", "mini", "--method", "masg", "--negative", "background"],
            'are both "background"',
        ),
        (["photo.png", "mask.png", "--steps", "0"], "steps is 0, expected at least 1"),
        (["photo.png", "mask.png", "--strength", "nan"], "strength is nan, expected at least 0, and finite"),
        (["photo.png", "mask.png", "--strength", "-4"], "strength is -4.0"),
        (["photo.png", "mask.png", "--feather", "-3"], "feather is -3"),
        (["photo.png", "mask.png", "--grow", "nan"], "grow is nan"),
        (["photo.png", "mask.png", "--context", "inf"], "context is inf"),
        (["photo.png", "mask.png", "--method", "masg"], "masg needs a model: give a checkpoint as --base"),
        (["photo.png", "mask.png", "--prompt", "grass"], "A draft uses no model, so --prompt means nothing to it"),
        (["photo.png", "mask.png", "--method", "draft", "--base", "mini"], "so --base means nothing to it"),
        (["photo.png", "mask.png", "--base", "mini", "--denoise", "1.5"], "denoise is 1.5, expected a number above 0"),
        (
            ["photo.png", "mask.png", "--base", "mini", "--start", "noise", "--denoise", "0.5"],
            "denoise is 0.5, and noise holds nothing to keep",
        ),
        (
            ["photo.png", "mask.png", "--base", "mini", "--start", "picture", "--avoid", "mask.png"],
            "avoid is for drafts",
        ),
        (["photo.png", "mask.png", "--show-draft"], "show-draft is for methods that sample from a draft"),
        (["photo.png", "."], "mask is the folder . for the one photo photo.png"),
    ],
)
def test_bad_input_is_one_sentence(photo, monkeypatch, capsys, change, message):
    monkeypatch.chdir(photo)
    assert main(["remove", *change, "-o", "out.png"]) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not (photo / "out.png").exists()


def test_without_a_model_a_draft_continues_what_lies_around(photo, capsys):
    stripes = (torch.arange(150) // 10 % 2).float().expand(1, 3, 90, 150)
    marked = read_mask(photo / "mask.png")[:, None].expand_as(stripes) > 0.5
    write_image(photo / "photo.png", torch.where(marked, 0.5, stripes))
    files = [str(photo / name) for name in ("photo.png", "mask.png", "out.png")]
    assert main(["remove", *files[:2], "-o", files[2]]) == 0
    assert (read_image(photo / "out.png") - stripes)[marked].square().mean() < 0.1  # of plain grey 0.25
    assert "This is a draft: copies of the photo's own surroundings" in capsys.readouterr().err
    assert main(["remove", *files[:2], "-o", str(photo / "named.png"), "--method", "draft"]) == 0
    assert (photo / "named.png").read_bytes() == (photo / "out.png").read_bytes()


def test_a_draft_copies_nothing_from_what_is_to_be_avoided(photo):
    scene = torch.full((1, 3, 90, 150), 0.5)
    scene[:, 0, 30:50, 60:90] = 1  # the object, and another one beside it
    scene[:, 0, 20:60, 100:140] = 1
    other = torch.zeros(1, 3, 90, 150)
    other[..., 20:60, 100:140] = 1
    write_image(photo / "photo.png", scene)
    write_image(photo / "other.png", other)
    files = [str(photo / name) for name in ("photo.png", "mask.png", "out.png")]
    assert main(["remove", *files[:2], "-o", files[2], "--avoid", str(photo / "other.png")]) == 0
    assert read_image(photo / "out.png")[:, 0, 30:50, 60:90].max() < 0.6


def test_a_start_and_how_much_of_it_is_kept_change_the_picture(photo):
    made = {}
    for start in ("noise", "picture", "draft", "draft --denoise 0.9", "draft --show-draft"):
        files = [str(photo / name) for name in ("photo.png", "mask.png", "out.png")]
        command = [
            "remove",
            *files[:2],
            "-o",
            files[2],
            "--base",
            "mini",
            "--method",
            "sra",
            "--steps",
            "2",
            "--overwrite",
        ]
        assert main([*command, "--start", *start.split()]) == 0
        made[start] = read_image(photo / "out.png")
    pictures = list(made.values())
    assert not any(torch.equal(one, other) for i, one in enumerate(pictures) for other in pictures[:i])


def test_masg_guides_without_a_prompt(photo):
    inputs = [str(photo / "photo.png"), str(photo / "mask.png")]
    arguments = ["remove", *inputs, "--base", "mini", "--method", "masg", "--steps", "2", "-o"]
    for name, more in (("default", []), ("weak", ["--strength", "1"]), ("said", ["--prompt", "background"])):
        assert main([*arguments, str(photo / f"{name}.png"), *more]) == 0
    default, weak, said = (read_image(photo / f"{name}.png") for name in ("default", "weak", "said"))
    assert torch.equal(default, said) and not torch.equal(default, weak)


def test_a_photo_keeps_its_profile_its_data_and_its_quality(photo):
    picture, mask = smooth(90, 150), str(photo / "mask.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Model] = 6, "Camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    turned = Image.fromarray(picture).transpose(Image.Transpose.ROTATE_90)
    turned.save(photo / "turned.png", exif=exif, icc_profile=profile)
    for name in ("out.png", "out.jpg"):
        run = ["remove", str(photo / "turned.png"), mask, "-o", str(photo / name)]
        assert main(run) == 0
        with Image.open(photo / name) as out:
            assert out.info["icc_profile"] == profile
            assert out.getexif()[ExifTags.Base.Model] == "Camera" and ExifTags.Base.Orientation not in out.getexif()
            change = np.asarray(out, dtype=int)[:, 110:] - picture[:, 110:]
        assert abs(change).max() <= (0 if name == "out.png" else 4)
    Image.fromarray(picture).convert("CMYK").save(photo / "cmyk.jpg", icc_profile=profile[:16] + b"CMYK" + profile[20:])
    assert read_photo(photo / "cmyk.jpg").metadata == {}
    for name in ("scan.tif", "scan.webp"):
        Image.fromarray(picture).save(photo / name, icc_profile=profile)
        for out in ("a.tif", "a.png", "a.jpg", "a.webp"):
            read = read_photo(photo / name)
            write_photo(photo / out, read, read.picture)
            with Image.open(photo / out) as written:
                assert written.size == (150, 90) and written.info["icc_profile"] == profile


def smooth(height, width):
    ramp = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 1))
    return np.concatenate([ramp, 255 - ramp, ramp // 2], axis=2).astype(np.uint8)


def test_an_empty_mask_writes_nothing(photo, capsys):
    write_image(photo / "mask.png", torch.zeros(1, 3, 90, 150))
    assert main(["remove", str(photo / "photo.png"), str(photo / "mask.png"), "-o", str(photo / "out.png")]) == 1
    assert "empty" in capsys.readouterr().err and not (photo / "out.png").exists()


@pytest.mark.parametrize("out", ["result", "out.xyz", "photo.png", "nowhere/out.png", ""])
def test_a_result_that_cannot_be_written_is_told_before_the_work(photo, capsys, out):
    before = (photo / "photo.png").read_bytes()
    assert main(["remove", str(photo / "photo.png"), str(photo / "mask.png"), "-o", str(photo / out)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error and "mini model" not in error
    assert (photo / "photo.png").read_bytes() == before


def test_adapters_choose_the_method_they_were_trained_for(photo, capsys):
    trained = photo / "trained"
    trained.mkdir()
    shutil.copyfile(mini.FOLDER / "loras" / "unclutter-mini-eradiff.safetensors", trained / "lora.safetensors")
    (trained / "recipe.json").write_text('{"recipe": "eradiff"}')
    made = []
    for more in ([], ["--method", "sra"], ["--method", "plain"]):
        paths = [str(photo / name) for name in ("photo.png", "mask.png", "out.png")]
        command = ["remove", *paths[:2], "-o", paths[2], "--base", "mini", "--adapters", str(trained)]
        command += ["--steps", "2", "--overwrite", *more]
        assert main(command) == 0
        made.append(read_image(photo / "out.png"))
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    for recipe, told in (("eradiff", False), ("lrnr", True)):
        (trained / "recipe.json").write_text(f'{{"recipe": "{recipe}"}}')
        capsys.readouterr()
        assert main([*command, "--method", "sra"]) == 0
        assert ("made LRNR worse (its Appendix E)" in " ".join(capsys.readouterr().err.split())) == told
    (trained / "recipe.json").write_text('{"recipe": "mild"}')
    capsys.readouterr()
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "holds a layered eraser, and plain samples" in error and error.count("\n") == 1


@pytest.mark.parametrize("value", [math.nan, 1e20])
def test_adapters_of_no_numbers_are_no_black_picture(photo, capsys, value):
    trained = photo / "trained"
    trained.mkdir()
    tensors, header = read_safetensors(mini.FOLDER / "loras" / "unclutter-mini-eradiff.safetensors")
    name = next(iter(tensors))
    tensors[name] = torch.full_like(tensors[name], value)
    write_safetensors(trained / "lora.safetensors", tensors, header)
    (trained / "recipe.json").write_text('{"recipe": "eradiff"}')
    files = [str(photo / name) for name in ("photo.png", "mask.png", "out.png")]
    command = ["remove", *files[:2], "-o", files[2], "--base", "mini", "--adapters", str(trained), "--steps", "1"]
    assert main(command) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "lora.safetensors has NaN or infinite values, or larger ones than any training gives" in error
    assert not (photo / "out.png").exists()


ERASER = mini.FOLDER / "loras" / "unclutter-mini-osor.safetensors"


def drawn_photo(folder):
    """A drawn scene with much ground around it, and the mask of one of its objects: its outline, not its shadow."""
    generator = torch.Generator().manual_seed(3)
    drawn = draw_scenes(1, 64, generator)
    index = drawn.pick_object(generator)
    place, effect = regions.grow(drawn.instance_masks()[torch.arange(1), index], pixels=1), drawn.effect_mask(index)
    around = (40, 60, 30, 20)
    photo, truth = (F.pad(x, around, mode="reflect") for x in (drawn.picture(), drawn.without(index)))
    place, effect = (F.pad(x, around) for x in (place, effect))
    write_image(folder / "photo.png", photo)
    write_image(folder / "mask.png", place[:, None].expand(-1, 3, -1, -1))
    return truth, place, effect


@pytest.mark.parametrize("file", [True, False], ids=["file", "training"])
def test_an_eraser_takes_the_shadow_too_and_nothing_else(tmp_path, file):
    truth, place, effect = drawn_photo(tmp_path)
    trained = ERASER
    if not file:
        trained = tmp_path / "trained"
        trained.mkdir()
        shutil.copyfile(ERASER, trained / "one_step.safetensors")
        (trained / "recipe.json").write_text('{"recipe": "osor"}')
    paths = [str(tmp_path / name) for name in ("photo.png", "mask.png", "out.png")]
    arguments = ["remove", *paths[:2], "-o", paths[2], "--grow", "0", "--feather", "2"]
    arguments += ["--base", "mini", "--adapters", str(trained)]
    assert main(arguments) == 0
    before, after = read_image(tmp_path / "photo.png"), read_image(tmp_path / "out.png")
    for region in (place, effect * (1 - place)):
        here = region[:, None].expand_as(before) > 0
        assert (after - truth)[here].square().mean() < 0.5 * (before - truth)[here].square().mean()
    far = (regions.grow(effect, pixels=12) == 0)[:, None].expand_as(before)
    assert torch.equal(before[far], after[far])


def test_an_eraser_takes_the_whole_photo_as_the_paper_does(tmp_path):
    """As one call on all of the photo, scaled to the side of the training; by default on the part around the mask."""
    truth, place, effect = drawn_photo(tmp_path)
    paths = [str(tmp_path / name) for name in ("photo.png", "mask.png")]
    options = ["--grow", "0", "--feather", "2", "--base", "mini", "--adapters", str(ERASER)]
    for name, more in (("part", []), ("whole", ["--whole"])):
        assert main(["remove", *paths, "-o", str(tmp_path / f"{name}.png"), *options, *more]) == 0
    before, part, whole = (read_image(tmp_path / f"{name}.png") for name in ("photo", "part", "whole"))
    here = torch.maximum(place, effect)[:, None].expand_as(before) > 0
    assert (whole - truth)[here].square().mean() < 0.6 * (before - truth)[here].square().mean()
    assert not torch.equal(part, whole)

    base, eraser = load_mini(), one_step.load(ERASER)
    side = eraser.header.resolution or base.native_size
    height, width = before.shape[-2:]
    scaled = seams.plan_crop(place, math.inf, base.multiple, side, side)
    assert scaled.boxes[0] == (0, 0, height, width) and max(scaled.size) <= side
    image, mask = seams.extract(before, scaled, "image"), seams.extract(place[:, None], scaled, "mask")[:, 0]
    erased, alpha, _ = erase_once(base, eraser, image, mask)
    taken = place.maximum(taken_by(alpha, height, width))
    by_hand = seams.paste_back(before, erased, scaled, taken, 2)
    assert (whole - by_hand).abs().max() < 0.6 / 255
    outside = (regions.grow(taken, pixels=3) == 0)[:, None].expand_as(before)
    assert outside.float().mean() > 0.5 and torch.equal(before[outside], whole[outside])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--method", "one-step"], "one-step needs an eraser"),
        (["--adapters", str(ERASER), "--method", "masg"], "holds a one-step eraser, and masg samples"),
        (["--base", "mini", "--adapters", str(ERASER), "--prompt", "grass"], "leave --prompt and --negative out"),
        (
            ["--base", "mini", "--adapters", str(ERASER.with_name("unclutter-mini-lrnr.safetensors"))],
            "give a one-step eraser",
        ),
        (["--adapters", str(ERASER)], "one-step needs a model"),
        (["--base", "mini", "--adapters", str(ERASER), "--start", "draft"], "one-step begins from the picture"),
        (["--adapters", "nowhere"], "no training in nowhere"),
    ],
)
def test_adapters_and_a_method_that_do_not_go_together_say_so(photo, capsys, more, message):
    files = [str(photo / name) for name in ("photo.png", "mask.png", "out.png")]
    assert main(["remove", *files[:2], "-o", files[2], *more]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (photo / "out.png").exists()


def test_demo_measures_every_method(tmp_path):
    scores = demo(DemoConfig(tmp_path / "page.png", scenes=2, steps=2))
    assert set(scores) == {*METHODS, "one-step"} and (tmp_path / "page.png").stat().st_size > 10_000
    assert all(score.outside == 0 and 0 <= score.removed <= 1 for score in scores.values())


def test_the_demos_photographs_ship_with_a_mask_a_licence_and_a_use():
    rows = photographs()
    licences = (PACK / "photographs" / "README.md").read_text()
    for name, row in zip(PHOTOGRAPHS, rows, strict=True):
        (_, picture), (_, mask), (caption, draft) = row
        assert f"`{name}.jpg`" in licences and PHOTOGRAPHS[name] in caption
        assert (PACK / "photographs" / f"{name}.jpg").stat().st_size < 200_000
        inside = mask > 0.5
        assert torch.equal(draft[~inside], picture[~inside]) and 0.005 < inside.float().mean() < 0.3
        assert (draft - picture)[inside].abs().mean() > 0.03


def test_a_page_keeps_the_shape_of_its_pictures(tmp_path):
    wide, square = torch.zeros(1, 3, 20, 40), torch.zeros(1, 3, 10, 10)
    write_page(tmp_path / "page.png", [("two", [[("a", wide), ("b", wide)]]), ("one", [[("c", square)]])], 216)
    dark = read_image(tmp_path / "page.png").amax(dim=(0, 1)) == 0
    runs = (dark[:, 8:104].all(dim=1).sum(), dark[:, 8:208].all(dim=1).sum())
    assert runs == (48 + 200, 200)  # two of 96×48 beside each other, one of 200×200


def test_score_tells_a_redrawn_object_from_a_removal():
    generator = torch.Generator().manual_seed(1)
    drawn = draw_scenes(4, 128, generator, difficulty="texture")
    index = drawn.pick_object(generator)
    picture, truth, mask = drawn.picture(), drawn.without(index), drawn.instance_masks()[torch.arange(4), index]
    result = torch.where(mask[:, None] > 0, truth, picture)
    result[:2] = torch.where(mask[:2, None] > 0, picture[:2, [2, 0, 1]], picture[:2])  # another colour is no removal
    measured = score(result, picture, truth, mask, own_ground(drawn, index))
    assert measured.removed == 0.5 and measured.outside == 0
    inside = mask[:2, None].expand_as(truth[:2]) > 0
    by_hand = [-10 * (result[row] - truth[row])[inside[row]].square().mean().log10() for row in range(2)]
    assert measured.hole_psnr == pytest.approx((sum(by_hand).item() + 2 * 100) / 4, abs=1e-3)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_command(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0 and f"unclutter {command}" in capsys.readouterr().out


def test_an_unknown_command_lists_the_known_ones(capsys):
    assert main(["vanish"]) == 2
    assert "train mini" in capsys.readouterr().err


OWN = {
    "masg": [[], ["--schedule", "constant"], ["--cutoff", "1"]],
    "attentive-eraser": [[], ["--suppression", "1"], ["--suppression-steps", "1"]],
}


@pytest.mark.parametrize("method", OWN)
def test_the_settings_of_a_method_are_options(photo, capsys, method):
    files = [str(photo / name) for name in ("photo.png", "mask.png")]
    base = ["--base", "mini", "--method", method, "--steps", "3", "--start", "noise"]
    made = []
    for number, own in enumerate([*OWN[method], ["--whole"]]):
        out = photo / f"{number}.png"
        assert main(["remove", *files, "-o", str(out), *base, *own]) == 0
        made.append(read_image(out))
    assert not any(torch.equal(one, other) for i, one in enumerate(made) for other in made[:i])
    outside = regions.grow(read_mask(photo / "mask.png"), pixels=9, percent=7.5)[:, None].expand(-1, 3, -1, -1) == 0
    assert all(torch.equal(each[outside], read_image(photo / "photo.png")[outside]) for each in made)
    other, option = ("sra", OWN[method][1])
    assert main(["remove", *files, "-o", str(photo / "no.png"), "--base", "mini", "--method", other, *option]) == 1
    assert f"is a setting of {method}, and the method is sra" in capsys.readouterr().err

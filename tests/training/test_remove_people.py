"""`unclutter remove --instances`: some of the people in a photo, told apart by masks, by layers and by other methods."""

import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from unclutter.adapters import layered, mini
from unclutter.kernels.layers import visible_masks
from unclutter.kernels.regions import grow
from unclutter.kernels.scenes import draw_scenes
from unclutter.training.base_models.mini import load_mini
from unclutter.training.cli import main
from unclutter.training.images.files import read_image, write_image
from unclutter.training.sampling.crowd import take_apart
from unclutter.training.sampling.layered import erase_layers

ERASER = mini.FOLDER / "loras" / "unclutter-mini-mild.safetensors"
AROUND = (20, 36, 12, 24)
LAYERS = ["--base", "mini", "--adapters", str(ERASER), "--steps", "4", "--strength", "1"]


@pytest.fixture
def crowd(tmp_path):
    """A drawn crowd with ground around it: photo.png, a mask for each in people/, all of them in numbers.png."""
    drawn = draw_scenes(1, 64, torch.Generator().manual_seed(5), crowd=True)
    masks = F.pad((drawn.alphas[0, :3] > 0.5).float(), AROUND)
    write_image(tmp_path / "photo.png", F.pad(drawn.picture(), AROUND, mode="reflect"))
    (tmp_path / "people").mkdir()
    for name, mask in zip(("2", "9", "10"), masks, strict=True):  # counted, and not by the alphabet
        write_image(tmp_path / "people" / f"{name}.png", mask.expand(1, 3, -1, -1))
    (tmp_path / "people" / "notes.txt").write_text("no mask")
    seen = visible_masks(masks)
    numbers = sum(seen[index] * (index + 1) for index in range(3))
    Image.fromarray(torch.as_tensor(numbers).byte().numpy()).save(tmp_path / "numbers.png")
    return tmp_path, masks


def run(folder, *more, out="out.png", instances="people"):
    command = ["remove", str(folder / "photo.png"), "--instances", str(folder / instances), "-o", str(folder / out)]
    return main([*command, *more])


@pytest.mark.parametrize("more", [LAYERS, []], ids=["layers", "draft"])
def test_who_stays_keeps_every_pixel_that_was_seen_of_them(crowd, capsys, more):
    folder, masks = crowd
    assert run(folder, "--remove", "3", *more) == 0
    before, after = read_image(folder / "photo.png")[0], read_image(folder / "out.png")[0]
    seen = visible_masks(masks)
    assert all(torch.equal(before[:, seen[k] > 0], after[:, seen[k] > 0]) for k in (0, 1))
    far = grow(masks[2:], pixels=20)[0] == 0
    assert torch.equal(before[:, far], after[:, far])
    changed = (before - after).abs().amax(dim=0)
    assert (changed[seen[2] > 0] > 0.02).float().mean() > 0.5
    assert "marks 3 people in photo.png; 3 goes" in " ".join(capsys.readouterr().err.split())


def test_layers_show_what_the_layered_eraser_makes(crowd):
    """Against the plain way: the part cut out by hand, the rows made, who is hidden by whom put together by hand."""
    folder, masks = crowd
    assert run(folder, "--remove", "3", *LAYERS, "--grow", "0", "--feather", "0", "--whole") == 0
    picture = read_image(folder / "photo.png")[0]
    base, eraser = load_mini(), layered.load(ERASER)
    layers = take_apart(base, eraser, picture, masks, [2], grow=0, feather=0, context=float("inf"), guidance=1, steps=4)
    made = read_image(folder / "out.png")[0]
    assert (layers.composed()[0] - made).abs().max() < 0.6 / 255
    hidden = masks[2] * masks[:2].amax(dim=0) > 0
    behind = layers.generated[1] if bool((masks[1] * masks[2]).any()) else layers.generated[0]
    owner = 1 if bool((masks[1] * masks[2]).any()) else 0
    there = masks[2] * masks[owner] > 0
    assert hidden.any() and (made - behind)[:, there].abs().max() < 0.6 / 255
    alone = (masks[2] > 0) & (masks[:2].amax(dim=0) == 0)
    assert (made - layers.background)[:, alone].abs().max() < 0.6 / 255


def test_a_hole_larger_than_the_mask_is_what_the_background_fills():
    drawn = draw_scenes(1, 64, torch.Generator().manual_seed(5), crowd=True)
    masks = (drawn.alphas[0, :3] > 0.5).float()
    base, eraser, picture = load_mini(), layered.load(ERASER), drawn.picture()[0]
    made = {
        name: erase_layers(base, eraser, picture, masks, holes=holes, wanted=[], steps=2)[1]
        for name, holes in (("none", None), ("masks", masks), ("grown", grow(masks, pixels=4)))
    }
    assert torch.equal(made["none"], made["masks"])
    ring = (grow(masks, pixels=4).amax(dim=0) - masks.amax(dim=0)) > 0
    assert (made["grown"] - made["masks"])[:, ring].abs().mean() > 0.02


def test_a_draft_copies_nobody_who_stays(tmp_path):
    scene, masks = torch.full((1, 3, 60, 120), 0.5), torch.zeros(3, 60, 120)
    for mask, left in zip(masks, (10, 50, 90), strict=True):
        mask[20:40, left : left + 16] = 1
        scene[:, 0, 20:40, left : left + 16] = 1
    write_image(tmp_path / "photo.png", scene)
    numbers = sum(mask * (index + 1) for index, mask in enumerate(masks))
    Image.fromarray(torch.as_tensor(numbers).byte().numpy()).save(tmp_path / "numbers.png")
    assert run(tmp_path, "--remove", "2", instances="numbers.png") == 0
    made = read_image(tmp_path / "out.png")[0]
    assert made[0, masks[1] > 0].max() < 0.6 and made[0, masks[0] > 0].min() == 1


def test_one_picture_may_number_everyone_and_order_says_who_is_in_front(crowd):
    folder, _ = crowd
    assert run(folder, "--remove", "all but 1", instances="numbers.png") == 0
    assert run(folder, "--remove", "2-3", out="named.png", instances="numbers.png") == 0
    assert (folder / "out.png").read_bytes() == (folder / "named.png").read_bytes()
    assert run(folder, "--remove", "1", out="behind.png") == 0
    assert run(folder, "--remove", "1", "--order", "3, 2, 1", out="before.png") == 0
    behind, before = read_image(folder / "behind.png"), read_image(folder / "before.png")
    assert not torch.equal(behind, before)


def test_a_single_mask_is_everyone_who_goes(crowd):
    folder, masks = crowd
    write_image(folder / "mask.png", masks.amax(dim=0).expand(1, 3, -1, -1))
    photo = [str(folder / name) for name in ("photo.png", "mask.png")]
    assert main(["remove", *photo, "-o", str(folder / "mask_out.png"), *LAYERS]) == 0
    assert run(folder, *LAYERS) == 0  # all of them
    one, other = read_image(folder / "mask_out.png"), read_image(folder / "out.png")
    assert (one - other).abs().mean() < 0.03
    before = read_image(folder / "photo.png")
    assert (one - before).abs()[0, :, masks.amax(dim=0) > 0].mean() > 0.05


def test_a_folder_of_photos_takes_a_folder_for_each(crowd, capsys):
    folder, masks = crowd
    (folder / "photos").mkdir()
    (folder / "marks").mkdir()
    for name in "abc":
        shutil.copyfile(folder / "photo.png", folder / "photos" / f"{name}.png")
    shutil.copytree(folder / "people", folder / "marks" / "a")
    shutil.copyfile(folder / "numbers.png", folder / "marks" / "b.png")
    command = ["remove", str(folder / "photos"), "--instances", str(folder / "marks"), "-o", str(folder / "made")]
    command += ["--remove", "3", *LAYERS]
    assert main(command) == 1  # c has none
    assert "c.png has no instances: expected a folder c, or c.png" in " ".join(capsys.readouterr().err.split())
    assert run(folder, "--remove", "3", *LAYERS) == 0
    assert (folder / "made" / "a.png").read_bytes() == (folder / "out.png").read_bytes()
    lines = [json.loads(line) for line in (folder / "made" / "log.jsonl").read_text().splitlines()]
    assert lines[0]["settings"]["remove"] == "3" and lines[0]["settings"]["method"] == "layers"
    # A mask that has changed is made again, and nothing else is.
    shutil.copytree(folder / "people", folder / "marks" / "c")
    (folder / "marks" / "a" / "9.png").unlink()
    shutil.copyfile(folder / "people" / "10.png", folder / "marks" / "a" / "3.png")
    before = (folder / "made" / "b.png").stat().st_mtime_ns
    assert main(command) == 1  # a's masks 2 and 3 are of one person now
    error = " ".join(capsys.readouterr().err.split())
    assert "mark the same person" in error and "1 written, 1 were finished, 1 failed" in error
    assert (folder / "made" / "b.png").stat().st_mtime_ns == before
    assert main([*command[:-1], "2"]) == 1
    assert "holds results of other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--remove", "4"], "remove names person 4 and the masks mark 3 people: give numbers from 1 to 3"),
        (["--remove", "none"], "remove is 'none', so nobody goes"),
        (["--remove", "the tall one"], "write numbers such as 2, 3 or 1-3"),
        (["--order", "1, 2"], "order is '1, 2' and the masks mark 3 people: give each of 1 to 3 once"),
        (["--invert"], "invert is for a mask"),
        ([*LAYERS, "--start", "picture"], "layers begin from noise"),
        ([*LAYERS, "--avoid", "{0}/numbers.png"], "avoid is for drafts"),
        ([*LAYERS, "--cutoff", "0.5"], "--cutoff is a setting of masg, and the method is layers"),
        ([*LAYERS, "--method", "sra"], "holds a layered eraser, and sra samples"),
        (["--method", "layers", "--base", "mini"], "layers need a layered eraser"),
        (LAYERS[2:], "layers needs a model"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(crowd, capsys, more, message):
    folder, _ = crowd
    assert run(folder, *(text.format(folder) for text in more)) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (folder / "out.png").exists()


def test_marks_that_tell_nobody_apart_are_one_sentence(crowd, capsys):
    folder, masks = crowd
    photo = str(folder / "photo.png")
    out = ["-o", str(folder / "out.png")]
    for command, message in (
        ([photo, *out], "Neither a mask nor instances came"),
        (
            [photo, str(folder / "numbers.png"), "--instances", str(folder / "people"), *out],
            "A mask and instances came",
        ),
        ([photo, str(folder / "numbers.png"), "--remove", "1", *out], "--remove tells instances apart"),
        ([photo, "--instances", str(folder / "nowhere"), *out], "no picture at"),
        ([photo, "--instances", photo, *out], "numbers above 0, expected one for each person, 1 to 64"),
    ):
        assert main(["remove", *command]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    (folder / "empty").mkdir()
    assert run(folder, instances="empty") == 1
    assert "holds no pictures: expected a mask for each person" in capsys.readouterr().err
    write_image(folder / "people" / "9.png", torch.zeros(1, 3, *masks.shape[-2:]))
    assert run(folder) == 1
    assert "9.png: The mask is empty" in capsys.readouterr().err
    write_image(folder / "people" / "9.png", torch.ones(1, 3, 30, 200))
    assert run(folder) == 1
    assert "9.png: The mask is 200x30 and the picture" in capsys.readouterr().err
    assert not (folder / "out.png").exists()

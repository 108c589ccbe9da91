import pytest
import torch

from unclutter.kernels import regions
from unclutter.training.cli import COMMANDS, main
from unclutter.training.demo import METHODS, demo, score
from unclutter.training.pictures import read_image, read_mask, write_image


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
    assert main(["remove", *files[:2], "-o", files[2], "--method", method, "--steps", "2"]) == 0
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
    ],
)
def test_bad_input_is_one_sentence(photo, monkeypatch, capsys, change, message):
    monkeypatch.chdir(photo)
    assert main(["remove", *change, "-o", "out.png"]) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not (photo / "out.png").exists()


def test_an_empty_mask_writes_nothing(photo, capsys):
    write_image(photo / "mask.png", torch.zeros(1, 3, 90, 150))
    assert main(["remove", str(photo / "photo.png"), str(photo / "mask.png"), "-o", str(photo / "out.png")]) == 1
    assert "empty" in capsys.readouterr().err and not (photo / "out.png").exists()


def test_demo_measures_every_method(tmp_path):
    scores = demo(tmp_path / "sheet.png", scenes=2, steps=2)
    assert set(scores) == set(METHODS) and (tmp_path / "sheet.png").stat().st_size > 10_000
    assert all(score.outside == 0 and 0 <= score.redrawn <= 1 for score in scores.values())


def test_score_tells_a_redrawn_object_from_a_removal():
    picture, truth = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    mask = torch.zeros(2, 8, 8)
    mask[:, 2:5, 2:5] = 1
    picture[:, :, 2:5, 2:5] = 1
    redrawn, removed = picture.clone(), truth.clone()
    result = torch.cat([redrawn[:1], removed[1:] + 0.1 * mask[1:, None]])
    measured = score(result, picture, truth, mask)
    assert measured.redrawn == 0.5 and measured.outside == 0
    assert measured.hole_psnr == pytest.approx((0 + 20) / 2, abs=1e-3)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_command(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0 and f"unclutter {command}" in capsys.readouterr().out


def test_an_unknown_command_lists_the_known_ones(capsys):
    assert main(["erase"]) == 2
    assert "train mini" in capsys.readouterr().err

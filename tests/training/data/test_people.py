"""Groups of people whose truth is known: who is where, what is behind them, and what goes along with each."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from unclutter.training.data import people
from unclutter.training.data.loader import RemovalDataset, batches
from unclutter.training.data.manifest import read_manifest
from unclutter.training.images.files import read_image, read_labels, read_mask

COLOURS = ("red", "blue")


@pytest.fixture
def folders(tmp_path):
    """Two people, the upper half of each labelled 13 and the lower 16, their poses a green line; and two backgrounds."""
    for kind in ("image", "pose", "parsing"):
        (tmp_path / "people" / kind).mkdir(parents=True)
    (tmp_path / "backgrounds").mkdir()
    for colour in COLOURS:
        person = Image.new("RGBA", (60, 90))
        ImageDraw.Draw(person).rectangle((20, 10, 39, 79), fill=colour)
        person.save(tmp_path / "people" / "image" / f"{colour}.png")
        pose = Image.new("RGB", (60, 90))
        ImageDraw.Draw(pose).line((30, 15, 30, 75), fill="lime", width=5)
        pose.save(tmp_path / "people" / "pose" / f"{colour}.png")
        labels = np.zeros((90, 60), np.uint8)
        labels[10:45, 20:40], labels[45:80, 20:40] = 13, 16
        parsing = Image.fromarray(labels).convert("P")
        parsing.putpalette([value for index in range(256) for value in (index * 37 % 256, 5, 250)])
        parsing.save(tmp_path / "people" / "parsing" / f"{colour}.png")
    for index, grey in enumerate((110, 150)):
        Image.new("RGB", (120, 100), (grey, grey, grey)).save(tmp_path / "backgrounds" / f"{index}.png")
    return tmp_path


def config(folders, name="out", **more):
    values = {"count": 8, "size": 64, "workers": 1, "shadows": False, **more}
    return people.PeopleConfig(folders / name, folders / "backgrounds", folders / "people", **values)


def test_the_target_is_the_scene_without_anyone(folders):
    people.make_people(config(folders, persons=(2, 4)))
    samples = read_manifest(folders / "out")
    assert len(samples) == 8
    most = 0
    for sample in samples:
        source, target, mask = read_image(sample.source), read_image(sample.target), read_mask(sample.mask)
        assert target.unique().numel() == 1
        changed = (source - target).abs().amax(dim=1) > 0.1
        assert not (changed & (mask < 0.5)).any()
        numbers = read_labels(sample.instance_masks)
        most = max(most, int(numbers.max()))
        assert not ((numbers > 0) & (mask < 0.5)).any()
        for number in numbers.unique()[1:]:
            inside = source[0][:, (numbers == number)[0]].median(dim=1).values
            assert inside.max() > 0.9 and inside.sort().values[1] < 0.1, "one person, of one colour"
    assert most >= 3


def test_people_hide_parts_of_each_other_but_nobody_is_lost(folders):
    people.make_people(config(folders, persons=(4, 4), count=6))
    touching = 0
    for sample in read_manifest(folders / "out"):
        numbers = read_labels(sample.instance_masks)[0]
        assert all((numbers == number).sum() > 20 for number in numbers.unique())
        beside = (numbers[:, 1:] != numbers[:, :-1]) & (numbers[:, 1:] > 0) & (numbers[:, :-1] > 0)
        touching += bool(beside.any())
    assert touching >= 3


def test_pose_and_parsing_go_along(folders):
    people.make_people(config(folders, persons=(1, 1), count=4))
    for sample in read_manifest(folders / "out"):
        pose, labels = read_image(sample.pose)[0], read_labels(sample.parsing)[0]
        there = read_labels(sample.instance_masks)[0] > 0
        # The line lies on its person but for a soft pixel at the picture's edge; everyone is labelled, nobody else is.
        line = pose[1] > 0.5
        assert line.any() and (line & there).sum() >= 0.9 * line.sum() and not (pose[0] > 0.1).any()
        assert set(labels.unique().int().tolist()) <= {0, 13, 16}
        assert not (labels[~there] > 0).any() and (labels[there] > 0).float().mean() > 0.9
        rows = torch.arange(64.0)[:, None].expand(64, 64)
        if (labels == 16).any() and (labels == 13).any():
            assert rows[labels == 13].mean() < rows[labels == 16].mean()


def test_the_loader_gives_them_to_a_training(folders):
    people.make_people(config(folders, count=2))
    samples = read_manifest(folders / "out")
    item = RemovalDataset(samples, 64, people=True)[(0, 0)]
    assert item["pose"].shape == (3, 64, 64) and item["instances"].shape == item["parsing"].shape == (64, 64)
    assert torch.equal(item["instances"], read_labels(samples[0].instance_masks)[0]), "not mirrored"
    assert "pose" not in RemovalDataset(samples, 64)[(0, 0)]
    numbered = next(batches(folders / "out", batch=2, size=64, start=5, people=True))
    assert numbered["number"].tolist() == [5, 5] and numbered["instances"].shape == (2, 64, 64)


def test_the_same_seed_makes_the_same_bytes_and_pose_may_be_absent(folders):
    for kind in ("pose", "parsing"):
        for path in (folders / "people" / kind).iterdir():
            path.unlink()
    for name in ("one", "two"):
        people.make_people(config(folders, name, count=2))
    one, two = (sorted(path for path in (folders / name).rglob("0*.png")) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two] and len(one) == 10
    assert read_manifest(folders / "one")[0].pose is None
    item = RemovalDataset(read_manifest(folders / "one"), 64, people=True)[(0, 0)]
    assert not item["pose"].any() and not item["parsing"].any() and item["instances"].any()


def test_bad_settings_and_pictures_say_so(folders):
    with pytest.raises(ValueError, match=r"persons \(3, 2\)"):
        config(folders, persons=(3, 2))
    Image.new("RGB", (10, 10)).save(folders / "people" / "pose" / "red.png")
    with pytest.raises(ValueError, match=r"The pose of red.png is 10x10 and the picture 60x90, expected one size"):
        people.make_people(config(folders))

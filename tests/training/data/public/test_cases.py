"""Cases of folders and manifests, as `evaluate photos` reads them."""

import json

import pytest
from PIL import Image

from unclutter.training.data.public.cases import read_cases


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    return path


def test_photos_go_with_masks_and_truths_by_their_names(tmp_path):
    for name in ("a.jpg", "a_mask.png", "b.png", "mask/b.png", "target/b.webp", "effect_mask/b.png"):
        picture(tmp_path / name)
    (tmp_path / "b.txt").write_text("a vase\non a table\n")
    first, second = read_cases(tmp_path)
    assert (first.name, first.picture.name, first.mask.name, first.truth) == ("a", "a.jpg", "a_mask.png", None)
    assert second.truth == tmp_path / "target/b.webp" and second.effects == tmp_path / "effect_mask/b.png"
    assert second.mask == tmp_path / "mask/b.png" and second.caption == "a vase on a table"


def test_a_manifest_is_recognised_and_a_sample_without_target_has_no_truth(tmp_path):
    lines = [
        {"name": "x/1", "source": "s/1.png", "mask": "m/1.png", "target": "t/1.png", "prompt": "a chair"},
        {"name": "x/2", "source": "s/2.png", "mask": "m/2.png", "instance_masks": "i/2.png"},
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for source in (tmp_path, tmp_path / "manifest.jsonl"):
        first, second = read_cases(source)
        assert (first.name, first.truth, first.caption) == ("x-1", tmp_path / "t/1.png", "a chair")
        assert second.truth is None and second.instances == tmp_path / "i/2.png"


def test_folders_source_and_mask_are_a_set(tmp_path):
    for name in ("source/1.png", "mask/1.png", "target/1.png"):
        picture(tmp_path / name)
    assert [case.truth for case in read_cases(tmp_path)] == [tmp_path / "target/1.png"]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (["a.jpg", "b.jpg", "b_mask.png"], "a.jpg has no mask"),
        (["a.jpg", "a_mask.png", "mask/a.png"], "a_mask.png and a.png for its mask: keep one"),
        ([], "holds no photos"),
    ],
)
def test_a_folder_that_does_not_fit_is_told_in_one_sentence(tmp_path, files, sentence):
    for name in files:
        picture(tmp_path / name)
    with pytest.raises(ValueError, match=sentence):
        read_cases(tmp_path)


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        read_cases(tmp_path / "none")

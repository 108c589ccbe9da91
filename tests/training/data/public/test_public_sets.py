"""Small made-up copies of public sets' layouts, read as cases and written as folders of the project's own format."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from unclutter.training.cli import main
from unclutter.training.data.manifest import read_manifest
from unclutter.training.data.public.archives import run_length_mask
from unclutter.training.data.public.cases import read_cases
from unclutter.training.data.public.layouts import PUBLIC, recognised
from unclutter.training.images.files import read_image, read_mask

SIZE = (24, 16)


def picture(path, shade=100, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(path)


def mask(path, share=0.5, size=SIZE, white=255):
    """The left `share` of the picture is marked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((size[1], size[0]), np.uint8)
    values[:, : round(share * size[0])] = white
    Image.fromarray(values).save(path)


def rord(root):
    for name in ("scene1/01", "scene2/01"):
        picture(root / f"val/img/{name}.jpg")
        picture(root / f"val/gt/{name}.jpg", 50)
        mask(root / f"val/mask/{name}.png")


def rorem(root):
    entries = []
    for number in range(2):
        picture(root / f"source/{number}.png")
        picture(root / f"GT/{number}.png", 50)
        mask(root / f"mask/{number}.png")
        entries.append({key: f"{key}/{number}.png" for key in ("source", "GT", "mask")})
    (root / "meta.json").write_text(json.dumps(entries))


def osor(root):
    for name in ("a", "b"):
        picture(root / f"shot/{name}.png")
        picture(root / f"bg/{name}.png", 50)
        mask(root / f"mask_sam/{name}.png")
        mask(root / f"mask_eff/{name}.png", 0.75)


def corne(root):
    osor(root)
    names = {"shot_m_list": "shot", "bg_m_list": "bg", "mask_sam_list": "mask_sam", "mask-check_m_list": "mask_eff"}
    for name, folder in names.items():
        (root / f"{name}.txt").write_text(f"{folder}/a.png\n{folder}/b.png\n")


def hq_sam(root):
    for pictures, masks in (("DIS5K/DIS-VD/im", "DIS5K/DIS-VD/gt"), ("cascade_psp/ecssd", "cascade_psp/ecssd")):
        picture(root / pictures / "0001.jpg")
        mask(root / masks / "0001.png")


def brushbench(root):
    picture(root / "images/1.jpg", size=(512, 512))
    picture(root / "images/2.jpg", size=(512, 512))
    runs = [value for row in range(512) for value in (row * 512 + 1, 256)]
    entries = {f"{n:09}": {"image": f"images/{n}.jpg", "caption": "a dog", "inpainting_mask": runs} for n in (1, 2)}
    (root / "mapping_file.json").write_text(json.dumps(entries))


def openimages(root, shares=(0.5, 0.25, 0.02, 0.9)):
    columns = ["MaskPath", "ImageID", "LabelName", "BoxID", "PredictedIoU"]
    with (root / "validation-annotations-object-segmentation.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for number, share in enumerate(shares):
            image, name = f"00000000000000{number:02x}", f"00000000000000{number:02x}_m01_{number}.png"
            row = {"MaskPath": name, "ImageID": image, "LabelName": "/m/01", "BoxID": number, "PredictedIoU": 0.8}
            writer.writerow(row)
            picture(root / f"validation/{image}.jpg", size=(100, 80))
            mask(root / f"masks/{name[0]}/{name}", share, size=(50, 40))
    (root / "class-descriptions-boxable.csv").write_text("/m/01,Teapot\n")


def cell(shade, left=None):
    values = np.full((16, 24), shade, np.uint8)
    if left is not None:
        values[:] = 0
        values[:, :left] = 255
    content = io.BytesIO()
    Image.fromarray(values).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": f"{shade}.png"}


def ober(root):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[public]'.")
    from pyarrow import parquet

    def row(shade, split):
        pictures = {"input": cell(shade), "gt": cell(50), "object_mask": cell(1, 12), "object_effect_mask": cell(1, 18)}
        return {**pictures, "subset": "OBER-Test", "split": split}

    (root / "data").mkdir()
    table = pyarrow.Table.from_pylist([row(100, "test"), row(101, "test"), row(102, "train")])
    parquet.write_table(table, root / "data" / "test-00000-of-00001.parquet")


SETS = {
    "rord": rord,
    "rorem": rorem,
    "osor": osor,
    "corne": corne,
    "hq-sam": hq_sam,
    "brushbench": brushbench,
    "openimages": openimages,
    "ober": ober,
}


@pytest.fixture(params=SETS)
def made(request, tmp_path):
    (tmp_path / "set").mkdir()
    SETS[request.param](tmp_path / "set")
    return request.param, tmp_path / "set"


def test_every_known_set_is_tried():
    assert set(SETS) == set(PUBLIC)


def test_a_set_is_recognised_and_becomes_a_folder_of_the_projects_own_format(made, tmp_path):
    name, folder = made
    assert recognised(folder) == name
    output = tmp_path / "out"
    assert main(["data", "cases", "auto", str(folder), str(output)]) == 0
    cases = read_cases(output)
    assert len(cases) == 2
    for case in cases:
        before, marked = read_image(case.picture), read_mask(case.mask)
        assert before.shape[-2:] == marked.shape[-2:]
        assert set(marked.unique().tolist()) == {0.0, 1.0}
        assert marked[0, 0, 0] == 1 and marked[0, 0, -1] == 0
    assert all((case.truth is None) == (name in ("hq-sam", "brushbench", "openimages")) for case in cases)
    assert all((case.effects is not None) == (name in ("osor", "corne", "ober")) for case in cases)
    for case in cases:
        if case.truth is not None:
            assert read_image(case.truth).mean() < read_image(case.picture).mean()
        if case.effects is not None:
            assert read_mask(case.effects).mean() == 0.75 and read_mask(case.mask).mean() == 0.5
    assert PUBLIC[name].page in (output / "LICENCE.txt").read_text()
    assert len(read_manifest(output, targets=False)) == 2


def test_cases_are_read_as_they_lie_or_the_command_that_writes_them_is_told(made):
    name, folder = made
    if PUBLIC[name].ready:
        cases = read_cases(folder)
        assert len(cases) == 2 and all(case.picture.is_file() and case.mask.is_file() for case in cases)
        assert cases == read_cases(folder, name)
    else:
        with pytest.raises(ValueError, match=f"unclutter data cases {name}"):
            read_cases(folder)


def test_a_stopped_run_goes_on_to_the_same_bytes(made, tmp_path):
    name, folder = made
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert main(["data", "cases", name, str(folder), str(whole)]) == 0
    assert main(["data", "cases", name, str(folder), str(stopped), "-n", "1"]) == 0
    (next((stopped / "mask").iterdir())).unlink()
    assert main(["data", "cases", name, str(folder), str(stopped)]) == 0
    assert contents(whole) == contents(stopped)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_openimages_keeps_objects_of_3_to_70_percent_and_writes_its_list(tmp_path):
    openimages(tmp_path, shares=(0.5, 0.25, 0.02, 0.9, 0.04, 0.7))
    arguments = ["data", "cases", "openimages", str(tmp_path)]
    assert main([*arguments, str(tmp_path / "a")]) == main([*arguments, str(tmp_path / "b"), "--seed", "1"]) == 0
    lists = [(tmp_path / name / "ids.txt").read_text().split() for name in "ab"]
    assert sorted(lists[0]) == sorted(lists[1]) == [f"00000000000000{n:02x}_m01_{n}" for n in (0, 1, 4, 5)]
    assert lists[0] != lists[1]
    again = [*arguments, str(tmp_path / "c"), "--seed", "5", "--ids", str(tmp_path / "b/ids.txt"), "-n", "2"]
    assert main(again) == 0
    assert (tmp_path / "c/ids.txt").read_text().split() == lists[1][:2]
    cases = read_cases(tmp_path / "a")
    assert {case.caption for case in cases} == {"Teapot"}
    assert read_mask(cases[0].mask).shape == (1, 80, 100)


def test_run_lengths_count_pixels_from_one_row_by_row():
    assert np.asarray(run_length_mask([2, 3, 9, 1], 4)).tolist() == [
        [0, 255, 255, 255],
        [0, 0, 0, 0],
        [255, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    with pytest.raises(ValueError, match="expected it in 4x4 pixels"):
        run_length_mask([15, 3], 4)


def test_masks_of_zeros_and_ones_are_masks(tmp_path):
    rord(tmp_path)
    for path in (tmp_path / "val/mask").rglob("*.png"):
        mask(path, white=1)
    assert main(["data", "cases", "rord", str(tmp_path), str(tmp_path / "out")]) == 0
    assert read_mask(read_cases(tmp_path / "out")[0].mask).mean() == 0.5


def test_hq_sam_serves_data_store_as_cutouts(tmp_path):
    from unclutter.training.data.sources import find_pictures

    hq_sam(tmp_path)
    assert main(["data", "cases", "hq-sam", str(tmp_path), str(tmp_path / "out")]) == 0
    picture(tmp_path / "rooms/1.png")
    assert len(find_pictures(tmp_path / "rooms", tmp_path / "out", None).cutouts) == 2


def test_nhr_edit_becomes_a_folder_that_data_verify_reads(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[public]'.")
    from pyarrow import parquet

    from unclutter.training.data.edits import list_edits

    categories = ("Add object", "Remove object", "Change colour")
    rows = [
        {
            "category": each,
            "source_image": cell(10 + n),
            "edited_image": cell(20 + n),
            "edit_instruction": f"{each} {n}",
        }
        for n, each in enumerate(categories)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "train-00000.parquet")
    assert main(["data", "cases", "auto", str(tmp_path), str(tmp_path / "out")]) == 0
    added, removed = list_edits(tmp_path / "out")
    assert (added.instruction, removed.instruction) == ("Add object 0", "Remove object 1")
    shades = [round(float(read_image(path).mean()) * 255) for path in (added.shot, added.background, removed.shot)]
    assert shades == [20, 10, 11]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda root: (root / "bg/b.png").unlink(), "has no picture for b"),
        (lambda root: picture(root / "bg/b.png", size=(8, 8)), "its truth 8x8, expected one size"),
        (lambda root: (root / "mask_sam/b.png").write_bytes(b"nothing"), "cannot be read as a picture"),
    ],
)
def test_a_damaged_set_ends_in_one_sentence(tmp_path, capsys, spoil, sentence):
    osor(tmp_path)
    spoil(tmp_path)
    assert main(["data", "cases", "osor", str(tmp_path), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert sentence in error.splitlines()[-1] and "Traceback" not in error


def test_a_folder_of_something_else_is_told(tmp_path, capsys):
    assert main(["data", "cases", "ober", str(tmp_path), str(tmp_path / "out")]) == 1
    assert "expected the files of ober" in capsys.readouterr().err

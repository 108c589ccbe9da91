"""Small drawn scenes, whose truth is known, as a folder of pictures."""

import pytest
import torch

from unclutter.training.evaluation.cases import draw
from unclutter.training.images.files import write_image


def grey(mask):
    return mask[None, None].expand(1, 3, -1, -1)


def write_scenes(folder, count, size=64, seed=5):
    """Pictures a00.png … with a00_mask.png, target/a00.png and effect_mask/a00.png."""
    case = draw(count, torch.Generator().manual_seed(seed), size)
    for row in range(count):
        name = f"a{row:02}"
        write_image(folder / f"{name}.png", case.picture[row : row + 1])
        write_image(folder / f"{name}_mask.png", grey(case.place[row]))
        write_image(folder / "target" / f"{name}.png", case.truth[row : row + 1])
        write_image(folder / "effect_mask" / f"{name}.png", grey(torch.maximum(case.effect[row], case.place[row])))
    return folder


@pytest.fixture
def scenes(tmp_path):
    return write_scenes(tmp_path / "scenes", 6)


@pytest.fixture
def many_scenes(tmp_path):
    """A folder of as many scenes as it is asked for."""
    return lambda count: write_scenes(tmp_path / "scenes", count)

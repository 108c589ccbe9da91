"""Pairs that the trainings of these tests learn from."""

from pathlib import Path

import pytest

from unclutter.training.data.drawn import draw_pairs
from unclutter.training.data.settings import DrawnConfig


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six pairs of drawn scenes, which a test may change for those of its own file."""
    folder = tmp_path_factory.mktemp("pairs")
    draw_pairs(DrawnConfig(folder, count=6))
    return folder

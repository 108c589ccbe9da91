"""What LRNR's training asks of the base, and how it says its adapters are to be used."""

from dataclasses import replace
from pathlib import Path

import pytest

from unclutter.training.lrnr import LRNR, LRNRRecipe
from unclutter.training.sampling import MASG, load_mini
from unclutter.training.text import ENHANCERS

FOLDER = Path("unused")


@pytest.mark.parametrize(
    "values", [{}, {"prompt_tokens": 77, "enhancers": ()}, {"prompt_tokens": 70, "enhancers": ("8K", "nikon")}]
)
def test_a_prompt_longer_than_the_text_encoder_takes_is_refused(values):
    with pytest.raises(ValueError, match=r"are \d+ tokens for clip_l, expected at most 75: give fewer --enhancers"):
        LRNR(load_mini(), LRNRRecipe(FOLDER, FOLDER, **values))


@pytest.mark.parametrize(
    "values", [{"enhancers": ("8K", "nikon")}, {"prompt_tokens": 75, "enhancers": ()}, {"prompt_tokens": 0}]
)
def test_a_prompt_that_fits_is_not(values):
    text = LRNR(load_mini(), LRNRRecipe(FOLDER, FOLDER, **values)).sample_method()[1]
    assert bool(text) == (values != {"prompt_tokens": 0})
    assert LRNRRecipe(FOLDER, FOLDER).enhancers == ENHANCERS


def test_guidance_is_as_strong_as_the_base_bears():
    recipe = LRNRRecipe(FOLDER, FOLDER, enhancers=())
    for settings, guidance in ((recipe, 3.0), (replace(recipe, base=Path("sdxl")), 12.5)):
        assert LRNR(load_mini(), settings).sample_method()[0] == MASG(guidance)

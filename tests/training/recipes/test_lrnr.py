"""LRNR's training: its demands on the base, its note of how the adapters are to be used, and settings, EraDiff's too."""

import re
from dataclasses import replace
from math import inf, nan
from pathlib import Path

import pytest

from unclutter.training.base_models.mini import load_mini
from unclutter.training.base_models.text import ENHANCERS
from unclutter.training.recipes.eradiff import EraDiff
from unclutter.training.recipes.eradiff_settings import EraDiffRecipe
from unclutter.training.recipes.eradiff_settings import choose as choose_eradiff
from unclutter.training.recipes.lrnr import LRNR
from unclutter.training.recipes.lrnr_settings import LRNRRecipe
from unclutter.training.recipes.lrnr_settings import choose as choose_lrnr
from unclutter.training.sampling.methods import MASG

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


ABSURD = [
    (LRNRRecipe, "prompt_tokens", -1, "at least 0"),
    (LRNRRecipe, "prompt_learning_rate", nan, "a positive number"),
    (LRNRRecipe, "empty_prompt", 7, "0 to 1"),
    (LRNRRecipe, "enhancer_share", -0.1, "0 to 1"),
    (EraDiffRecipe, "gamma_max", 0, "1 to 999"),
    (EraDiffRecipe, "gamma_max", 1000, "1 to 999"),
    *(
        (recipe, *rest)
        for recipe in (LRNRRecipe, EraDiffRecipe)
        for rest in (
            ("lora_alpha", 0.0, "a positive number"),
            ("lora_alpha", -4.0, "a positive number"),
            ("learning_rate", inf, "a positive number"),
            ("dilation", (0.5, 0.1), "two shares of at least 0, the smaller first"),
            ("dilation", (-0.1, 0.1), "two shares of at least 0, the smaller first"),
            ("size", -5, "at least 8"),
            ("workers", -1, "at least 0"),
            ("latent_cache", -1.0, "at least 0"),
            ("latent_cache", nan, "at least 0"),
            ("sample_every", -1, "at least 0"),
            ("save_every", 0, "at least 1"),
        )
    ),
]


@pytest.mark.parametrize(("recipe", "name", "value", "expected"), ABSURD)
def test_absurd_settings_say_what_is_wrong(recipe, name, value, expected):
    with pytest.raises(ValueError, match=rf"^{name} is {re.escape(str(value))}, expected {expected}\.$"):
        recipe(FOLDER, FOLDER, **{name: value})


def test_presets_are_the_papers():
    folders = ["--data", "pairs", "--output", "out"]
    for arguments in ([], ["paper"]):
        recipe = choose_lrnr([*arguments, *folders], "")
        assert (recipe.steps, recipe.lora_rank) == (1000, 32)
        assert (recipe.learning_rate, recipe.prompt_learning_rate) == (5e-4, 2.5e-4)
    for arguments, full, rate in ((["paper"], True, 3e-6), (["--full"], True, 3e-6), ([], False, 1e-4)):
        recipe = choose_eradiff([*arguments, *folders], "")
        assert (recipe.full, recipe.learning_rate, recipe.gamma_max) == (full, rate, 100)
    assert choose_eradiff(["--full", "--learning-rate", "1e-5", *folders], "").learning_rate == 1e-5


def test_the_minis_presets_fit_the_mini_model():
    recipe = choose_lrnr(["mini", "--data", "pairs", "--output", "out", "--steps", "5"], "")
    assert recipe.steps == 5 and LRNR(load_mini(), recipe).sample_method()[1].count("nikon") == 1
    EraDiff(load_mini(), choose_eradiff(["mini", "--data", "pairs", "--output", "out"], ""))

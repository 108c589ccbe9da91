"""Translations are complete: every text that a node says in English stands in every language, and nothing else does."""

from __future__ import annotations

import json
import re

import pytest

from unclutter.tools.locales import FOLDER, completed, flat, said_by

LANGUAGES = sorted(folder.name for folder in FOLDER.iterdir() if (folder / "nodeDefs.json").exists())


@pytest.fixture(scope="module")
def english(comfy_server):
    return said_by(comfy_server.object_info())


def translated(language):
    return json.loads((FOLDER / language / "nodeDefs.json").read_text())


def test_there_is_chinese():
    assert "zh" in LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_there_and_none_is_left_over(english, language):
    there = flat(translated(language))
    assert sorted(set(flat(english)) - set(there)) == [], (
        f"run python -m unclutter.tools.locales {language} and translate"
    )
    assert sorted(set(there) - set(flat(english))) == [], f"run python -m unclutter.tools.locales {language}"
    assert [place for place, text in there.items() if not text.strip()] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_are_translated_and_what_a_graph_takes_is_not(english, language):
    there = flat(translated(language))
    for place, text in flat(english).items():
        if place.endswith(("tooltip", "description")):
            assert there[place] != text, f"{place} is still in English"
        else:
            # ComfyUI's page reads these marks in names and descriptions as its own syntax.
            assert not re.search(r"[{}@|]", there[place]), place


@pytest.mark.parametrize("language", LANGUAGES)
def test_comfyui_serves_them(comfy_server, language):
    assert comfy_server.get("/i18n").json()[language]["nodeDefs"].items() >= translated(language).items()


def test_a_new_language_begins_with_the_english_texts_and_keeps_what_is_translated():
    english = {"Node": {"display_name": "Crop", "inputs": {"mask": {"name": "mask", "tooltip": "White."}}}}
    assert completed(english, {}) == english
    half = {
        "Node": {"display_name": "Zuschneiden", "inputs": {"gone": {"name": "weg"}}},
        "Old": {"display_name": "Alt"},
    }
    assert completed(english, half) == {"Node": {**english["Node"], "display_name": "Zuschneiden"}}

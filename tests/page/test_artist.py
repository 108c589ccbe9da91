"""What an artist does with the mouse: paints a mask, looks for a node, reads its help, cancels, forgets the mask."""

from __future__ import annotations

import json

import pytest
import torch

from unclutter.adapters import photos
from unclutter.training.comfyui import PACK

BOTH = pytest.mark.parametrize("nodes_2", [False, True], ids=["classic", "nodes2"])


def workflow(name):
    return json.loads((PACK / "workflows" / f"{name}.json").read_text())


@pytest.fixture
def first_template(comfy_page):
    """Opens the first template on either canvas; the mask of its picture is that of the rocket."""

    def opened(nodes_2=False):
        comfy_page.use_nodes_2(nodes_2)
        comfy_page.load(workflow("Remove an object, no model"), "first")
        comfy_page.wait_for("(id) => app.graph.getNodeById(id).imgs?.length", comfy_page.node_id("LoadImage"))
        return comfy_page

    return opened


def changed(page, outputs):
    """Where the saved picture differs from the photograph, bool [H, W]."""
    after = page.server.images(outputs, page.node_id("SaveImage"))[0]
    return ((after - photos.load("rocket").image[0].movedim(0, -1)).abs() > 3 / 255).any(dim=-1)


def box_of(where):
    """(left, top, right, bottom) of what is marked, in fractions of the picture."""
    rows, columns = where.any(dim=1).nonzero()[:, 0], where.any(dim=0).nonzero()[:, 0]
    height, width = where.shape
    return columns[0] / width, rows[0] / height, columns[-1] / width, rows[-1] / height


@BOTH
def test_the_first_template_removes_the_rocket_from_a_photograph(first_template, screenshot, nodes_2):
    page = first_template(nodes_2)
    where = changed(page, page.run())
    rocket = photos.load("rocket").mask[0] > 0.5
    assert where[rocket].float().mean() > 0.8
    left, top, right, bottom = box_of(rocket)
    got = box_of(where)
    assert left - 0.1 < got[0] and top - 0.1 < got[1] and got[2] < right + 0.1 and got[3] <= bottom + 0.1
    screenshot(page, f"first template, run ({'Nodes 2.0' if nodes_2 else 'classic'})")


@BOTH
def test_what_is_painted_in_the_mask_editor_is_what_goes(first_template, screenshot, nodes_2):
    page = first_template(nodes_2)
    page.open_menu(page.node_id("LoadImage"))
    page.page.get_by_text("Open in Mask", exact=False).first.click()
    page.paint_mask(((0.67, 0.30), (0.72, 0.70)))
    where = changed(page, page.run())
    left, top, right, bottom = box_of(where)
    assert 0.55 < left < 0.69 and 0.2 < top < 0.35 and 0.68 < right < 0.85 and 0.6 < bottom < 0.82
    assert not where[photos.load("rocket").mask[0] > 0.5].any(), "the rocket was not painted, and stays"
    screenshot(page, f"painted mask, run ({'Nodes 2.0' if nodes_2 else 'classic'})")


@pytest.mark.parametrize("words", ["remove object", "erase", "remove person", "inpaint"])
def test_remove_object_is_found_by_what_people_type(comfy_page, screenshot, words):
    comfy_page.use_nodes_2(False)
    comfy_page.load({"version": 0.4, "nodes": [], "links": [], "groups": []}, "empty")
    comfy_page.page.mouse.dblclick(800, 700)
    comfy_page.page.keyboard.type(words)
    results = comfy_page.page.get_by_test_id("result-item")
    comfy_page.wait_for(
        "() => [...document.querySelectorAll('[data-testid=result-item]')].some((item) => item.textContent.includes('Unclutter'))"
    )
    screenshot(comfy_page, f"search, {words}")
    found = results.all_inner_texts()
    comfy_page.page.keyboard.press("Escape")
    others = [text for text in found if "Unclutter" not in text]
    place = next(index for index, text in enumerate(found) if text.startswith("Remove Object"))
    assert place <= (1 if others and found.index(others[0]) == 0 else 0), [text[:60] for text in found[:8]]

"""An artist's work with the mouse: painting a mask, looking for a node, reading its help, cancelling, forgetting the mask."""

from __future__ import annotations

import json

import pytest

from unclutter.training.comfyui_server import PACK
from unclutter.training.images.files import read_image, read_mask

ROCKET = PACK / "photographs"
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
    """The pixels in which the saved picture differs from the photograph, bool [H, W]."""
    after = page.server.images(outputs, page.node_id("SaveImage"))[0]
    return ((after - read_image(ROCKET / "rocket.jpg")[0].movedim(0, -1)).abs() > 3 / 255).any(dim=-1)


def box_of(where):
    """(left, top, right, bottom) of what is marked, in fractions of the picture."""
    rows, columns = where.any(dim=1).nonzero()[:, 0], where.any(dim=0).nonzero()[:, 0]
    height, width = where.shape
    return columns[0] / width, rows[0] / height, columns[-1] / width, rows[-1] / height


@BOTH
def test_the_first_template_removes_the_rocket_from_a_photograph(first_template, screenshot, nodes_2):
    page = first_template(nodes_2)
    where = changed(page, page.run())
    rocket = read_mask(ROCKET / "rocket_mask.png")[0] > 0.5
    assert where[rocket].float().mean() > 0.8
    left, top, right, bottom = box_of(rocket)
    got = box_of(where)
    assert left - 0.1 < got[0] and top - 0.1 < got[1] and got[2] < right + 0.1 and got[3] <= bottom + 0.1
    screenshot(page, f"first template, run ({'Nodes 2.0' if nodes_2 else 'classic'})")


@BOTH
def test_what_is_painted_in_the_mask_editor_is_what_goes(first_template, screenshot, nodes_2):
    page = first_template(nodes_2)
    page.open_menu(page.node_id("LoadImage"))
    page.choose("Open in Mask")
    page.paint_mask(((0.67, 0.30), (0.72, 0.70)))
    where = changed(page, page.run())
    left, top, right, bottom = box_of(where)
    assert 0.55 < left < 0.69 and 0.15 < top < 0.35 and 0.68 < right < 0.85 and 0.6 < bottom < 0.88
    assert not where[read_mask(ROCKET / "rocket_mask.png")[0] > 0.5].any(), "the rocket was not painted, and stays"
    screenshot(page, f"painted mask, run ({'Nodes 2.0' if nodes_2 else 'classic'})")


@pytest.mark.parametrize("words", ["remove object", "erase", "remove person"])
def test_the_pack_is_found_by_what_people_type(comfy_page, screenshot, words):
    """First, or directly behind one of core's paid nodes."""
    found = results_of(comfy_page, screenshot, words)
    assert any("Unclutter" in text for text in found[:2]), [text[:60] for text in found[:8]]


def test_remove_object_is_among_the_nodes_for_inpainting(comfy_page, screenshot):
    """Behind those that have the word in their names, which the search puts first."""
    found = results_of(comfy_page, screenshot, "inpaint")
    others = [text for text in found[: [text.startswith("Remove Object") for text in found].index(True)]]
    assert len(others) < 25, [text[:60] for text in others]


def results_of(page, screenshot, words):
    page.use_nodes_2(False)
    page.load({"version": 0.4, "nodes": [], "links": [], "groups": []}, "empty")
    found = page.search(words)
    screenshot(page, f"search, {words}")
    page.page.keyboard.press("Escape")
    page.page.get_by_test_id("result-item").first.wait_for(state="hidden")
    return found


def test_a_run_that_is_cancelled_stops_and_the_next_one_runs(comfy_page, page_server):
    comfy_page.use_nodes_2(False)
    comfy_page.load(workflow("Toy model, remove by SRA"), "cancelled")
    sampler = comfy_page.node_id("KSampler")
    set_steps = (
        "([id, steps]) => { app.graph.getNodeById(id).widgets.find(({name}) => name === 'steps').value = steps }"
    )
    comfy_page.evaluate(set_steps, [sampler, 5000])
    running = comfy_page.queue()["prompt_id"]
    comfy_page.wait_for("(id) => app.graph.getNodeById(id).progress > 0", sampler)
    comfy_page.page.get_by_role("button", name="Cancel current run").click()
    with pytest.raises(RuntimeError, match="interrupted in KSampler"):
        page_server.wait(running, timeout=60)
    comfy_page.evaluate(set_steps, [sampler, 3])
    assert comfy_page.run()[comfy_page.node_id("SaveImage")]["images"]


def test_an_empty_mask_is_said_in_the_page(first_template, screenshot):
    page = first_template()
    page.open_menu(page.node_id("LoadImage"))
    page.choose("Open in Mask")
    page.paint_mask()
    answer = page.queue()
    with pytest.raises(RuntimeError, match="mask is empty"):
        page.server.wait(answer["prompt_id"])
    page.page.get_by_test_id("error-overlay-see-errors").click()
    page.page.get_by_text("The mask is empty, so there is nothing to remove").first.wait_for()
    screenshot(page, "an empty mask")
    close_side_panel(page)


def test_the_help_of_remove_object_opens_beside_the_graph(first_template, screenshot):
    page = first_template()
    page.evaluate("(id) => app.canvas.selectItems([app.graph.getNodeById(id)])", page.node_id("UnclutterRemoveObject"))
    page.page.get_by_test_id("info-button").click()
    panel = page.page.locator(".node-help-content")
    panel.get_by_role("heading", name="Remove Object").first.wait_for()
    page.settle()
    screenshot(page, "help of Remove Object")
    too_wide = "(panel) => [...panel.querySelectorAll('table, img, pre')].filter((part) => part.scrollWidth > panel.clientWidth + 1).length"
    assert panel.evaluate(too_wide) == 0, "a part of the help page is cut off"
    assert panel.evaluate("(panel) => [...panel.querySelectorAll('img')].every((picture) => picture.naturalWidth)")
    close_side_panel(page)


def close_side_panel(page):
    page.evaluate("() => app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', false)")


def test_every_input_says_what_it_is_when_the_mouse_rests_on_it(comfy_page, page_server):
    """In both canvases the page shows the tooltip that it holds for a slot or a widget."""
    comfy_page.load(workflow("Remove an object, no model"), "tooltips")
    missing = comfy_page.evaluate(
        """() => Object.values(LiteGraph.registered_node_types).filter(({nodeData}) => nodeData?.name?.startsWith("Unclutter"))
            .flatMap(({nodeData}) => [...Object.values(nodeData.inputs), ...nodeData.outputs]
                .filter((slot) => !slot.tooltip).map((slot) => `${nodeData.name} ${slot.name}`))"""
    )
    assert missing == []


def test_the_app_takes_a_picture_and_shows_the_result(comfy_page, screenshot):
    comfy_page.open_template("Remove an object, no model.app")
    assert comfy_page.evaluate("() => app.rootGraph.extra.linearMode")
    with comfy_page.page.expect_response(lambda answer: answer.url.endswith("/prompt")) as answer:
        comfy_page.page.get_by_test_id("linear-run-button").get_by_role("button").filter(has_text="Run").click()
    comfy_page.server.wait(answer.value.json()["prompt_id"])
    comfy_page.page.get_by_test_id("linear-image-output").first.wait_for()
    comfy_page.settle()
    screenshot(comfy_page, "app, run")
    comfy_page.reload()

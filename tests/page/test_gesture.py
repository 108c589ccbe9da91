"""Remove object… in the context menu: paint, save, and Remove Object stands wired beside the picture."""

from __future__ import annotations

import pytest

BOTH = pytest.mark.parametrize("nodes_2", [False, True], ids=["classic", "nodes2"])
STROKE = ((0.3, 0.4), (0.6, 0.4))

ADD = """([type, x, values]) => {
    const node = LiteGraph.createNode(type)
    const set = ([name, value]) => Object.assign(node.widgets.find((widget) => widget.name === name), {value})
    const widgets = Object.entries(values).map(set)
    for (const {options, value} of widgets) options.values = [...options.values, value]
    app.graph.add(node)
    node.pos = [x, 0]
    for (const widget of widgets) widget.callback?.(widget.value)
    return String(node.id)
}"""
LINKS = """() => app.graph.nodes.flatMap((node) => (node.inputs ?? []).filter(({link}) => link != null).map((input) => {
    const link = app.graph.getLink(input.link)
    const origin = app.graph.getNodeById(link.origin_id)
    return [origin.type, origin.outputs[link.origin_slot].type, node.type, input.name]
})).sort()"""


@pytest.fixture
def empty_page(comfy_page):
    def opened(nodes_2):
        comfy_page.use_nodes_2(nodes_2)
        comfy_page.load({"version": 0.4, "nodes": [], "links": [], "groups": []}, "gesture")
        comfy_page.evaluate("() => { app.canvas.ds.scale = 0.6; app.canvas.ds.offset = [700, 300] }")
        return comfy_page

    return opened


def add(page, kind, x=0, **values):
    added = page.evaluate(ADD, [kind, x, values])
    page.settle()
    return added


def choose_remove_object(page, node):
    page.wait_for("(id) => app.graph.getNodeById(id).imgs?.length", node)
    page.open_menu(node)
    page.choose("Remove object…")


def undo(page):
    page.page.keyboard.press("Control+z")
    page.settle()


@BOTH
def test_on_a_loaded_picture(empty_page, screenshot, nodes_2):
    page = empty_page(nodes_2)
    picture = add(page, "LoadImage", image="unclutter_coffee.png [temp]")
    add(page, "CheckpointLoaderSimple", -400)
    page.evaluate("() => app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState()")
    choose_remove_object(page, picture)
    page.paint_mask(STROKE)
    page.wait_for("() => app.graph.nodes.some(({type}) => type === 'PreviewImage')")
    screenshot(page, f"Remove object…, placed ({'Nodes 2.0' if nodes_2 else 'classic'})")
    assert page.evaluate(LINKS) == [
        ["CheckpointLoaderSimple", "CLIP", "UnclutterRemoveObject", "clip"],
        ["CheckpointLoaderSimple", "MODEL", "UnclutterRemoveObject", "model"],
        ["CheckpointLoaderSimple", "VAE", "UnclutterRemoveObject", "vae"],
        ["LoadImage", "IMAGE", "UnclutterRemoveObject", "image"],
        ["LoadImage", "MASK", "UnclutterRemoveObject", "mask"],
        ["UnclutterRemoveObject", "IMAGE", "PreviewImage", "images"],
    ]
    undo(page)
    assert sorted(node["type"] for node in page.nodes()) == ["CheckpointLoaderSimple", "LoadImage"]
    assert page.prompt()[picture]["inputs"]["image"] == "unclutter_coffee.png [temp]"
    assert not [node for node in page.nodes() if node["red"]]


def test_on_a_picture_that_a_graph_made_and_without_a_checkpoint_it_runs_at_once(empty_page, screenshot):
    page = empty_page(False)
    photo = add(page, "LoadImage", -400, image="unclutter_coffee.png [temp]")
    shown = add(page, "PreviewImage", 400)
    page.evaluate(
        "([from, to]) => app.graph.getNodeById(from).connect(0, app.graph.getNodeById(to), 0)", [photo, shown]
    )
    page.run()
    choose_remove_object(page, shown)
    page.paint_mask(STROKE)
    page.wait_for("() => app.graph.nodes.filter(({type}) => type === 'PreviewImage').length === 2")
    assert not [node for node in page.nodes() if node["red"]]
    undo(page)
    assert sorted(node["type"] for node in page.nodes()) == ["LoadImage", "PreviewImage"]
    page.page.keyboard.press("Control+y")
    page.settle()
    (new,) = {node["id"] for node in page.nodes() if node["type"] == "PreviewImage"} - {shown}
    assert page.run()[new]["images"]
    assert not [node for node in page.nodes() if node["red"]], (
        "the painted picture is there, and nothing says otherwise"
    )
    screenshot(page, "Remove object…, run")


def test_a_closed_mask_editor_leaves_the_graph_as_it_was(empty_page):
    page = empty_page(False)
    photo = add(page, "LoadImage", -400, image="unclutter_coffee.png [temp]")
    shown = add(page, "PreviewImage", 400)
    page.evaluate(
        "([from, to]) => app.graph.getNodeById(from).connect(0, app.graph.getNodeById(to), 0)", [photo, shown]
    )
    page.run()
    before = page.prompt()
    choose_remove_object(page, shown)
    page.page.get_by_test_id("mask-editor-root").wait_for()
    page.page.locator(".mask-editor-dialog button").filter(has_text="Cancel").click()
    page.wait_for("() => app.graph.nodes.length === 2")
    assert page.prompt() == before


def test_a_node_without_a_picture_does_not_offer_it(empty_page):
    page = empty_page(False)
    page.open_menu(add(page, "CheckpointLoaderSimple"))
    page.page.get_by_text("Clone").wait_for()
    assert not page.page.get_by_text("Remove object…").count()
    page.page.keyboard.press("Escape")

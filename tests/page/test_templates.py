"""The shipped workflows in ComfyUI's page: each opens readable and whole, runs by a click, and is its API file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unclutter.training.comfyui_server import PACK

FOLDER = PACK / "workflows"
EARLIER = Path(__file__).parent / "earlier"
TO_BE_TRAINED = {f"unclutter-{recipe}.safetensors" for recipe in ("eradiff", "lrnr", "mild")}
NAMES = sorted((path.stem for path in FOLDER.glob("*.json") if ".app" not in path.stem), key=str.casefold)
RUNNABLE = [name for name in NAMES if name.startswith("Toy") or name.endswith("no model")]
"""Templates that run on files that come with the pack."""
LEGIBLE = 8 / 14
"""The zoom at which a title's font of 14 has 8 pixels; at a smaller one the classic canvas draws no text."""


def workflow(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def overlap(one, other):
    """Whether two rectangles (x, y, width, height) share more than an edge."""
    return all(one[k] < other[k] + other[k + 2] - 1 and other[k] < one[k] + one[k + 2] - 1 for k in (0, 1))


def holds(outer, inner):
    return all(outer[k] <= inner[k] and inner[k] + inner[k + 2] <= outer[k] + outer[k + 2] for k in (0, 1))


def test_the_template_browser_shows_every_card_and_opens_one(comfy_page, screenshot):
    comfy_page.use_nodes_2(False)
    comfy_page.open_templates()
    cards = comfy_page.cards()
    while cards.count() < len(list(FOLDER.glob("*.json"))):
        comfy_page.show_more_cards()
    assert sorted(cards.evaluate_all("(cards) => cards.map(({dataset}) => dataset.testid)")) == sorted(
        f"template-workflow-{path.stem}" for path in FOLDER.glob("*.json")
    )
    screenshot(comfy_page, "template browser")
    comfy_page.open_template(NAMES[0])
    assert comfy_page.prompt() == json.loads((FOLDER / "api" / f"{NAMES[0]}.json").read_text())


def widgets_of(graph, key):
    return {value for value in graph[key]["inputs"].values() if isinstance(value, str)}


@pytest.mark.parametrize("name", NAMES)
def test_a_template_opens_whole_readable_and_as_its_api_file(comfy_page, screenshot, name):
    comfy_page.use_nodes_2(False)
    comfy_page.load(workflow(name), name)
    graph = comfy_page.prompt()
    assert graph == json.loads((FOLDER / "api" / f"{name}.json").read_text())
    screenshot(comfy_page, f"{name} (classic)")
    is_whole_and_readable(comfy_page)
    absent = {node["id"] for node in comfy_page.nodes() if node["red"]}
    files = {model["name"] for node in workflow(name)["nodes"] for model in node["properties"].get("models", ())}
    for key in absent:
        assert widgets_of(graph, key) & (files | TO_BE_TRAINED), f"{graph[key]} is red, and no file of it is missing"
    if name in RUNNABLE:
        assert not absent
    else:
        answer = comfy_page.queue()
        errors = answer["node_errors"]
        refused = {(error["type"], key) for key, node in errors.items() for error in node["errors"]}
        assert refused and {kind for kind, _ in refused} == {"value_not_in_list"}
        assert all(widgets_of(graph, key) & (files | TO_BE_TRAINED) for _, key in refused)
        if "prompt_id" in answer:  # the part that needs none of them runs, and its pictures make nodes taller
            comfy_page.server.wait(answer["prompt_id"])
            comfy_page.settle()
            is_whole_and_readable(comfy_page)


@pytest.mark.parametrize("name", NAMES)
def test_a_template_opens_whole_and_readable_in_nodes_2(comfy_page, screenshot, name):
    comfy_page.use_nodes_2(True)
    comfy_page.load(workflow(name), name)
    screenshot(comfy_page, f"{name} (Nodes 2.0)")
    is_whole_and_readable(comfy_page)


def is_whole_and_readable(page):
    nodes = page.nodes()
    groups = page.evaluate("() => app.graph.groups.map((group) => [...group.boundingRect])")
    for index, node in enumerate(nodes):
        assert not [other["title"] for other in nodes[:index] if overlap(node["rectangle"], other["rectangle"])]
        assert node["type"] == "MarkdownNote" or sum(holds(group, node["rectangle"]) for group in groups) == 1, node
        assert not node["deprecated"], node
    assert page.scale() >= LEGIBLE and not page.evaluate("() => app.canvas.low_quality")


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_template_that_needs_nothing_runs_by_a_click(comfy_page, screenshot, name):
    """From folders that hold nothing: the picture appears on the node, and nothing overlaps then either."""
    comfy_page.use_nodes_2(False)
    comfy_page.load(workflow(name), name)
    outputs = comfy_page.run()
    saved = [node["id"] for node in comfy_page.nodes() if node["type"] == "SaveImage"]
    assert saved and all(outputs[key]["images"] for key in saved)
    comfy_page.wait_for(
        "(ids) => ids.every((id) => app.graph.getNodeById(id).imgs?.every((picture) => picture.naturalWidth >= 512))",
        saved,
    )
    screenshot(comfy_page, f"{name} (run)")
    is_whole_and_readable(comfy_page)


@pytest.mark.parametrize("name", sorted(path.stem for path in EARLIER.glob("*.json")))
def test_a_graph_saved_with_an_earlier_version_still_opens(comfy_page, page_server, name):
    """No node of it is missing, every value is kept, and every link."""
    saved = json.loads((EARLIER / f"{name}.json").read_text())
    comfy_page.use_nodes_2(False)
    comfy_page.load(saved, name)
    graph, schema = comfy_page.prompt(), page_server.object_info()
    for node in saved["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        inputs = graph[str(node["id"])]["inputs"]
        assert set(schema[node["type"]]["input"].get("required", {})) <= set(inputs)
        kept = [value for value in inputs.values() if not isinstance(value, list)]
        saved_values = [value for value in node["widgets_values"] if value in kept]
        assert kept[: len(saved_values)] == saved_values, f"{node}: inputs that came later stand behind"
    links = sum(isinstance(value, list) for node in graph.values() for value in node["inputs"].values())
    assert links == len(saved["links"])

"""Makes workflows/: lays the graphs of `templates.py` out in ComfyUI's own page, and saves what the page makes of them.

    python -m unclutter.tools.make_workflows [NAME ...]      or: make workflows

Needs a ComfyUI (COMFYUI_PATH) and a Chromium. The page measures the nodes as they are after a run, so that none overlaps
another, and converts the graph to API format, so that both files are the same graph.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

from unclutter.tools.comfy_page import Browser, ComfyPage, comfyui_path, write_settings
from unclutter.tools.templates import APPS, MODELS, TEMPLATES, Template
from unclutter.training.comfyui_server import PACK, ComfyServer

FOLDER = PACK / "workflows"
WIDTH, GAP, TITLE, MARGIN = 300, 36, 30, 14
COLORS = ("#3f789e", "#8aa88a", "#b58b2a", "#a16b9b", "#b06634", "#8888aa")
NOTE_WIDTH = 3 * WIDTH + 2 * GAP

BUILD = """async ([template, names]) => {
    await app.loadGraphData({version: 0.4, last_node_id: 0, last_link_id: 0, nodes: [], links: [], groups: [], extra: {}})
    const made = {}, isLink = (value) => typeof value === "string" && value.startsWith("@")
    for (const column of template.columns) for (const {key, type, title, inputs} of column.nodes) {
        const node = LiteGraph.createNode(type)
        if (!node) throw Error(`This ComfyUI has no node ${type}`)
        app.graph.add(node)
        node.title = title
        made[key] = node
        for (const [name, given] of Object.entries(inputs)) {
            if (isLink(given)) continue
            const value = isLink(given?.[0]) ? given[1] : given
            const widget = node.widgets?.find((widget) => widget.name === name)
            if (!widget) throw Error(`${title} has no widget ${name}: ${node.widgets?.map(({name}) => name)}`)
            widget.value = value
            widget.callback?.(value, app.canvas, node)
        }
    }
    for (const column of template.columns) for (const {key, title, inputs} of column.nodes)
        for (const [name, given] of Object.entries(inputs)) {
            const value = isLink(given) ? given : given?.[0]
            if (!isLink(value)) continue
            const [source, output] = value.slice(1).split(".")
            const from = made[source]?.outputs.findIndex((slot) => slot.name.toLowerCase() === output.toLowerCase()) ?? -1
            const to = made[key].inputs.findIndex((slot) => slot.name === name)
            if (from < 0) throw Error(`${title}: nothing gives ${value}: ${made[source]?.outputs.map(({name}) => name)}`)
            if (to < 0) throw Error(`${title} has no input ${name}: ${made[key].inputs.map(({name}) => name)}`)
            made[source].connect(from, made[key], to)
        }
    return Object.fromEntries(Object.entries(made).map(([key, node]) => [key, [node.id, ...node.computeSize()]]))
}"""
RUN = """async ([picture, samplers, speakers]) => {
    for (const node of app.graph.nodes) {
        const id = String(node.id)
        if (samplers.includes(node.type) || (node.constructor.nodeData?.output_node && node.type !== "CreateBoundingBoxes"))
            app.api.dispatchCustomEvent("executed", {node: id, display_node: id, output: {images: [picture]}, prompt_id: ""})
        if (speakers.includes(node.type))
            app.api.dispatchCustomEvent("progress_text", {nodeId: id, text: "Remove Object says its method. ".repeat(4)})
    }
    app.canvas.setDirty(true, true)
}"""
"""Gives each node of the open graph what a run gives it, because nodes grow then: a picture, a preview, a text."""
PICTURE = {"filename": "unclutter_rocket.png", "subfolder": "", "type": "temp"}
SAMPLERS = (
    "KSampler",
    "SamplerCustomAdvanced",
    "UnclutterLayeredSampler",
    "UnclutterOneStepErase",
)
"""Nodes that show a live preview above other nodes of their column; Remove Object stands alone in its own."""
SPEAKERS = ("UnclutterRemoveObject", "GetImageSize")


def build(page: ComfyPage, name: str, template: Template) -> None:
    """Writes workflows/NAME.json and workflows/api/NAME.json."""
    columns = [
        {"title": title, "nodes": [dataclasses.asdict(node) for node in nodes]}
        for title, nodes in template.columns.items()
    ]
    page.use_nodes_2(False)
    made = page.evaluate(BUILD, [{"columns": columns}, name])
    workflow = page.evaluate("() => app.graph.serialize()")
    heights = {key: int(height) for key, (_, _, height) in made.items()}
    identities = {key: int(identity) for key, (identity, _, _) in made.items()}
    for node in (node for column in template.columns.values() for node in column):
        heights[node.key] += node.height
    rooms, note = heights, 100
    lay_out(workflow, template, identities, heights, rooms, note)
    for nodes_2 in (True, False):  # Nodes 2.0 and the classic canvas draw the same nodes at different heights: both fit
        opened, run = heights_of_nodes(page, workflow, name, nodes_2)
        note = max(note, opened[workflow["nodes"].pop()["id"]])
        heights = {key: max(height, opened[identities[key]]) for key, height in heights.items()}
        rooms = {key: max(room, heights[key], run[identities[key]]) for key, room in rooms.items()}
        lay_out(workflow, template, identities, heights, rooms, note)
    tidy(workflow)
    page.load(workflow, name)
    (FOLDER / f"{name}.json").write_text(json.dumps(workflow, indent=1) + "\n")
    if name in APPS:
        workflow["extra"]["linearMode"] = True
        (FOLDER / f"{name}.app.json").write_text(json.dumps(workflow, indent=1) + "\n")
    (FOLDER / "api" / f"{name}.json").write_text(json.dumps(page.prompt(), indent=1) + "\n")


def heights_of_nodes(
    page: ComfyPage, workflow: dict[str, Any], name: str, nodes_2: bool
) -> tuple[dict[int, int], dict[int, int]]:
    """How tall each node is drawn, without its title, when the graph is opened and once it has run: {node id: pixels}."""

    def measured() -> dict[int, int]:
        page.page.wait_for_timeout(1000)  # pictures load, and each node is measured after it has been drawn
        return {int(node["id"]): math.ceil(node["rectangle"][3]) - TITLE for node in page.nodes()}

    page.use_nodes_2(nodes_2)
    page.reload()  # it remembers what nodes of an earlier graph showed
    page.load(workflow, name)
    opened = measured()
    page.evaluate(RUN, [PICTURE, SAMPLERS, SPEAKERS])
    return opened, measured()


def lay_out(
    workflow: dict[str, Any],
    template: Template,
    identities: dict[str, int],
    heights: dict[str, int],
    rooms: dict[str, int],
    note: int,
) -> None:
    """Stacks the nodes of each column, with room for what each shows after a run, frames each column as a group, and adds
    the note above the first three."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    left, head, groups = 0, TITLE + 2 * MARGIN + 30, []
    for index, (title, column) in enumerate(template.columns.items()):
        top = 0
        for node in column:
            nodes[identities[node.key]] |= {"pos": [left, top], "size": [WIDTH, heights[node.key]]}
            top += rooms[node.key] + TITLE + MARGIN
        bounds = [left - MARGIN, -head, WIDTH + 2 * MARGIN, head + top - TITLE]
        color = COLORS[index % len(COLORS)]
        groups.append(
            {"id": index + 1, "title": title, "bounding": bounds, "color": color, "font_size": 24, "flags": {}}
        )
        left += WIDTH + GAP
    workflow["groups"] = groups
    identity = max(nodes) + 1
    workflow["last_node_id"] = identity
    text = {"widgets_values": [template.note], "color": "#432", "bgcolor": "#653"}
    place = {"pos": [-MARGIN, -head - MARGIN - note], "size": [NOTE_WIDTH, note]}
    flat = {"flags": {}, "order": 0, "mode": 0, "inputs": [], "outputs": [], "properties": {}}
    workflow["nodes"].append({"id": identity, "type": "MarkdownNote", "title": "Read me", **place, **flat, **text})
    if template.app:
        inputs, outputs = template.app
        shown = [[identities[key], widget] for key, widget, _ in inputs]
        for key, widget, label in inputs:
            (slot,) = [
                slot for slot in nodes[identities[key]]["inputs"] if slot.get("widget", {}).get("name") == widget
            ]
            slot["label"] = label
        workflow["extra"] = {"linearData": {"inputs": shown, "outputs": [identities[key] for key in outputs]}}


def tidy(workflow: dict[str, Any]) -> None:
    """Drops what depends on this machine or its language, and adds where each file that a node names can be had."""
    workflow["extra"] = {key: value for key, value in workflow["extra"].items() if key.startswith("linear")}
    for key in ("id", "revision", "config"):
        workflow.pop(key, None)
    for node in workflow["nodes"]:
        for slot in (*node.get("inputs", []), *node.get("outputs", [])):
            slot.pop("localized_name", None)
        owner = "unclutter" if node["type"].startswith("Unclutter") else "comfy-core"
        node["properties"] = {"Node name for S&R": node["type"], "cnr_id": owner}
        wanted = [value for value in node.get("widgets_values", []) if isinstance(value, str) and value in MODELS]
        if wanted:
            node["properties"]["models"] = [
                {"name": name, "directory": MODELS[name][0], "url": MODELS[name][1]} for name in wanted
            ]


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_settings(Path(folder))
        with ComfyServer(comfyui_path(), Path(folder)) as server, Browser() as browser:
            page = browser.open(server)
            for name in names or TEMPLATES:
                build(page, name, TEMPLATES[name])
                print(name)


if __name__ == "__main__":
    main(sys.argv[1:])

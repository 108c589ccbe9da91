"""The pack as a real ComfyUI publishes it: every node is there, explained, and keeps its schema for ever.

Saved workflows hold node ids, input names, widget values by position and outputs by index. `schema.json` is what has
been published so far. After adding a node, an input, an output or a choice of a drop-down at the END of a list, run

    pytest tests/nodes/test_loading.py --append-schema

and commit the file. It only ever appends; nothing that is in the file may change.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMA = Path(__file__).with_name("schema.json")
NOT_OURS = ("file", "sampler_name", "scheduler", "eraser", "lora", "removal_prompt")


@pytest.fixture(scope="module")
def published(comfy_server) -> dict[str, dict[str, Any]]:
    """node id -> /object_info of this pack's nodes."""
    return {name: info for name, info in comfy_server.object_info().items() if name.startswith("Unclutter")}


def inputs_of(info: dict[str, Any]) -> dict[str, list]:
    """input name -> [type, options], in the order in which workflows store their values; the widgets that come with an
    option of a dynamic drop-down by the name they have in API files, `method.lora`."""
    inputs = {}
    for name, spec in [*info["input"].get("required", {}).items(), *info["input"].get("optional", {}).items()]:
        inputs[name] = spec
        if spec[0] == "COMFY_DYNAMICCOMBO_V3":
            for option in spec[1]["options"]:
                inputs |= {f"{name}.{key}": own for key, own in inputs_of({"input": option["inputs"]}).items()}
    return inputs


def schema_of(info: dict[str, Any]) -> dict[str, Any]:
    """The part of /object_info that saved workflows depend on."""
    inputs = {}
    for name, (kind, options) in inputs_of(info).items():
        inputs[name] = {"type": kind, "optional": "." in name or name in info["input"].get("optional", {})}
        if kind == "COMFY_DYNAMICCOMBO_V3":
            inputs[name]["options"] = [option["key"] for option in options["options"]]
        # Which files there are is the user's, and which samplers ComfyUI's.
        elif kind == "COMBO" and name.rpartition(".")[2] not in NOT_OURS:
            inputs[name]["options"] = options["options"]
    return {
        "inputs": inputs,
        "outputs": [list(output) for output in zip(info["output_name"], info["output"], strict=True)],
    }


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Faults of a node against its published form; additions at the end are none."""
    wrong = []
    if list(new["inputs"])[: len(old["inputs"])] != list(old["inputs"]):
        wrong.append(f"inputs were {list(old['inputs'])} and are {list(new['inputs'])}")
    else:
        for name, before in old["inputs"].items():
            now = new["inputs"][name]
            if now["type"] != before["type"] or now["optional"] < before["optional"]:
                wrong.append(f"input {name} was {before} and is {now}")
            if gone := set(before.get("options", [])) - set(now.get("options", [])):
                wrong.append(f"input {name} lost the choices {sorted(gone)}")
        added = list(new["inputs"])[len(old["inputs"]) :]
        wrong += [f"the new input {name} is not optional" for name in added if not new["inputs"][name]["optional"]]
    if new["outputs"][: len(old["outputs"])] != old["outputs"]:
        wrong.append(f"outputs were {old['outputs']} and are {new['outputs']}")
    return wrong


def test_every_node_is_registered(published, comfy) -> None:
    from unclutter.nodes import NODES

    assert set(published) == {node.GET_SCHEMA().node_id for node in NODES}


def test_published_schema_only_grows(published, request: pytest.FixtureRequest) -> None:
    stored = json.loads(SCHEMA.read_text()) if SCHEMA.exists() else {}
    current = {name: schema_of(info) for name, info in published.items()}
    assert [name for name in stored if name not in current] == [], "published nodes are gone"
    wrong = {name: changes(stored[name], current[name]) for name in stored}
    assert {name: change for name, change in wrong.items() if change} == {}, "saved workflows would break"
    if request.config.getoption("--append-schema"):
        stored |= current
        SCHEMA.write_text(json.dumps(stored, indent=1) + "\n")
    assert stored == current, "new in the schema: run pytest tests/nodes/test_loading.py --append-schema and commit"


def test_changes_are_seen() -> None:
    mask, grow = {"type": "MASK", "optional": False}, {"type": "INT", "optional": True}
    mode = {"type": "COMBO", "optional": False, "options": ["max", "nearest"]}
    old = {"inputs": {"mask": mask, "mode": mode}, "outputs": [["mask", "MASK"]]}

    def now(outputs=(("mask", "MASK"),), **inputs):
        return changes(old, {"inputs": inputs, "outputs": [list(output) for output in outputs]})

    assert now(mask=mask, mode=mode) == []
    assert now(mask=mask, mode={**mode, "options": ["max", "nearest", "area"]}, grow=grow) == []
    assert now(mask=mask, mode=mode, outputs=(("mask", "MASK"), ("preview", "IMAGE"))) == []
    assert now(masks=mask, mode=mode)
    assert now(mode=mode, mask=mask)
    assert now(mask=mask, grow=grow, mode=mode)
    assert now(mask={**mask, "type": "IMAGE"}, mode=mode)
    assert now(mask=mask, mode={**mode, "options": ["max"]})
    assert now(mask=mask, mode=mode, grow={**grow, "optional": False})
    assert now(mask=mask, mode=mode, outputs=(("preview", "IMAGE"), ("mask", "MASK")))


def test_every_input_and_output_has_a_tooltip(published) -> None:
    bare = []
    for name, info in published.items():
        bare += [f"{name}.{key}" for key, spec in inputs_of(info).items() if not spec[1].get("tooltip")]
        tooltips = info.get("output_tooltips") or [None] * len(info["output"])
        bare += [f"{name} output {key}" for key, tip in zip(info["output_name"], tooltips, strict=True) if not tip]
        bare += [] if info["description"] else [f"{name} description"]
    assert bare == []


def test_every_node_sits_in_the_packs_menu(published) -> None:
    assert {info["category"].split("/")[0] for info in published.values()} == {"Unclutter"}


def test_every_node_has_a_help_page_with_a_picture_that_names_its_inputs_and_outputs(published, comfy_server) -> None:
    missing = []
    for name, info in published.items():
        page = ROOT / "web" / "docs" / f"{name}.md"
        if not page.is_file():
            missing.append(page.name)
            continue
        text = page.read_text()
        keys = [key.rpartition(".")[2] for key in [*inputs_of(info), *info["output_name"]]]
        missing += [f"{page.name}: {key}" for key in keys if key not in text]
        # The panel is some 270 pixels wide and cuts tables off.
        missing += [f"{page.name}: a list in place of a table"] if re.search(r"^\|", text, re.MULTILINE) else []
        pictures = re.findall(r"!\[[^\]]*\]\(\./([^)]+)\)", text)
        missing += [] if pictures else [f"{page.name}: a picture"]
        missing += [f"{page.name}: {picture}" for picture in pictures if not (page.parent / picture).is_file()]
        assert comfy_server.get(f"/extensions/ComfyUI-Unclutter/docs/{page.name}").text == text
    assert missing == []


def test_every_help_picture_can_be_made_anew(published, comfy_server) -> None:
    from unclutter.tools.make_help_pictures import Graph, pages_of

    assert set(pages_of(Graph(comfy_server))) == set(published), "tools/make_help_pictures.py"

"""The templates as apps: each opens without its graph, names what an artist may change, and shows what it made."""

from __future__ import annotations

import json

import pytest

from unclutter.tests.page.test_templates import RUNNABLE
from unclutter.training.comfyui_server import PACK

RUN = {"Remove an object, no model", "Toy model, remove people"}
"""The graphs of the others are run as templates."""
APPS = sorted(path.stem.removesuffix(".app") for path in (PACK / "workflows").glob("*.app.json"))


@pytest.fixture(scope="module", autouse=True)
def graph_again(opened_page):
    yield
    opened_page.reload()


@pytest.mark.parametrize("name", APPS)
def test_an_app_opens_with_its_inputs_and_runs(comfy_page, screenshot, name):
    app = json.loads((PACK / "workflows" / f"{name}.app.json").read_text())
    comfy_page.load(app, name)
    panel = comfy_page.page.get_by_test_id("linear-widgets")
    panel.wait_for()
    slots = {(node["id"], slot["name"]): slot for node in app["nodes"] for slot in node["inputs"]}
    for node, widget in app["extra"]["linearData"]["inputs"]:
        panel.get_by_text(slots[node, widget]["label"], exact=True).first.wait_for()
    start = comfy_page.page.get_by_test_id("linear-run-button").get_by_role("button").filter(has_text="Run")
    if name not in RUNNABLE:  # its model is not there, and the app says so
        comfy_page.page.get_by_test_id("linear-validation-warning").wait_for()
        screenshot(comfy_page, f"{name} (app)")
        return
    start.wait_for()
    if name not in RUN:
        screenshot(comfy_page, f"{name} (app)")
        return
    with comfy_page.page.expect_response(lambda answer: answer.url.endswith("/prompt")) as answer:
        start.click()
    outputs = comfy_page.server.wait(answer.value.json()["prompt_id"])
    (result,) = app["extra"]["linearData"]["outputs"]
    (made,) = outputs[str(result)]["images"]
    comfy_page.page.get_by_text(made["filename"]).first.wait_for()
    shown = (
        "(name) => [...document.images].some((picture) => picture.src.includes(name) && picture.naturalWidth >= 512)"
    )
    comfy_page.wait_for(shown, made["filename"])
    screenshot(comfy_page, f"{name} (app, run)")

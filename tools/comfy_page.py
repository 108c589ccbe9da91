"""ComfyUI's own page in a real Chromium, for the tests of the page and for the scripts that make the workflows.

`chromium_path` finds the browser, `Browser` starts it, `ComfyPage` is one open page. Playwright drives the browser; the
page is the frontend package that the server brings, and nothing in it is replaced.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Locator, Page, sync_playwright

from unclutter.training.comfyui_server import PACK_FOLDER, ComfyServer

WIDTH, HEIGHT = 1600, 900
READY = """() => window.app?.graph && window.app.extensionManager && window.app.canvas
    && document.querySelector("#graph-canvas") && !document.querySelector("#splash-loader")"""
SEEN = {"Comfy.TutorialCompleted": True, "Comfy.OnboardingCoachmarks.Seen": ["appMode"]}
OPEN = ".litecontextmenu, .p-contextmenu, [data-testid=dialog-overlay], [data-testid=mask-editor-root]"
EMPTY_MASK = """() => {
    const mask = document.querySelectorAll("#maskEditorCanvasContainer canvas")[2]
    const {data} = mask.getContext("2d").getImageData(0, 0, mask.width, mask.height)
    return data.every((value, index) => index % 4 < 3 || !value)
}"""
MORE_CARDS = "(shown) => document.querySelectorAll('[data-testid^=template-workflow-]').length > shown"
SETTLED = """async () => {
    for (let still = 0, before = "", frames = 0; still < 3 && frames < 300; frames++) {
        await new Promise(requestAnimationFrame)
        const now = JSON.stringify(app.graph.nodes.map(({boundingRect}) => [...boundingRect]))
        still = now === before ? still + 1 : 0
        before = now
    }
}"""
NODES = """() => window.app.graph.nodes.map((node) => ({
    id: String(node.id), type: node.type, title: node.title, rectangle: [...node.boundingRect],
    red: Boolean(node.has_errors), mode: node.mode, pictures: (node.imgs ?? []).map((picture) => picture.naturalWidth),
    deprecated: Boolean(node.constructor.nodeData?.deprecated),
}))"""


def chromium_path() -> str | None:
    """The path of an installed Chromium or Chrome: CHROMIUM_PATH if that is set, or the first one on PATH, or None."""
    if named := os.environ.get("CHROMIUM_PATH"):
        return named
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


def comfyui_path() -> Path:
    """The folder of ComfyUI: COMFYUI_PATH, or comfy-cli's default ~/comfy/ComfyUI."""
    return Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI").expanduser()


def write_settings(base_directory: Path, **settings: Any) -> None:
    """Writes the settings of a ComfyUI that has not started yet, as the page would: its tours have been seen."""
    folder = base_directory / "user" / "default"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comfy.settings.json").write_text(json.dumps({**SEEN, **settings}))


class Browser:
    """A headless Chromium with an empty profile; `open` gives a page of ComfyUI. Close it, or use it in a `with`."""

    def __init__(self) -> None:
        path = chromium_path()
        if path is None:
            raise FileNotFoundError(
                "There is no Chromium: install one (Debian: apt-get install chromium), or set CHROMIUM_PATH to yours."
            )
        self.playwright = sync_playwright().start()
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        self.chromium = self.playwright.chromium.launch(executable_path=path, args=flags)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.chromium.close()
        self.playwright.stop()

    def open(self, server: ComfyServer) -> ComfyPage:
        """A new tab at 1600×900 with the server's page loaded and ready."""
        context = self.chromium.new_context(viewport={"width": WIDTH, "height": HEIGHT})
        return ComfyPage(context.new_page(), server)


class ComfyPage:
    """One open page of ComfyUI.

    Attributes:
        page: Playwright's page, for clicks and keys.
        errors: what went wrong in scripts since the page was opened: uncaught errors, and console errors of this pack.
    """

    def __init__(self, page: Page, server: ComfyServer) -> None:
        self.page, self.server = page, server
        self.errors: list[str] = []
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._note_console)
        self.reload()

    def reload(self) -> None:
        self.page.goto(f"http://{self.server.address}/")
        self.page.wait_for_function(READY)

    def close_what_is_open(self) -> None:
        """Loads the page anew if a dialog or a menu is open in it, as a test that failed leaves it."""
        if self.page.locator(OPEN).count():
            self.reload()

    def _note_console(self, message: ConsoleMessage) -> None:
        source = message.location.get("url", "")
        if source.endswith("/en.md"):
            return  # the page asks for a translated help page first, and then for the one that is there
        if message.type == "error" and PACK_FOLDER in f"{source} {message.text}":
            self.errors.append(f"{message.text} ({source})")

    def evaluate(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def use_nodes_2(self, on: bool) -> None:
        """Switches between Nodes 2.0 and the classic canvas, by the page's own setting."""
        self.evaluate("(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", on)
        self.settle()

    def load(self, workflow: dict[str, Any], name: str = "workflow") -> None:
        """Opens a workflow by the call that a click on its card makes, and waits until it is drawn."""
        script = "([flow, name]) => app.loadGraphData(flow, true, true, name, {openSource: 'template'})"
        self.evaluate(script, [workflow, name])
        self.settle()

    def open_templates(self) -> None:
        """Opens the template browser on the cards of this pack, if it is not open."""
        if not self.page.get_by_test_id("template-workflows-content").is_visible():
            self.page.get_by_role("button", name="Templates").first.click()
            self.page.get_by_text("Unclutter: remove objects").first.click()
        self.page.locator("[data-testid^='template-workflow-Remove an object']").first.wait_for()

    def cards(self) -> Locator:
        """The cards that the template browser shows so far."""
        return self.page.locator("[data-testid^=template-workflow-]")

    def show_more_cards(self) -> None:
        """Scrolls down in the template browser, which then shows more of its cards; an error after the last of them."""
        shown = self.cards().count()
        self.cards().last.scroll_into_view_if_needed()
        self.wait_for(MORE_CARDS, shown)

    def open_template(self, name: str) -> None:
        """Opens a template of this pack by clicks in the template browser."""
        self.open_templates()
        card = self.page.get_by_test_id(f"template-workflow-{name}")
        while not card.count():
            self.show_more_cards()
        card.click()
        self.page.get_by_test_id("template-workflows-content").wait_for(state="hidden")
        opened = "(name) => app.extensionManager.workflow.activeWorkflow?.filename === name"
        self.wait_for(opened, name.removesuffix(".app"))
        self.settle()

    def settle(self) -> None:
        """Waits for the pictures that nodes are loading, and then until no node grows or moves for three frames."""
        self.page.wait_for_load_state("networkidle")
        self.evaluate(SETTLED)

    def prompt(self) -> dict[str, Any]:
        """The graph in API format, converted by the page itself."""
        return self.evaluate("async () => (await app.graphToPrompt()).output")

    def nodes(self) -> list[dict[str, Any]]:
        """Id, type, title, rectangle (x, y, width, height, title bar included), and state of each node on screen."""
        return self.evaluate(NODES)

    def scale(self) -> float:
        """The zoom: how many pixels of the screen one of the graph has."""
        return self.evaluate("() => app.canvas.ds.scale")

    def queue(self) -> dict[str, Any]:
        """Clicks Run; the server's answer to the graph: its `prompt_id`, or an `error` and `node_errors`."""
        with self.page.expect_response(lambda answer: answer.url.endswith("/prompt")) as answer:
            self.page.get_by_test_id("queue-button").click()
        return answer.value.json()

    def run(self, timeout: float = 120) -> dict[str, Any]:
        """Clicks Run and waits for the end: {node id: its UI outputs}. A refused or failed graph is a RuntimeError."""
        answer = self.queue()
        if "prompt_id" not in answer or answer.get("node_errors"):
            raise RuntimeError(f"the server refused the graph: {json.dumps(answer)}")
        outputs = self.server.wait(answer["prompt_id"], timeout)
        self.settle()
        return outputs

    def wait_for(self, script: str, argument: Any = None, timeout: float = 60) -> None:
        """Waits until a JavaScript function returns something true."""
        self.page.wait_for_function(script, arg=argument, timeout=1000 * timeout)

    def screenshot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)

    def node_id(self, kind: str) -> str:
        """The id of the only node of a type."""
        (found,) = [node["id"] for node in self.nodes() if node["type"] == kind]
        return found

    def open_menu(self, node_id: str) -> None:
        """Right-clicks on the title of a node."""
        script = """(id) => {
            const {pos} = app.graph.getNodeById(id)
            app.canvas.ds.computeVisibleArea(app.canvas.viewport)
            return app.canvas.ds.convertOffsetToCanvas([pos[0] + 100, pos[1] - 15])
        }"""
        x, y = self.evaluate(script, node_id)
        left, top = self.evaluate(
            "() => { const box = app.canvasEl.getBoundingClientRect(); return [box.left, box.top] }"
        )
        self.page.mouse.click(left + x, top + y, button="right")

    def choose(self, text: str) -> None:
        """Clicks the entry of the open context menu that holds a text."""
        entries = self.page.locator(".litecontextmenu .litemenu-entry, .p-contextmenu [role=menuitem]")
        entries.filter(has_text=text).first.click()

    def search(self, words: str) -> list[str]:
        """Types into the search for nodes; the text of each result, the best first."""
        self.page.mouse.dblclick(800, 700)
        self.page.get_by_test_id("result-item").first.wait_for()
        self.page.keyboard.type(words)
        self.page.wait_for_timeout(1500)  # it searches while one types, and does not say when it has done so
        return self.page.get_by_test_id("result-item").all_inner_texts()

    def paint_mask(self, *strokes: tuple[tuple[float, float], tuple[float, float]], thickness: int = 40) -> None:
        """Paints with the mouse into the open mask editor, on a cleared mask, and saves.

        A stroke goes from one point to another, in fractions of the picture's width and height; `thickness` is the brush's.
        """
        editor = self.page.get_by_test_id("mask-editor-root")
        brush = editor.get_by_role("spinbutton").first
        brush.wait_for()
        self.page.locator(".mask-editor-dialog button").filter(has_text="Clear").click()
        self.wait_for(EMPTY_MASK)
        brush.fill(str(thickness))
        brush.press("Enter")
        box = self.page.locator("#maskEditorCanvasContainer canvas").first.bounding_box()
        assert box
        for stroke in strokes:
            (x0, y0), (x1, y1) = ((box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke)
            self.page.mouse.move(x0, y0)
            self.page.mouse.down()
            self.page.mouse.move(x1, y1, steps=12)
            self.page.mouse.up()
        self.page.locator(".mask-editor-dialog button").filter(has_text="Save").click()
        editor.wait_for(state="hidden")
        self.settle()

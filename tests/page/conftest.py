"""Fixtures of the tests in ComfyUI's page: one fresh server and one Chromium for all of them.

`page_server`  a ComfyUI whose folders hold nothing but the pack: no model, no picture copied by hand
`comfy_page`   its page in a browser tab, on the classic canvas
`screenshot`   keeps a picture of the page: screenshot(comfy_page, "name"), in --screenshots or a temporary folder
Without a Chromium or Playwright the tests are skipped; with CI set they fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from unclutter.training.comfyui_server import ComfyServer

if TYPE_CHECKING:
    from unclutter.tools.comfy_page import Browser, ComfyPage


@pytest.fixture(scope="session")
def page_server(
    comfyui_path: Path, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    from unclutter.tools.comfy_page import write_settings

    folder = tmp_path_factory.mktemp("page_server")
    write_settings(folder)
    with ComfyServer(comfyui_path, folder) as server:
        yield server


@pytest.fixture(scope="module")
def opened_page(browser: Browser, page_server: ComfyServer) -> Iterator[ComfyPage]:
    # A tab for each file of tests: what one of them ran leaves no previews on the nodes of the next.
    opened = browser.open(page_server)
    yield opened
    opened.page.context.close()


@pytest.fixture
def comfy_page(opened_page: ComfyPage) -> Iterator[ComfyPage]:
    opened_page.close_what_is_open()
    opened_page.errors.clear()
    yield opened_page
    assert not opened_page.errors, "errors in the page's console"


@pytest.fixture(scope="session")
def screenshot(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[ComfyPage, str], None]:
    chosen = pytestconfig.getoption("--screenshots")
    folder = Path(chosen).resolve() if chosen else tmp_path_factory.mktemp("screenshots")

    def keep(page: ComfyPage, name: str) -> None:
        page.screenshot(folder / f"{name}.png")

    return keep

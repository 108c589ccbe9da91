"""Fixtures for the tests that need a ComfyUI, and what happens where there is none.

`comfyui_path`  the folder of a ComfyUI this Python can run; without one the test is skipped (with CI set: it fails)
`comfy`         ComfyUI importable in this process, on the CPU: `import comfy.samplers` inside the test
`comfy_server`  a real server with this pack, one for the session
`browser`       a Chromium, one for the session, as Playwright runs once in a process; without one the test is skipped (with
                CI set: it fails)
Every test that uses one of them, itself or through a fixture, carries the mark `comfyui`: `pytest -m "not comfyui"`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from unclutter.training.comfyui_server import ComfyServer

if TYPE_CHECKING:
    from unclutter.tools.comfy_page import Browser

ENABLE = "run `pip install playwright` and install Chromium (Debian: apt-get install chromium; or set CHROMIUM_PATH)"
COMFYUI = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI").expanduser()
COMFYUI_FIXTURES = {"comfyui_path", "comfy", "comfy_server"}


def pytest_configure() -> None:
    torch.set_num_threads(1)  # the tests' tensors are tiny: threads only wait for each other


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--append-schema",
        action="store_true",
        help="append new nodes and inputs to tests/nodes/schema.json; entries that are there never change",
    )
    parser.addoption(
        "--full-size", action="store_true", help="run the graphs on networks of the real size, and only them"
    )
    parser.addoption(
        "--screenshots",
        metavar="FOLDER",
        default=os.environ.get("UNCLUTTER_SCREENSHOTS"),
        help="where the tests of ComfyUI's page keep their screenshots; default: UNCLUTTER_SCREENSHOTS, or a temporary folder",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # The files that take longest go first, so that two processes end together (`-n 2 --dist loadfile`).
    slow = ("page", "workflows", "training")
    items.sort(key=lambda item: next((rank for rank, tier in enumerate(slow) if tier in item.path.parts), len(slow)))
    full_size = config.getoption("--full-size")
    others = [item for item in items if bool(item.get_closest_marker("full_size")) != full_size]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]
    for item in items:
        if COMFYUI_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.comfyui)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "comfyui" in report.keywords]
    if skipped and (why := why_unavailable()):
        terminalreporter.write_sep("-")
        terminalreporter.write_line(f"{len(skipped)} ComfyUI tests were skipped: {why}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    server = getattr(item, "funcargs", {}).get("comfy_server")
    if server and report.failed:
        report.sections.append(("ComfyUI server log", server.log()[-8000:]))
    return report


def why_unavailable() -> str | None:
    """One sentence that says why no ComfyUI can be run and how to get one, or None when one can."""
    if not (COMFYUI / "main.py").is_file():
        return (
            f"there is no ComfyUI in {COMFYUI}; set COMFYUI_PATH to yours, or run `comfy --skip-prompt install --cpu` "
            f"and `pip install -r {COMFYUI / 'requirements.txt'}`."
        )
    requirements = (COMFYUI / "requirements.txt").read_text().split("#non essential")[0]
    missing = [name for name in re.findall(r"^[\w.-]+", requirements, re.MULTILINE) if not is_installed(name)]
    if missing:
        return (
            f"this Python lacks {', '.join(missing)}, which the ComfyUI in {COMFYUI} needs; "
            f"run `pip install -r {COMFYUI / 'requirements.txt'}`."
        )
    return None


def is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.fixture(scope="session")
def comfyui_path() -> Path:
    """The folder of ComfyUI: COMFYUI_PATH, or comfy-cli's default ~/comfy/ComfyUI."""
    if why := why_unavailable():
        if os.environ.get("CI"):
            pytest.fail(f"in CI the ComfyUI tests never skip, but {why}", pytrace=False)
        pytest.skip(why)
    return COMFYUI


@pytest.fixture(scope="session")
def comfy(comfyui_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Makes ComfyUI importable in this process, on the CPU, with its models, input and output in a temporary folder."""
    sys.path.insert(0, str(comfyui_path))
    from comfy.cli_args import args

    args.cpu = True
    args.base_directory = str(tmp_path_factory.mktemp("comfy"))


@pytest.fixture(scope="session")
def comfy_server(comfyui_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    with TestServer(comfyui_path, tmp_path_factory.mktemp("comfy_server")) as server:
        yield server


class TestServer(ComfyServer):
    __test__ = False

    def wait_for_step(self, prompt_id: str, step: int = 1, timeout: float = 120) -> None:
        """Waits until a queued graph's sampler has finished `step` steps (at least), for tests that cancel midway."""
        import websocket

        deadline = time.monotonic() + timeout
        events = websocket.create_connection(f"ws://{self.address}/ws?clientId={self.client_id}", timeout=timeout)
        try:
            while time.monotonic() < deadline:
                message = events.recv()
                if not isinstance(message, str):
                    continue
                event = json.loads(message)
                data = event["data"]
                if event["type"] == "progress" and data["prompt_id"] == prompt_id and data["value"] >= step:
                    return
        finally:
            events.close()
        raise RuntimeError(f"no sampler of graph {prompt_id} reached step {step} in {timeout} s")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        from unclutter.tools.comfy_page import Browser

        opened = Browser()
    except (ImportError, FileNotFoundError) as error:
        reason = f"the tests of pages need a browser ({error}): {ENABLE}"
        if os.environ.get("CI"):
            pytest.fail(f"in CI the tests of pages never skip, but {reason}", pytrace=False)
        pytest.skip(reason)
    with opened:
        yield opened

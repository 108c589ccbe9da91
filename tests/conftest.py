"""Fixtures for the tests that need a ComfyUI, and what happens where there is none.

`comfyui_path`  the folder of a ComfyUI this Python can run; without one the test is skipped (with CI set: it fails)
`comfy`         ComfyUI importable in this process, on the CPU: `import comfy.samplers` inside the test
`comfy_server`  a real server with this pack, one for the session
Every test that uses one of them, itself or through a fixture, carries the mark `comfyui`: `pytest -m "not comfyui"`.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

COMFYUI = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI").expanduser()
PACK = Path(__file__).resolve().parent.parent
PACK_FOLDER = "ComfyUI-Unclutter"
COMFYUI_FIXTURES = {"comfyui_path", "comfy", "comfy_server"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--append-schema",
        action="store_true",
        help="append new nodes and inputs to tests/nodes/schema.json; entries that are there never change",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
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
def comfy_server(comfyui_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    server = ComfyServer(comfyui_path, tmp_path_factory.mktemp("comfy_server"))
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


class ComfyServer:
    """A ComfyUI on the CPU whose only custom node pack is this one, and a small client for it.

    `base_directory` holds its models/, input/ and output/ folders. Errors are RuntimeErrors with the server's own text.
    """

    def __init__(self, comfyui_path: Path, base_directory: Path) -> None:
        import requests

        self.base_directory = base_directory
        (base_directory / "custom_nodes").mkdir()
        (base_directory / "custom_nodes" / PACK_FOLDER).symlink_to(PACK, target_is_directory=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.client_id = str(uuid.uuid4())
        self.session = requests.Session()
        self.log_file = base_directory / "server.log"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port)]
                + ["--base-directory", str(base_directory), "--database-url", "sqlite:///:memory:"]
                + ["--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK_FOLDER],
                cwd=comfyui_path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self) -> str:
        """What the server has printed so far."""
        return self.log_file.read_text(errors="replace")

    def wait_until_ready(self, timeout: float = 180) -> None:
        from requests import ConnectionError as NotListening

        deadline = time.monotonic() + timeout
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"ComfyUI did not start:\n{self.log()[-4000:]}")
            try:
                self.get("/system_stats")
                return
            except NotListening:
                time.sleep(0.2)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path: str, **parameters: str):
        """The response of GET `path`; any status but 200 is a RuntimeError."""
        response = self.session.get(f"http://{self.address}{path}", params=parameters, timeout=60)
        if response.status_code != 200:
            raise RuntimeError(f"GET {path} gave {response.status_code}: {response.text[:500]}")
        return response

    def object_info(self, node_id: str | None = None) -> dict[str, Any]:
        """What the server publishes of one node, or {node id: that} of all of them."""
        if node_id is None:
            return self.get("/object_info").json()
        return self.get(f"/object_info/{node_id}").json()[node_id]

    def post(self, prompt: dict[str, Any], timeout: float = 300) -> dict[str, Any]:
        """Runs a graph in API format and returns {node id: its UI outputs}, for example {"9": {"images": [...]}}.

        A graph that is refused, fails, or is cancelled raises a RuntimeError with the server's text.
        """
        return self.wait(self.submit(prompt), timeout)

    def submit(self, prompt: dict[str, Any]) -> str:
        """Queues a graph in API format and returns its prompt id at once."""
        body = {"prompt": prompt, "client_id": self.client_id}
        response = self.session.post(f"http://{self.address}/prompt", json=body, timeout=60)
        if response.status_code != 200:
            raise RuntimeError(f"the graph was refused: {response.text}")
        return response.json()["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 300) -> dict[str, Any]:
        """Waits for the end of a queued graph; see `post`."""
        deadline = time.monotonic() + timeout
        while prompt_id not in (history := self.get(f"/history/{prompt_id}").json()):
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI died:\n{self.log()[-4000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the graph took longer than {timeout} s")
            time.sleep(0.05)
        status = history[prompt_id]["status"]
        for event, details in status["messages"]:
            if event == "execution_error":
                raise RuntimeError(
                    f"{details['node_type']} (node {details['node_id']}) failed: {details['exception_message'].strip()}\n"
                    + "".join(details["traceback"])
                )
            if event == "execution_interrupted":
                raise RuntimeError(f"interrupted in {details['node_type']} (node {details['node_id']})")
        if status["status_str"] != "success":
            raise RuntimeError(f"the graph ended as {status}")
        return history[prompt_id]["outputs"]

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

    def cancel(self) -> None:
        """Interrupts what is running, as the cancel button does."""
        self.session.post(f"http://{self.address}/interrupt", json={}, timeout=60).raise_for_status()

    def upload(self, path: str | Path) -> str:
        """Puts a picture into the server's input folder; the name it returns is what LoadImage takes."""
        with open(path, "rb") as picture:
            answer = self.session.post(
                f"http://{self.address}/upload/image", files={"image": picture}, data={"overwrite": "true"}, timeout=60
            )
        answer.raise_for_status()
        return answer.json()["name"]

    def images(self, outputs: dict[str, Any], node_id: str | None = None):
        """The pictures of one node's output (by default of the only one that has any) as float [B, H, W, 3] in 0..1."""
        import numpy
        import torch
        from PIL import Image

        if node_id is None:
            (node_id,) = [name for name, output in outputs.items() if output.get("images")]
        pictures = []
        for entry in outputs[node_id]["images"]:
            content = self.get("/view", **entry).content
            pictures.append(numpy.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
        return torch.from_numpy(numpy.stack(pictures)).float() / 255

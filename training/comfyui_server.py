"""A ComfyUI server of our own, and a small client for its HTTP API."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import numpy
import requests
import torch
from PIL import Image
from torch import Tensor

PACK = Path(__file__).resolve().parent.parent
PACK_FOLDER = "ComfyUI-Unclutter"


class ComfyServer:
    """A ComfyUI on the CPU whose only custom node pack is this one, and a small client for it.

    `base_directory` holds its models/, input/ and output/ folders, `options` are more of ComfyUI's own command line.
    Errors are RuntimeErrors with the server's own text.
    """

    def __init__(self, comfyui_path: Path, base_directory: Path, options: tuple[str, ...] = ()) -> None:
        if not (comfyui_path / "main.py").is_file():
            raise FileNotFoundError(f"There is no ComfyUI in {comfyui_path}: give the folder that holds its main.py.")
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
                + ["--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK_FOLDER, *options],
                cwd=comfyui_path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> ComfyServer:
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def log(self) -> str:
        """The text that the server has printed so far."""
        return self.log_file.read_text(errors="replace")

    def wait_until_ready(self, timeout: float = 180) -> None:
        deadline = time.monotonic() + timeout
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"ComfyUI did not start:\n{self.log()[-4000:]}")
            try:
                self.get("/system_stats")
                return
            except requests.ConnectionError:
                time.sleep(0.2)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path: str, **parameters: str) -> requests.Response:
        """The response of GET `path`; any status but 200 is a RuntimeError."""
        response = self.session.get(f"http://{self.address}{path}", params=parameters, timeout=60)
        if response.status_code != 200:
            raise RuntimeError(f"GET {path} gave {response.status_code}: {response.text[:500]}")
        return response

    def object_info(self, node_id: str | None = None) -> dict[str, Any]:
        """The record that the server publishes of one node, or {node id: that} of all of them."""
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
        answer = response.json()
        if answer["node_errors"]:  # the outputs that have none are made all the same
            raise RuntimeError(f"a part of the graph was refused: {answer['node_errors']}")
        return answer["prompt_id"]

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

    def images(self, outputs: dict[str, Any], node_id: str | None = None) -> Tensor:
        """The pictures of one node's output (by default of the only one that has any) as float [B, H, W, 3] in 0..1."""
        if node_id is None:
            (node_id,) = [name for name, output in outputs.items() if output.get("images")]
        pictures = []
        for entry in outputs[node_id]["images"]:
            content = self.get("/view", **entry).content
            pictures.append(numpy.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
        return torch.from_numpy(numpy.stack(pictures)).float() / 255

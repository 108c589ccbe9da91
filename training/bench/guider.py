"""`unclutter bench guider`: MASG and SARG beside the guidance of ComfyUI itself."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

from tqdm import tqdm

from ..comfyui_server import PACK, ComfyServer
from ..evaluation.report import report
from .settings import GuiderBenchConfig
from .timing import machine


def bench_guider(config: GuiderBenchConfig) -> list[dict[str, float | str]]:
    """A MASG step against a CFGGuider step, and a SARG step against the two passes it needs, in a real ComfyUI."""
    with tempfile.TemporaryDirectory() as folder, ComfyServer(config.comfyui, Path(folder)) as server:
        for name in ("example_scene.png", "example_mask.png"):
            server.upload(PACK / "workflows" / name)
        guided = graph("masg_mini", config.size, {"11": {"steps": config.steps}, "10": {"schedule": "constant"}})
        cfg = {"model": ["3", 0], "positive": ["9", 0], "negative": ["9", 1], "cfg": 6.0}
        core = {**guided, "10": {"class_type": "CFGGuider", "inputs": cfg, "_meta": {"title": "CFG"}}}
        core = {key: node for key, node in core.items() if key != "12"}  # no plot to preview
        erased = graph("attentive_eraser_mini", config.size, {"15": {"steps": config.steps}})
        plain = graph("attentive_eraser_mini", config.size, {"15": {"steps": config.steps, "model": ["3", 0]}})
        seed = 0

        def run(nodes: dict) -> float:
            """Seconds of the sampler: the same graph with twice the steps takes that much longer."""
            nonlocal seed
            seed += 1
            times = []
            for factor in (1, 2):
                changed = json.loads(json.dumps(nodes))
                for node in changed.values():
                    if "steps" in node["inputs"]:
                        node["inputs"]["steps"] = factor * config.steps
                    for key in ("seed", "noise_seed"):
                        if key in node["inputs"]:
                            node["inputs"][key] = seed
                times.append(seconds(server, changed))
            return times[1] - times[0]

        run(core)
        rounds = [
            [run(nodes) for nodes in (core, guided, plain, erased)] for _ in tqdm(range(config.repeats), desc="rounds")
        ]
    rows: list[dict[str, float | str]] = [
        {"step": "MASG / CFGGuider", "ratio": statistics.median(masg / base for base, masg, _, _ in rounds)},
        {"step": "SARG / two plain passes", "ratio": statistics.median(sarg / (2 * one) for _, _, one, sarg in rounds)},
    ]
    report(
        f"{machine('cpu')}, mini model, {config.size}×{config.size} pixels, {config.steps} steps", rows, config.markdown
    )
    return rows


def graph(name: str, size: int, changes: dict[str, dict]) -> dict:
    """A shipped graph at `size`×`size` pixels, with inputs changed by node."""
    nodes = json.loads((PACK / "workflows" / "api" / f"{name}.json").read_text())
    for key, inputs in {"8": {"minimum": size, "maximum": size}, **changes}.items():
        nodes[key]["inputs"] |= inputs
    return nodes


def seconds(server: ComfyServer, nodes: dict) -> float:
    prompt = server.submit(nodes)
    server.wait(prompt)
    messages = dict(server.get(f"/history/{prompt}").json()[prompt]["status"]["messages"])
    return (messages["execution_success"]["timestamp"] - messages["execution_start"]["timestamp"]) / 1000

"""`unclutter bench`: what the methods cost, as ratios measured side by side in one run."""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from ...kernels.attention import AAS, SRA, aas, region_attention, region_attention_reference, sma
from ..comfyui_server import PACK, ComfyServer

SETTINGS = {"AAS": AAS, "AAS + SS": aas(0.3), "SRA": SRA, "SMA": sma(-0.5, 0.5)}
PLAIN_FORMULA_TOKENS = 4096
"""The plain formula holds N×N logits in fp32, 0.7 GB for ten heads at this size; beyond it is left out."""


def bench_attention(
    tokens: tuple[int, ...] = (1024, 4096, 16384),
    masked: tuple[float, ...] = (0.1, 0.3, 0.6),
    heads: int = 10,
    width: int = 64,
    dtype: str = "float32",
    repeats: int = 5,
    device: str | None = None,
    markdown: bool = False,
) -> list[dict[str, float | str]]:
    """Region attention against ordinary attention, ordinary attention with a dense mask, and the plain formula.

    Every number is the median of time / time of ordinary attention, taken in turn in one run; below 1 is faster.

    Args:
        tokens: sequence lengths N.
        masked: shares of object tokens.
        heads: attention heads.
        width: channels of a head.
        dtype: float32, float16 or bfloat16.
        repeats: rounds of measurements.
        device: "cpu", "cuda"; by default the GPU where there is one.
        markdown: print a Markdown table.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    rows: list[dict[str, float | str]] = []
    for count in tokens:
        for share in tqdm(masked, desc=f"N = {count}"):
            generator = torch.Generator().manual_seed(0)
            q, k, v = (
                torch.randn(1, heads, count, width, generator=generator).to(device, getattr(torch, dtype))
                for _ in range(3)
            )
            objects = torch.zeros(1, count, dtype=torch.bool, device=device)
            objects[:, : round(share * count)] = True
            rows.append(
                {"N": str(count), "masked": f"{share:.0%}", **ratios(candidates(q, k, v, objects), repeats, device)}
            )
    report(f"{machine(device)}, {dtype}, {heads} heads of {width}", rows, markdown)
    return rows


def bench_guider(
    comfyui: Path, steps: int = 8, size: int = 128, repeats: int = 5, markdown: bool = False
) -> list[dict[str, float | str]]:
    """A MASG step against a CFGGuider step, and a SARG step against the two passes it needs, in a real ComfyUI.

    On the mini model.

    Args:
        comfyui: a ComfyUI folder.
        steps: sampling steps of a run.
        size: side of the picture in pixels; the larger, the more the network weighs against what is around it.
        repeats: rounds of measurements.
        markdown: print a Markdown table.
    """
    with tempfile.TemporaryDirectory() as folder, ComfyServer(comfyui, Path(folder)) as server:
        for name in ("example_scene.png", "example_mask.png"):
            server.upload(PACK / "workflows" / name)
        guided = graph("masg_mini", size, {"11": {"steps": steps}, "10": {"schedule": "constant"}})
        cfg = {"model": ["3", 0], "positive": ["9", 0], "negative": ["9", 1], "cfg": 6.0}
        core = {**guided, "10": {"class_type": "CFGGuider", "inputs": cfg, "_meta": {"title": "CFG"}}}
        core = {key: node for key, node in core.items() if key != "12"}  # no plot to preview
        erased = graph("attentive_eraser_mini", size, {"15": {"steps": steps}})
        plain = graph("attentive_eraser_mini", size, {"15": {"steps": steps, "model": ["3", 0]}})
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
                        node["inputs"]["steps"] = factor * steps
                    for key in ("seed", "noise_seed"):
                        if key in node["inputs"]:
                            node["inputs"][key] = seed
                times.append(seconds(server, changed))
            return times[1] - times[0]

        run(core)
        rounds = [[run(nodes) for nodes in (core, guided, plain, erased)] for _ in tqdm(range(repeats), desc="rounds")]
    rows: list[dict[str, float | str]] = [
        {"step": "MASG / CFGGuider", "ratio": statistics.median(masg / base for base, masg, _, _ in rounds)},
        {"step": "SARG / two plain passes", "ratio": statistics.median(sarg / (2 * one) for _, _, one, sarg in rounds)},
    ]
    report(f"{machine('cpu')}, mini model, {size}×{size} pixels, {steps} steps", rows, markdown)
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


def candidates(q: Tensor, k: Tensor, v: Tensor, objects: Tensor) -> dict[str, Callable[[], Tensor]]:
    """The ways to compare; the first is what the others are measured against."""
    visible = ~objects[:, None, None, :].expand(-1, -1, q.shape[2], -1)
    ways: dict[str, Callable[[], Tensor]] = {"SDPA": lambda: F.scaled_dot_product_attention(q, k, v)}
    for name, settings in SETTINGS.items():
        ways[name] = lambda settings=settings: region_attention(q, k, v, objects, settings)
    ways["dense mask"] = lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
    if q.is_cuda:
        ways["FlexAttention"] = flex_attention(q, k, v, objects)
    if q.shape[2] <= PLAIN_FORMULA_TOKENS:
        ways["plain formula"] = lambda: region_attention_reference(q, k, v, objects, AAS)
    return ways


def flex_attention(q: Tensor, k: Tensor, v: Tensor, objects: Tensor) -> Callable[[], Tensor]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def sees(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return ~objects[b, key]

    block_mask = create_block_mask(sees, 1, None, q.shape[2], q.shape[2], device=str(q.device))
    compiled: Callable[..., Any] = torch.compile(flex_attention)
    return lambda: compiled(q, k, v, block_mask=block_mask)


def ratios(ways: dict[str, Callable[[], Tensor]], repeats: int, device: str) -> dict[str, float]:
    """Median of each way's time over the first way's, measured in turn."""

    def clock(way: Callable[[], Tensor]) -> float:
        start = time.perf_counter()
        way()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - start

    with torch.inference_mode():
        for way in ways.values():
            way()
        rounds = [[clock(way) for way in ways.values()] for _ in range(repeats)]
    return {name: statistics.median(row[i] / row[0] for row in rounds) for i, name in enumerate(ways)}


def machine(device: str) -> str:
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def report(title: str, rows: list[dict[str, float | str]], markdown: bool) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [
        [f"{row[n]:.2f}" if isinstance(row.get(n), float) else str(row.get(n, "–")) for n in names] for row in rows
    ]
    if markdown:
        print(f"{title}\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}")
        print("\n".join(f"| {' | '.join(row)} |" for row in cells))
        return
    table = Table(*names, title=title)
    for row in cells:
        table.add_row(*row)
    Console().print(table)

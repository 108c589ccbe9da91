"""How fast the pack is, as ratios measured side by side: every round runs each candidate once, in turn, and the
median over the rounds of its time relative to the baseline in the same round is what counts. A busy machine then
disturbs both sides alike."""

from __future__ import annotations

import functools
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..kernels.attention import AAS, SRA, aas, region_attention, region_attention_reference, sma
from .comfyui import PACK, ComfyServer

METHODS = {"AAS": AAS, "AAS+SS": aas(0.3), "SRA": SRA, "SMA": sma(-1.0, 0.5)}
DENSE, FLEX, FORMULA = "dense mask", "FlexAttention", "formula"
COLUMNS = [*METHODS, DENSE, FLEX, FORMULA]


@dataclass(frozen=True)
class AttentionTiming:
    """One size: milliseconds of plain SDPA, and by candidate the time relative to it and the memory it takes in MiB."""

    dtype: str
    tokens: int
    heads: int
    masked: float
    baseline: float
    ratios: dict[str, float]
    memory: dict[str, float]


def bench_attention(
    *,
    tokens: tuple[int, ...] = (1024, 4096, 16384),
    masked: tuple[float, ...] = (0.1, 0.3, 0.6),
    dtypes: tuple[Literal["float32", "float16", "bfloat16"], ...] | None = None,
    heads: int = 10,
    channels: int = 64,
    rounds: int = 5,
    formula_memory: float = 4.0,
    device: str | None = None,
    markdown: Path | None = None,
) -> list[AttentionTiming]:
    """Times region attention against plain SDPA, SDPA with a dense mask, FlexAttention (on a GPU) and the formula.

    Args:
        tokens: numbers of tokens N.
        masked: shares of the tokens that belong to the object, each above 0 and below 1.
        dtypes: float16 and bfloat16 on a GPU, float32 on a CPU where not given.
        heads: attention heads; on a CPU above 4096 tokens a tenth of them.
        channels: channels of a head.
        rounds: how often each candidate runs; the medians are shown.
        formula_memory: GiB that the plain formula may take; sizes that need more go without it.
        device: "cuda" where there is one, else "cpu".
        markdown: a file to write the tables into.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = torch.device(device).type == "cuda"
    dtypes = dtypes or (("float16", "bfloat16") if on_gpu else ("float32",))
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}: at least 1 is needed.")
    if not all(0 < share < 1 for share in masked):
        raise ValueError(f"masked is {masked}: shares above 0 and below 1 are needed.")
    results = []
    for dtype in dtypes:
        for count in tokens:
            used_heads = heads if on_gpu or count <= 4096 else max(1, heads // 10)
            generator = torch.Generator().manual_seed(0)
            q, k, v = (
                torch.randn(1, used_heads, count, channels, generator=generator).to(device, getattr(torch, dtype))
                for _ in range(3)
            )
            # Logits and probabilities in fp32, about four at a time.
            with_formula = 4 * 4 * used_heads * count**2 <= formula_memory * 2**30
            for share in masked:
                objects = centred_object(count, share).to(device)
                runs = candidates(q, k, v, objects, with_formula)
                baseline, ratios = interleaved(runs, rounds)
                memory = {name: memory_of(run, on_gpu) for name, run in runs.items()}
                results.append(AttentionTiming(dtype, count, used_heads, share, baseline, ratios, memory))
    report(attention_tables(results, on_gpu), machine(device), markdown)
    return results


def bench_guider(
    *, comfyui: Path, steps: int = 20, rounds: int = 7, side: int = 128, markdown: Path | None = None
) -> dict[str, float]:
    """Times a MASG step against a CFGGuider step, and a SARG step against its two model calls, in a real ComfyUI.

    The mini model runs on the CPU in a server of its own. Whatever stands before the sampler is cached, so that a run
    is the sampler alone. SARG's model calls are a run of the plain model and one of the model under AAS, at cfg 1.

    Args:
        comfyui: the folder of ComfyUI.
        steps: sampling steps in each run.
        rounds: how often each candidate runs; the medians are shown.
        side: width and height of the picture.
        markdown: a file to write the table into.

    Returns:
        {"MASG": time relative to CFGGuider's, "SARG": time relative to the sum of its calls'}.
    """
    graphs = guider_graphs(steps, side)
    ratios: dict[str, list[float]] = {"MASG": [], "SARG": []}
    with tempfile.TemporaryDirectory() as folder, ComfyServer(comfyui, Path(folder)) as server:
        server.upload(PACK / "workflows" / "example_scene.png")
        server.upload(PACK / "workflows" / "example_mask.png")
        for seed in range(rounds + 1):
            names = rotated(list(graphs), seed)
            seconds = {name: seconds_of_run(server, graphs[name], seed) for name in names}
            if seed:  # The first round loads the models.
                ratios["MASG"].append(seconds["MASG"] / seconds["CFG"])
                ratios["SARG"].append(seconds["SARG"] / (seconds["plain"] + seconds["AAS"]))
    medians = {name: statistics.median(values) for name, values in ratios.items()}
    table = Table("step", "against", "time, relative", title=f"{steps} steps, {side}×{side} pixels, {rounds} rounds")
    table.add_row("MASG", "CFGGuider", f"{medians['MASG']:.3f}")
    table.add_row("SARG", "its model calls", f"{medians['SARG']:.3f}")
    report([table], machine("cpu"), markdown)
    return medians


def centred_object(tokens: int, share: float) -> Tensor:
    """Object tokens [1, tokens] (bool): exactly this share of a square grid, as a square in its middle."""
    side = round(tokens**0.5)
    index = torch.arange(tokens)
    distance = torch.maximum((index // side - side / 2).abs(), (index % side - side / 2).abs())
    objects = torch.zeros(1, tokens, dtype=torch.bool)
    objects[0, distance.argsort(stable=True)[: round(share * tokens)]] = True
    return objects


def candidates(q: Tensor, k: Tensor, v: Tensor, objects: Tensor, formula: bool) -> dict[str, Callable[[], Tensor]]:
    """What is compared, the baseline first. Masked SDPA and FlexAttention compute what AAS does."""
    plain = F.scaled_dot_product_attention
    runs: dict[str, Callable[[], Tensor]] = {"SDPA": functools.partial(plain, q, k, v)}
    for name, settings in METHODS.items():
        runs[name] = functools.partial(region_attention, q, k, v, objects, settings)
    tokens = q.shape[2]
    dense = (~objects)[:, None, None, :].expand(1, 1, tokens, tokens).contiguous()
    runs[DENSE] = functools.partial(plain, q, k, v, attn_mask=dense)
    if q.is_cuda:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        kept = ~objects[0]
        block_mask = create_block_mask(lambda b, h, i, j: kept[j], None, None, tokens, tokens, device=q.device)
        compiled: Any = torch.compile(flex_attention, dynamic=False)
        runs[FLEX] = functools.partial(compiled, q, k, v, block_mask=block_mask)
    if formula:
        runs[FORMULA] = functools.partial(region_attention_reference, q, k, v, objects, AAS)
    return runs


def interleaved(runs: dict[str, Callable[[], Tensor]], rounds: int) -> tuple[float, dict[str, float]]:
    """Median milliseconds of the first run, and the median ratio to it of every other one."""
    baseline, *others = runs
    for run in runs.values():
        run()
    times = []
    for turn in range(rounds):
        times.append({name: milliseconds(runs[name]) for name in rotated(list(runs), turn)})
    ratios = {name: statistics.median(time[name] / time[baseline] for time in times) for name in others}
    return statistics.median(time[baseline] for time in times), ratios


def rotated(names: list[str], turn: int) -> list[str]:
    """Another one starts each time, so that none always follows the same one."""
    turn %= len(names)
    return names[turn:] + names[:turn]


def milliseconds(run: Callable[[], Tensor], at_least: float = 20.0) -> float:
    """The time of one call, over as many calls as fill `at_least` milliseconds."""
    calls, start = 0, time.perf_counter()
    while True:
        out = run()
        if out.is_cuda:
            torch.cuda.synchronize(out.device)
        calls += 1
        elapsed = (time.perf_counter() - start) * 1000
        if elapsed >= at_least:
            return elapsed / calls


class LargestTensor(TorchDispatchMode):
    """Remembers the bytes of the largest storage that any operation returned."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.largest = max(self.largest, leaf.untyped_storage().nbytes())
        return out


def memory_of(run: Callable[[], Tensor], on_gpu: bool) -> float:
    """MiB: on a GPU the peak above what was there before, on a CPU the largest tensor."""
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with LargestTensor() as seen:
        run()
    return seen.largest / 2**20


def attention_tables(results: list[AttentionTiming], on_gpu: bool) -> list[Table]:
    columns = [name for name in COLUMNS if any(name in result.ratios for result in results)]
    head = ["dtype", "tokens", "heads", "masked"]
    times = Table(*head, "SDPA, ms", *columns, title="Time relative to plain SDPA (below 1 is faster)")
    what = "Peak memory" if on_gpu else "Largest tensor"
    memory = Table(*head, "SDPA", *columns, title=f"{what}, MiB")
    for result in results:
        size = [result.dtype, str(result.tokens), str(result.heads), f"{result.masked:.0%}"]
        ratios = [f"{result.ratios[name]:.2f}" if name in result.ratios else "–" for name in columns]
        times.add_row(*size, f"{result.baseline:.1f}", *ratios)
        sizes = [f"{result.memory[name]:.1f}" if name in result.memory else "–" for name in ["SDPA", *columns]]
        memory.add_row(*size, *sizes)
    return [times, memory]


def machine(device: str) -> str:
    """The device, the threads and torch's version, in one line."""
    if torch.device(device).type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def report(tables: list[Table], where: str, markdown: Path | None) -> None:
    """Shows the tables, and writes them as Markdown where a file is given."""
    console = Console()
    console.print(where)
    for table in tables:
        console.print(table)
    if markdown:
        markdown.write_text(f"Machine: {where}\n\n" + "\n".join(as_markdown(table) for table in tables))


def as_markdown(table: Table) -> str:
    rows = zip(*(list(column.cells) for column in table.columns), strict=True)
    head = [str(column.header) for column in table.columns]
    lines = [head, ["---"] * len(head), *rows]
    return f"{table.title}\n\n" + "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def guider_graphs(steps: int, side: int) -> dict[str, dict[str, Any]]:
    """The graphs in API format, each ending in a sampler "sampler" with its noise "noise"."""

    def node(class_type: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": class_type, "inputs": inputs}

    scaled = {"upscale_method": "bilinear", "width": side, "height": side, "crop": "disabled"}
    shared = {
        "picture": node("LoadImage", image="example_scene.png"),
        "image": node("ImageScale", image=["picture", 0], **scaled),
        "mask picture": node("LoadImage", image="example_mask.png"),
        "scaled mask": node("ImageScale", image=["mask picture", 0], **scaled),
        "mask": node("ImageToMask", image=["scaled mask", 0], channel="red"),
        "mini": node("UnclutterLoadMini"),
        "text": node("CLIPTextEncode", text="background", clip=["mini", 1]),
        "empty": node("CLIPTextEncode", text="", clip=["mini", 1]),
        "conditioning": node(
            "UnclutterRemovalConditioning",
            positive=["text", 0],
            negative=["empty", 0],
            vae=["mini", 2],
            image=["image", 0],
            mask=["mask", 0],
            condition_image="masked grey",
            mask_pooling="max",
            keep_background=True,
        ),
        "sigmas": node("BasicScheduler", model=["mini", 0], scheduler="simple", steps=steps, denoise=1.0),
        "euler": node("KSamplerSelect", sampler_name="euler"),
        "noise": node("RandomNoise", noise_seed=0),
        "sampler": node(
            "SamplerCustomAdvanced",
            noise=["noise", 0],
            guider=["guider", 0],
            sampler=["euler", 0],
            sigmas=["sigmas", 0],
            latent_image=["conditioning", 2],
        ),
        "saved": node("SaveLatent", samples=["sampler", 0], filename_prefix="bench"),
    }
    conditioning = {"positive": ["conditioning", 0], "negative": ["conditioning", 1]}
    # No step at a scale of 1 everywhere: both guiders run both passes at every step.
    masg = {"mask_scale": 12.5, "background_scale": 1.5, "schedule": "constant", "cutoff": 0.5}
    eraser = {"suppression": 0.3, "suppression_steps": 0.2, "start_percent": 0.0, "end_percent": 1.0, "blocks": "decoder"}

    def erased(scale: float) -> dict[str, Any]:
        return {
            "eraser": node("UnclutterAttentiveEraser", model=["mini", 0], mask=["mask", 0], removal_scale=scale, **eraser),
            "guider": node("CFGGuider", model=["eraser", 0], cfg=1.0, **conditioning),
        }

    guiders = {
        "CFG": {"guider": node("CFGGuider", model=["mini", 0], cfg=7.5, **conditioning)},
        "MASG": {"guider": node("UnclutterMASGGuider", model=["mini", 0], mask=["mask", 0], **masg, **conditioning)},
        "plain": {"guider": node("CFGGuider", model=["mini", 0], cfg=1.0, **conditioning)},
        "AAS": erased(1.0),
        "SARG": erased(9.0),
    }
    return {name: {**shared, **guider} for name, guider in guiders.items()}


def seconds_of_run(server: ComfyServer, graph: dict[str, Any], seed: int) -> float:
    """ComfyUI's own time for the graph: a first run with another seed fills its cache, the second is measured."""
    for noise_seed in (2 * seed, 2 * seed + 1):
        graph["noise"]["inputs"]["noise_seed"] = noise_seed
        prompt_id = server.submit(json.loads(json.dumps(graph)))
        server.wait(prompt_id)
    events = dict(server.get(f"/history/{prompt_id}").json()[prompt_id]["status"]["messages"])
    return (events["execution_success"]["timestamp"] - events["execution_start"]["timestamp"]) / 1000

"""`unclutter gpu`: all that wants a GPU, in stages that can be interrupted, with everything it writes under one folder."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .paths import STATE, check_comfyui

GRACE = 60
"""Seconds that a training has to save its state after the time is up."""


@dataclass(frozen=True)
class GpuConfig:
    """Measure the kernels, the samplers and a training step at SDXL's real size, then train the mini model's GPU preset
    and its adapters. Run it again and again until it says that all is done: it goes on where it stopped.
    """

    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUTPUT")] = Path("runs/gpu")
    """Folder that receives a log for each stage, the trainings, and the measured rows."""
    minutes: float = 7.0
    """Minutes to work for; a training that is not done is saved then."""
    comfyui: Path | None = None
    """A ComfyUI folder, to measure its guiders too."""
    dry: bool = False
    """Run the same stages at sizes that a CPU does in a few minutes, to see that they run."""

    def check(self) -> None:
        check_comfyui(self.comfyui)


def run_on_gpu(config: GpuConfig) -> None:
    """Work through the stages that are not done, until all are or the time is up.

    Raises:
        ChildProcessError: a stage failed; its log says why.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * config.minutes
    plan = stages(config.output, config.dry, config.comfyui)
    for name, command in plan.items():
        done = config.output / f"{name}.done"
        if done.exists():
            continue
        left = end - time.monotonic()
        if left <= 0:
            break
        print(f"{name}: unclutter {' '.join(command)}", flush=True)
        if not finished(command, config.output / f"{name}.log", left):
            break
        done.touch()
    missing = [name for name in plan if not (config.output / f"{name}.done").exists()]
    print(
        f"Still to do: {', '.join(missing)}. Run the same command again."
        if missing
        else f"All is done, see {config.output}."
    )


def finished(command: list[str], log: Path, seconds: float) -> bool:
    """Whether a command ended well within that time; where it did not, it was asked to save and stop.

    Raises:
        ChildProcessError: it failed.
    """
    start = time.monotonic()
    with log.open("a") as file:
        process = subprocess.Popen([sys.executable, "-m", "unclutter.training", *command], stdout=file, stderr=file)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            return False
        file.write(f"{time.monotonic() - start:.0f} seconds, exit code {code}\n")
    if code:
        raise ChildProcessError(f"`unclutter {' '.join(command)}` failed with exit code {code}: see {log}.")
    return True


def stages(output: Path, dry: bool, comfyui: Path | None) -> dict[str, list[str]]:
    """The command of each stage, in the order in which they need each other."""

    def size(real: str, small: str) -> list[str]:
        return (small if dry else real).split()

    def trained(name: str, *command: str) -> list[str]:
        resume = ["--resume"] if (output / name / STATE).exists() else []
        return [*command, "--output", str(output / name), *resume]

    model, pairs = str(output / "mini"), str(output / "pairs")
    learn = [
        "--data",
        pairs,
        "--base",
        model,
        *size("--steps 6000 --save-every 500", "--steps 2 --batch 2 --micro-batch 2"),
    ]
    learn += size("--sample-every 1000", "--sample-every 0 --workers 0")
    real = size("--base random-sdxl --size 1024", "--base mini --repeats 1")
    sizes = size("--tokens 1024 4096 16384", "--tokens 64 --repeats 1 --device cpu")
    plan = {
        "precision": ["bench", "precision", *sizes, *size("--markdown", "--no-compiled")],
        "attention-float16": ["bench", "attention", "--dtype", "float16", "--markdown", *sizes],
        "attention-bfloat16": ["bench", "attention", "--dtype", "bfloat16", "--markdown", *sizes],
    }
    if comfyui is not None:
        plan["guider"] = ["bench", "guider", "--comfyui", str(comfyui), "--markdown"]
        plan["guider"] += size("--size 512", "--size 64 --steps 2 --repeats 1")
    plan |= {
        "onestep": ["bench", "onestep", "--markdown", *real],
        "layers": ["bench", "layers", "--markdown", *real],
        "train": ["bench", "train", "--markdown", *real, *size("--gradient-checkpointing", "--size 64")],
        "mini": ["train", "mini", "gpu", "--output", model, "--resume"]
        + size("", "--size 64 --vae-steps 2 --vae-batch 2 --steps 2 --batch 2 --unet-channels 32 32")
        + size("", "--transformer-depth 1 1 --vae-channels 32 32 32 32 --sample-every 0 --difficulties texture"),
        "pairs": ["data", "drawn", pairs, "--difficulty", "texture", *size("-n 4000 --size 256", "-n 4 --size 64")],
        "lrnr": trained("lrnr", "train", "lrnr", "mini", *learn),
        "eradiff": trained("eradiff", "train", "eradiff", "mini", *learn),
    }
    correction = ["--prediction", "correction"]
    for kind, more in {"noise": [], "correction": correction}.items():
        first = f"osor-{kind}-1"
        plan[first] = trained(first, "train", "osor", "mini-phase-1", *learn, *more)
        second = trained(f"osor-{kind}-2", "train", "osor", "mini-phase-2", *learn, *more)
        plan[f"osor-{kind}-2"] = [*second, "--start", str(output / first)]
    learned = [str(output / name) for name in ("lrnr", "eradiff", "osor-noise-2", "osor-correction-2")]
    for difficulty in size("smooth texture clutter", "texture"):
        plan[f"evaluate-{difficulty}"] = [
            *["evaluate", "--model", model, "--adapters", *learned, "--difficulty", difficulty, "--markdown"],
            *["--json", str(output / f"{difficulty}.jsonl"), "--sheet", str(output / f"{difficulty}.png")],
            *size("--scenes 200", "--scenes 2 --steps 2"),
        ]
    return plan

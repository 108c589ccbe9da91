"""The training loop of every recipe: batches in, adapters out, stoppable at any moment.

All that is random in a picture's loss comes from (seed, step, row), but for OSOR's phase 2, where a micro-batch shares
its kind of mask. So a resumed training ends with the very weights of an uninterrupted one, and several processes reach
those of one.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from torch import Tensor
from tqdm import tqdm

from ..base_models.base import Base
from ..base_models.load import load_base
from ..base_models.mini import is_mini
from ..data.loader import batches
from ..data.manifest import read_manifest
from ..data.sample import Sample
from ..images.files import read_image
from ..images.sheets import contact_sheet
from .objective import Objective, Turn
from .recipe import Recipe
from .run_folder import STATE, only_training_in, stop_on_signal, write_state, write_text

SETTINGS = "recipe.json"
SAMPLES = 4  # pictures on a sample sheet


def train(recipe: Recipe, build: Callable[[Base, Any], Objective]) -> None:
    """Train `build(base, recipe)` and write its adapters to `recipe.output`.

    Raises:
        ValueError: the settings do not fit the base, the machine or the folder.
        FloatingPointError: the loss or a gradient is no longer finite; the message names step, files and checkpoint.
        InterruptedError: SIGTERM or Ctrl-C; the state was saved and `resume` continues.
    """
    accelerator = Accelerator(mixed_precision=recipe.mixed_precision, log_with="tensorboard", project_dir=recipe.output)
    accumulate = recipe.batch // (recipe.micro_batch * accelerator.num_processes)
    if accumulate * recipe.micro_batch * accelerator.num_processes != recipe.batch:
        raise ValueError(
            f"batch is {recipe.batch}, expected a multiple of micro_batch × processes = "
            f"{recipe.micro_batch} × {accelerator.num_processes}."
        )
    if recipe.base is not None and not recipe.base.exists():
        raise FileNotFoundError(
            f"There is no checkpoint at {recipe.base}: give a diffusers folder or a .safetensors file."
        )
    samples = read_manifest(recipe.data, targets=not recipe.synthesis)
    settings = {"data": fingerprint(samples), **recipe.values()}
    recipe.output.mkdir(parents=True, exist_ok=True)
    with only_training_in(recipe.output) if accelerator.is_main_process else nullcontext():
        check_output(recipe, settings)
        set_seed(recipe.seed)
        objective = build(base_of(recipe, accelerator), recipe)
        for note in notes_on_people(samples, recipe) if objective.people else ():
            accelerator.print(note)
        # AdamW passes over parameters without a gradient: of the other loss's turn, or of a branch that no row takes.
        optimizer = torch.optim.AdamW(objective.parameter_groups(), lr=recipe.learning_rate)
        if len(objective.turns) > 1 or objective.people:
            unused = DistributedDataParallelKwargs(find_unused_parameters=True)
            accelerator.ddp_handler = unused  # pyright: ignore[reportAttributeAccessIssue]
        model, optimizer = accelerator.prepare(objective, optimizer)
        start = restore(recipe, objective, optimizer, accelerator) if recipe.resume else 0
        if accelerator.is_main_process:
            write_text(recipe.output / SETTINGS, json.dumps({"recipe": objective.name, **settings}, indent=2))
        accelerator.init_trackers(".")
        run(recipe, accelerator, objective, model, optimizer, accumulate, start)
        accelerator.end_training()
    files = ", ".join(sorted(path.name for path in recipe.output.glob("*.safetensors")))
    accelerator.print(f"Wrote {files} to {recipe.output}.")


def run(
    recipe: Recipe,
    accelerator: Accelerator,
    objective: Objective,
    model: Any,
    optimizer: Any,
    accumulate: int,
    start: int,
) -> None:
    """Steps `start` to `recipe.steps`."""
    last_good = start if (recipe.output / STATE).exists() else None

    def save(step: int) -> None:
        nonlocal last_good
        if broken := [name for name, value in objective.state().items() if not value.isfinite().all()]:
            raise FloatingPointError(
                f"{broken[0]} is no longer finite after step {step}: {last_checkpoint(recipe, last_good)}; train anew with a "
                "lower learning_rate."
            )
        if accelerator.is_main_process:
            # The state last: killed in between, a resumed training writes both again.
            objective.save(recipe.output, step)
            state = {
                "step": step,
                "parameters": {name: value.detach().cpu() for name, value in objective.state().items()},
                "optimizer": optimizer.state_dict(),
                "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
            }
            write_state(recipe.output, state)
        last_good = step

    size = recipe.size or objective.base.native_size
    share = recipe.batch // accelerator.num_processes
    own_batches = batches(
        recipe.data,
        batch=recipe.batch,
        size=size,
        seed=recipe.seed,
        workers=recipe.workers,
        start=start * len(objective.turns),
        rows=slice(share * accelerator.process_index, share * (accelerator.process_index + 1)),
        dilation=recipe.dilation,
        synthesis=recipe.synthesis,
        people=objective.people,
        short_side=objective.short_side,
    )
    progress = tqdm(
        range(start, recipe.steps),
        initial=start,
        total=recipe.steps,
        desc=objective.name,
        disable=not accelerator.is_main_process,
    )
    samples: dict[str, Any] = {}
    with stop_on_signal() as stopped:
        for step in progress:
            losses, terms = {}, {}
            for turn in objective.turns:
                batch = next(own_batches)
                samples = samples or first_rows(batch, SAMPLES)
                objective.begin(turn)
                losses[turn.name], stop = optimizer_step(
                    recipe, accelerator, objective, model, optimizer, accumulate, batch, step, turn, last_good, stopped
                )
                terms |= {name: float(value) for name, value in objective.terms.items()}
            accelerator.log({**losses, **terms}, step=step + 1)
            progress.set_postfix({name: f"{loss:.4f}" for name, loss in losses.items()})
            done = step + 1
            if done % recipe.save_every == 0 or done == recipe.steps or stop:
                save(done)
            if recipe.sample_every and (done % recipe.sample_every == 0 or done == recipe.steps):
                if accelerator.is_main_process:
                    sheet = recipe.output / "samples" / f"step_{done:06}.png"
                    write_samples(sheet, objective, samples)
                    board: Any = accelerator.get_tracker("tensorboard")
                    board.log_images({"samples": read_image(sheet)}, step=done)
                accelerator.wait_for_everyone()
            if stop:
                raise InterruptedError(f"Stopped at step {done}, and saved: the same command with --resume continues.")


def optimizer_step(
    recipe: Recipe,
    accelerator: Accelerator,
    objective: Objective,
    model: Any,
    optimizer: Any,
    accumulate: int,
    batch: dict[str, Any],
    step: int,
    turn: Turn,
    last_good: int | None,
    stopped: threading.Event,
) -> tuple[float, bool]:
    """One turn on this process's share of a batch; the mean loss over all processes, and whether any is to stop."""
    number = step * len(objective.turns) + objective.turns.index(turn)
    share = recipe.batch // accelerator.num_processes
    first = share * accelerator.process_index
    total = torch.zeros((), device=accelerator.device)
    for part in range(accumulate):
        rows = slice(part * recipe.micro_batch, (part + 1) * recipe.micro_batch)
        generators = [row_generator(recipe.seed, number, first + row) for row in range(share)[rows]]
        micro = {key: move(value[rows], accelerator.device) for key, value in batch.items()}
        together = nullcontext() if part == accumulate - 1 else accelerator.no_sync(model)
        with together, accelerator.autocast():
            loss = model(micro, generators).mean() / accumulate
            accelerator.backward(loss)
        total += loss.detach()
    told = torch.stack([total, total.new_tensor(float(stopped.is_set()))])
    loss, stop = torch.as_tensor(accelerator.reduce(told, reduction="mean")).tolist()
    clipped = accelerator.clip_grad_norm_(list(objective.trained().values()), turn.largest_norm)
    norm = math.nan if clipped is None else float(clipped)
    # fp16's gradient scaler skips steps that overflow, and finds its scale that way.
    if not math.isfinite(loss) or (accelerator.scaler is None and not math.isfinite(norm)):
        raise FloatingPointError(
            f"The loss is {loss} and the gradient's norm {norm} at step {step + 1}, on {', '.join(batch['name'])}: "
            f"{last_checkpoint(recipe, last_good)}; look at these files, or train anew with a lower learning_rate."
        )
    # fp16's scaler knows no step in which nothing was learned.
    if any(parameter.grad is not None for parameter in objective.trained().values()):
        optimizer.step()
    optimizer.zero_grad()
    return loss, stop > 0


def last_checkpoint(recipe: Recipe, step: int | None) -> str:
    where = "there is none yet" if step is None else f"the last good checkpoint is step {step}'s"
    return f"{where} in {recipe.output}"


def row_generator(seed: int, number: int, row: int) -> torch.Generator:
    """For one row of batch `number`."""
    return torch.Generator().manual_seed(((seed * 1_000_003 + number) * 65_537 + row) % 2**63)


def base_of(recipe: Recipe, accelerator: Accelerator) -> Base:
    """The network to train, in what it computes in."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}[recipe.mixed_precision]
    is_toy = recipe.base is None or is_mini(recipe.base)
    # The mini model stays in fp32: autocast is all that half precision means for it.
    base = load_base(recipe.base, str(accelerator.device), None if is_toy else dtype)
    if recipe.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
        base.unet.train()  # diffusers checkpoints in training mode only; these networks have no dropout
    return base


def fingerprint(samples: list[Sample]) -> str:
    """Which pairs a training learns from, wherever the folder lies."""
    names = [sample.name for sample in samples]
    return f"{len(names)} pairs, {hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]}"


def notes_on_people(samples: list[Sample], recipe: Recipe) -> list[str]:
    """What a training of people does without, a sentence each: it may be meant so."""
    notes = []
    if whole := sum(sample.instance_masks is None for sample in samples):
        notes.append(
            f"{whole} of {len(samples)} pairs in {recipe.data} have no instance_masks: the mask of each is taken as one person."
        )
    if recipe.values().get("morphology") and not any(sample.pose or sample.parsing for sample in samples):
        notes.append(
            f"No pair in {recipe.data} has a pose or a parsing, and of the body encoders only that of the other people's masks "
            "learns: --no-morphology leaves all of them out."
        )
    return notes


def check_output(recipe: Recipe, settings: dict[str, Any]) -> None:
    state = recipe.output / STATE
    if not recipe.resume:
        if state.exists():
            raise ValueError(f"{recipe.output} holds a training: add --resume to continue it, or give another folder.")
        return
    if not state.exists():
        raise ValueError(f"{recipe.output} holds no {STATE} to resume from: leave --resume out, or give its folder.")
    may_change = {"steps", "workers", "save_every", "sample_every", "micro_batch", "latent_cache"}
    if recipe.values().get("phase") == 2:  # pictures of a micro-batch share what is missing from their masks
        may_change -= {"micro_batch"}
    before = json.loads((recipe.output / SETTINGS).read_text())
    changed = [
        f"{key} {before.get(key)} -> {value}"
        for key, value in settings.items()
        if key not in may_change and before.get(key) != value
    ]
    if changed:
        raise ValueError(
            f"The training in {recipe.output} had other settings ({', '.join(changed)}): resume with those."
        )


def restore(recipe: Recipe, objective: Objective, optimizer: Any, accelerator: Accelerator) -> int:
    """Load the state; the step that comes next."""
    state = torch.load(recipe.output / STATE, map_location="cpu", weights_only=True)
    current = objective.state()
    if current.keys() != state["parameters"].keys():
        raise ValueError(
            f"{recipe.output / STATE} holds other parameters than this recipe trains: give its own folder."
        )
    with torch.no_grad():
        for name, value in state["parameters"].items():
            current[name].copy_(value)
    optimizer.load_state_dict(state["optimizer"])
    if accelerator.scaler and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])
    return state["step"]


def write_samples(path: Path, objective: Objective, samples: dict[str, Any]) -> None:
    """A sheet of the first pictures of the set: what was given, what the adapters make of it, what it should be."""
    rows = []
    for row in range(len(samples["source"])):
        source, target, mask = (samples[key][row : row + 1] for key in ("source", "target", objective.mask_key))
        result = objective.erase(source, mask).cpu()
        shown = [
            ("source", source),
            ("mask", mask[:, None].expand(-1, 3, -1, -1)),
            ("result", result),
            ("target", target),
        ]
        rows.append(shown)
    contact_sheet(path, rows)


def first_rows(batch: dict[str, Any], count: int) -> dict[str, Any]:
    return {key: value[:count] for key, value in batch.items()}


def move(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value

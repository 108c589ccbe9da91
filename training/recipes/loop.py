"""The training loop of every recipe: batches in, adapters out, stoppable at any moment.

All that is random in a picture's loss comes from (seed, step, row), but for OSOR's phase 2, where a micro-batch shares
its kind of mask. So a resumed training ends with the very weights of an uninterrupted one, and several processes reach
those of one.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from torch import Tensor
from tqdm import tqdm

from ...adapters.writing import write_text
from ...kernels import seeds
from ..base_models.base import Base
from ..base_models.load import load_base
from ..base_models.mini import is_mini
from ..data.loader import batches
from ..data.manifest import read_manifest
from ..data.sample import Sample
from ..images.files import read_image
from ..images.sheets import contact_sheet
from ..paths import RECIPE, STATE
from .objective import AlternatingLoss, Objective
from .recipe import Recipe
from .run_folder import check_output, fingerprint, only_training_in, read_state, stop_on_signal, write_state
from .samples import sample_rows

SAMPLES = 4
"""Pictures on a sample sheet."""
PASSES = 1
"""Tells the seeds of rows in passes, by (batch, row), from those of the loader, by (epoch, index)."""


def train(recipe: Recipe, build: Callable[[Base, Any], Objective]) -> None:
    """Train `build(base, recipe)` and write its adapters to `recipe.output`.

    Raises:
        ValueError: the settings do not fit the base, the machine or the folder.
        FloatingPointError: the loss or a gradient is no longer finite; the message names step, files and checkpoint.
        InterruptedError: SIGTERM or Ctrl-C; the state was saved and `resume` continues.
    """
    recipe.check()
    accelerator = Accelerator(mixed_precision=recipe.mixed_precision, log_with="tensorboard", project_dir=recipe.output)
    if recipe.batch % (recipe.micro_batch * accelerator.num_processes):
        raise ValueError(
            f"batch is {recipe.batch}, expected a multiple of micro_batch × processes = "
            f"{recipe.micro_batch} × {accelerator.num_processes}."
        )
    samples = read_manifest(recipe.data, targets=not recipe.synthesis)
    settings = {"data": fingerprint(samples), **recipe.values()}
    recipe.output.mkdir(parents=True, exist_ok=True)
    with only_training_in(recipe.output) if accelerator.is_main_process else nullcontext():
        check_output(recipe, settings)
        set_seed(recipe.seed)
        objective = build(base_of(recipe, accelerator), recipe)
        for note in objective.notes(samples):
            accelerator.print(note)
        trainer = Trainer(recipe, accelerator, objective, samples)
        if accelerator.is_main_process:
            write_text(recipe.output / RECIPE, json.dumps({"recipe": objective.name, **settings}, indent=2) + "\n")
        accelerator.init_trackers(".")
        trainer.run()
        accelerator.end_training()
    files = ", ".join(sorted(path.name for path in recipe.output.glob("*.safetensors")))
    accelerator.print(f"Wrote {files} to {recipe.output}.")


def base_of(recipe: Recipe, accelerator: Accelerator) -> Base:
    """The network to train, in the precision that it computes in."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}[recipe.mixed_precision]
    is_toy = recipe.base is None or is_mini(recipe.base)
    # The mini model stays in fp32: autocast is all that half precision means for it.
    base = load_base(recipe.base, str(accelerator.device), None if is_toy else dtype)
    if recipe.gradient_checkpointing:
        base.network.enable_gradient_checkpointing()
        base.network.train()  # diffusers checkpoints in training mode only; these networks have no dropout
    return base


class Trainer:
    """One training of an objective on a list of pairs, from its first step or from a saved state.

    Args:
        samples: the pairs of `recipe.data`.
    """

    def __init__(self, recipe: Recipe, accelerator: Accelerator, objective: Objective, samples: list[Sample]) -> None:
        self.recipe, self.accelerator, self.objective, self.samples = recipe, accelerator, objective, samples
        self.is_main = accelerator.is_main_process
        self.share = recipe.batch // accelerator.num_processes
        # AdamW passes over parameters without a gradient: of the other loss, or of a branch that no row takes.
        optimizer = torch.optim.AdamW(objective.parameter_groups(), lr=recipe.learning_rate)
        if objective.leaves_parameters_unused:
            unused = DistributedDataParallelKwargs(find_unused_parameters=True)
            accelerator.ddp_handler = unused  # pyright: ignore[reportAttributeAccessIssue]
        prepared: Any = accelerator.prepare(objective, optimizer)
        self.model, self.optimizer = prepared
        self.start = self.restore() if recipe.resume else 0
        self.last_good = self.start if (recipe.output / STATE).exists() else None

    def run(self) -> None:
        """Take the steps that are left.

        Raises:
            FloatingPointError, InterruptedError: as for `train`.
        """
        recipe, objective = self.recipe, self.objective
        self.begun = time.monotonic()
        steps = range(self.start, recipe.steps)
        progress = tqdm(steps, initial=self.start, total=recipe.steps, desc=objective.name, disable=not self.is_main)
        given, shown = self.batches(), {}
        with stop_on_signal() as stopped:
            for step in progress:
                losses, terms, stop = {}, {}, False
                for loss, batch in zip(objective.losses, self.loaded(given, step), strict=True):
                    shown = shown or {key: value[:SAMPLES] for key, value in batch.items()}
                    losses[loss.name], stop = self.learn(loss, batch, step, stopped)
                    terms |= {name: float(value) for name, value in objective.terms.items()}
                self.accelerator.log({**losses, **terms}, step=step + 1)
                progress.set_postfix({name: f"{loss:.4f}" for name, loss in losses.items()})
                self.finish(step + 1, shown, stop)

    def batches(self) -> Iterator[dict[str, Any]]:
        """This process's rows of every batch that is left."""
        recipe, objective, first = self.recipe, self.objective, self.share * self.accelerator.process_index
        return batches(
            self.samples,
            batch=recipe.batch,
            size=recipe.size or objective.base.native_size,
            seed=recipe.seed,
            workers=recipe.workers,
            start=self.start * len(objective.losses),
            rows=slice(first, first + self.share),
            dilation=recipe.dilation,
            synthesis=recipe.synthesis,
            people=objective.people,
            short_side=objective.short_side,
        )

    def loaded(self, given: Iterator[dict[str, Any]], step: int) -> list[dict[str, Any]]:
        """The batches of a step, one for each loss, before anything is learned from any of them.

        Raises:
            ChildProcessError: a process that loads pictures has died; what was learned is saved.
        """
        try:
            return [next(given) for _ in self.objective.losses]
        except ChildProcessError as lost:
            if step == self.start:
                raise
            self.save(step)
            raise ChildProcessError(f"{lost} Saved at step {step}: the same command with --resume continues.") from None

    def learn(
        self, alternating: AlternatingLoss, batch: dict[str, Any], step: int, stopped: threading.Event
    ) -> tuple[float, bool]:
        """Take one optimizer step by one of the losses.

        Returns:
            The loss's mean over all processes, and whether any of them is to stop.
        """
        accelerator, trained = self.accelerator, list(self.objective.trained().values())
        self.objective.begin(alternating)
        total = self.accumulate(alternating, batch, step)
        told = torch.stack([total, total.new_tensor(float(stopped.is_set()))])
        loss, stop = torch.as_tensor(accelerator.reduce(told, reduction="mean")).tolist()
        clipped = accelerator.clip_grad_norm_(trained, alternating.largest_norm)
        norm = math.nan if clipped is None else float(clipped)
        # fp16's gradient scaler skips steps that overflow, and finds its scale that way.
        if not math.isfinite(loss) or (accelerator.scaler is None and not math.isfinite(norm)):
            raise FloatingPointError(
                f"The loss is {loss} and the gradient's norm {norm} at step {step + 1}, on {', '.join(batch['name'])}: "
                f"{self.last_checkpoint()}; look at these files, or train anew with a lower learning_rate."
            )
        # fp16's scaler knows no step in which nothing was learned.
        if any(parameter.grad is not None for parameter in trained):
            self.optimizer.step()
        self.optimizer.zero_grad()
        return loss, stop > 0

    def accumulate(self, alternating: AlternatingLoss, batch: dict[str, Any], step: int) -> Tensor:
        """Collect the gradients of this process's share of a batch in passes of `micro_batch` pictures; gives its loss."""
        recipe, accelerator, losses = self.recipe, self.accelerator, self.objective.losses
        number = step * len(losses) + losses.index(alternating)
        first, passes = self.share * accelerator.process_index, self.share // recipe.micro_batch
        total = torch.zeros((), device=accelerator.device)
        for part in range(passes):
            rows = slice(part * recipe.micro_batch, (part + 1) * recipe.micro_batch)
            generators = [seeds.generator(recipe.seed, PASSES, number, first + row) for row in range(self.share)[rows]]
            micro = {key: move(value[rows], accelerator.device) for key, value in batch.items()}
            together = nullcontext() if part == passes - 1 else accelerator.no_sync(self.model)
            with together, accelerator.autocast():
                loss = self.model(micro, generators).mean() / passes
                accelerator.backward(loss)
            total += loss.detach()
        return total

    def finish(self, done: int, shown: dict[str, Any], stop: bool) -> None:
        """Save and draw samples where it is time to, after `done` steps, and stop where that was asked for."""
        recipe, last = self.recipe, done == self.recipe.steps
        if done % recipe.save_every == 0 or last or stop:
            self.save(done)
        if recipe.sample_every and (done % recipe.sample_every == 0 or last):
            if self.is_main:
                self.draw(done, shown)
            self.accelerator.wait_for_everyone()
        if stop:
            raise InterruptedError(f"Stopped at step {done}, and saved: the same command with --resume continues.")

    def draw(self, done: int, shown: dict[str, Any]) -> None:
        """Draw the sheet of samples after `done` steps."""
        sheet = self.recipe.output / "samples" / f"step_{done:06}.png"
        rows = sample_rows(self.objective, shown, time.monotonic() - self.begun)
        if not rows:
            self.accelerator.print(
                f"No samples of step {done}: one alone would take more than a tenth of the training."
            )
            return
        contact_sheet(sheet, rows)
        board: Any = self.accelerator.get_tracker("tensorboard")
        board.log_images({"samples": read_image(sheet)}, step=done)

    def save(self, step: int) -> None:
        """Write the adapters and the state after `step` steps.

        Raises:
            FloatingPointError: something that was trained is no longer finite.
        """
        state = self.objective.state()
        if broken := [name for name, value in state.items() if not value.isfinite().all()]:
            raise FloatingPointError(
                f"{broken[0]} is no longer finite after step {step}: {self.last_checkpoint()}; train anew with a lower "
                "learning_rate."
            )
        if self.is_main:
            # The state last: killed in between, a resumed training writes both again.
            self.objective.save(self.recipe.output, step)
            scaler = self.accelerator.scaler
            kept = {
                "step": step,
                "parameters": {name: value.detach().cpu() for name, value in state.items()},
                "optimizer": self.optimizer.state_dict(),
                "scaler": scaler.state_dict() if scaler else None,
            }
            write_state(self.recipe.output, kept)
        self.last_good = step

    def restore(self) -> int:
        """Load the state in the output folder; the number of steps that were taken."""
        state, current = (
            read_state(self.recipe.output, ("step", "parameters", "optimizer", "scaler")),
            self.objective.state(),
        )
        if current.keys() != state["parameters"].keys():
            raise ValueError(
                f"{self.recipe.output / STATE} holds other parameters than this recipe trains: give its own folder."
            )
        with torch.no_grad():
            for name, value in state["parameters"].items():
                current[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        return state["step"]

    def last_checkpoint(self) -> str:
        step = self.last_good
        where = "there is none yet" if step is None else f"the last good checkpoint is step {step}'s"
        return f"{where} in {self.recipe.output}"


def move(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value

"""The command line: `unclutter demo`, `remove`, `train mini`, `bench attention`, `bench guider`."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
import tyro

from .bench import bench_attention, bench_guider
from .demo import demo
from .mini import CPU, GPU, train_mini
from .photo import remove_photo

Command = Callable[[list[str], str], object]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a bad value ends in one sentence and exit code 1, not in a traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    name = next((name for name in COMMANDS if arguments[: len(name.split())] == name.split()), None)
    if name is None:
        print(f"usage: unclutter COMMAND [--help]\n\ncommands: {', '.join(COMMANDS)}", file=sys.stderr)
        return 0 if arguments in ([], ["-h"], ["--help"]) else 2
    try:
        COMMANDS[name](arguments[len(name.split()) :], f"unclutter {name}")
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"unclutter {name}: {error}", file=sys.stderr)
        return 1
    return 0


def from_function(function: Callable) -> Command:
    return lambda arguments, prog: tyro.cli(function, args=arguments, prog=prog)


def train_mini_from(arguments: list[str], prog: str) -> None:
    """`unclutter train mini [cpu|gpu] [--field value ...]`; without a preset, the one that fits the machine."""
    presets = {
        "cpu": ("64×64 scenes, an hour or two on two cores; crude", CPU),
        "gpu": ("256×256 scenes with a trained VAE, ten to twenty minutes on one GPU", GPU),
    }
    if not arguments or arguments[0] not in (*presets, "-h", "--help"):
        arguments = ["gpu" if torch.cuda.is_available() else "cpu", *arguments]
    train_mini(tyro.extras.overridable_config_cli(presets, args=arguments, prog=prog))


COMMANDS: dict[str, Command] = {
    "demo": from_function(demo),
    "remove": from_function(remove_photo),
    "train mini": train_mini_from,
    "bench attention": from_function(bench_attention),
    "bench guider": from_function(bench_guider),
}

"""The command line: `unclutter COMMAND`, also `python -m unclutter.training COMMAND` for `accelerate launch`.

A command's module is imported when it is asked for, so that `unclutter demo` needs nothing that only training needs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import tyro

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
    except ModuleNotFoundError as error:
        print(f"unclutter {name} needs {error.name}: install the pack with its train extra.", file=sys.stderr)
        return 1
    return 0


def function(module: str, name: str) -> Command:
    return lambda arguments, prog: tyro.cli(_get(module, name), args=arguments, prog=prog)


def configured(module: str, settings: str, name: str) -> Command:
    return lambda arguments, prog: _get(module, name)(tyro.cli(_get(module, settings), args=arguments, prog=prog))


def recipe(module: str, settings: str, objective: str) -> Command:
    def run(arguments: list[str], prog: str) -> None:
        chosen = tyro.cli(_get(module, settings), args=arguments, prog=prog)
        _get(".loop", "train")(chosen, _get(module, objective))

    return run


def train_mini(arguments: list[str], prog: str) -> None:
    """`unclutter train mini [cpu|gpu] [--field value ...]`; without a preset, the one that fits the machine."""
    import torch

    presets = {
        "cpu": ("64×64 scenes, an hour or two on two cores; crude", _get(".mini", "CPU")),
        "gpu": ("256×256 scenes with a trained VAE, ten to twenty minutes on one GPU", _get(".mini", "GPU")),
    }
    if not arguments or arguments[0] not in (*presets, "-h", "--help"):
        arguments = ["gpu" if torch.cuda.is_available() else "cpu", *arguments]
    _get(".mini", "train_mini")(tyro.extras.overridable_config_cli(presets, args=arguments, prog=prog))


def _get(module: str, name: str) -> Any:
    return getattr(import_module(module, __package__), name)


COMMANDS: dict[str, Command] = {
    "demo": function(".demo", "demo"),
    "remove": function(".photo", "remove_photo"),
    "train mini": train_mini,
    "train lrnr": recipe(".lrnr", "LRNRRecipe", "LRNR"),
    "train eradiff": recipe(".eradiff", "EraDiffRecipe", "EraDiff"),
    "train osor": lambda arguments, prog: _get(".loop", "train")(
        _get(".osor_recipe", "choose")(arguments, prog), _get(".osor", "OSOR")
    ),
    "train mild": lambda arguments, prog: _get(".mild", "train_mild")(arguments, prog),
    "evaluate crowds": function(".evaluate_crowds", "evaluate_crowds"),
    "evaluate": function(".evaluate", "evaluate"),
    "convert": function(".convert", "convert"),
    "data store": configured(".data.store", "StoreConfig", "store"),
    "data synthesize": configured(".data.synthesize", "SynthesizeConfig", "synthesize_pairs"),
    "data people": configured(".data.people", "PeopleConfig", "make_people"),
    "data verify": configured(".data.verify", "VerifyConfig", "verify_pairs"),
    "data check": function(".data.check", "check_data"),
    "data shard": function(".data.shards", "write_shards"),
    "data drawn": function(".data.drawn", "draw_pairs"),
    "bench attention": function(".bench", "bench_attention"),
    "bench guider": function(".bench", "bench_guider"),
    "bench train": function(".bench_train", "bench_train"),
}

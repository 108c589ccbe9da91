"""The command line: `unclutter COMMAND`, also `python -m unclutter.training COMMAND` for `accelerate launch`.

A command's module is imported when it is asked for, so that `unclutter demo` needs nothing that only training needs,
and the list of commands needs nothing at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher
from importlib import import_module
from itertools import takewhile
from typing import Any

Run = Callable[[list[str], str], object]
"""Takes the arguments after the name, and what the usage calls the command."""
HELP = {"-h", "--help"}
ALIKE = 0.6
"""What is typed is taken for a typo of a name from this share of common letters on."""


@dataclass(frozen=True)
class Command:
    """What `unclutter NAME` runs, the line that tells of it, and the extra of the package that it needs."""

    run: Run
    summary: str
    extra: str = "train"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a bad value ends in one sentence and exit code 1, not in a traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    names = [name for name in COMMANDS if arguments[: len(name.split())] == name.split()]
    if not names:
        return explain(arguments)
    name = max(names, key=len)
    command = COMMANDS[name]
    try:
        command.run(arguments[len(name.split()) :], f"unclutter {name}")
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"unclutter {name}: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        install = f'pip install -e ".[{command.extra}]"'
        print(f"unclutter {name} needs {error.name}: run `{install}` in the pack's folder.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"unclutter {name}: stopped.", file=sys.stderr)
        return 130
    return 0


def explain(arguments: list[str]) -> int:
    """List the commands, or those of a group such as `train`; where there is none of that name, say which is near."""
    words = list(takewhile(lambda word: not word.startswith("-"), (word for word in arguments if word not in HELP)))
    names = [name for name in COMMANDS if name.split()[: len(words)] == words]
    wanted = bool(names) and (not arguments or bool(HELP & set(arguments)))
    if not names:
        typed, near = nearest(words)
        meant = f', did you mean "{near}"? `unclutter --help` lists all.' if near else "."
        print(f'unclutter: unknown command "{typed}"{meant}', file=sys.stderr)
        if near:
            return 2
        names = [name for name in COMMANDS if name.split()[0] == words[0]] or list(COMMANDS)
    width = max(map(len, names))
    lines = [f"  {name:{width}}  {COMMANDS[name].summary}" for name in names]
    text = ["usage: unclutter COMMAND [options]", "", *lines, "", "`unclutter COMMAND --help` explains every option."]
    print("\n".join(text), file=sys.stdout if wanted else sys.stderr)
    return 0 if wanted else 2


def nearest(words: list[str]) -> tuple[str, str | None]:
    """The part of `words` that was meant to be a command, and the name of the command or group it is most alike."""
    groups = dict.fromkeys(name.split()[0] for name in COMMANDS if " " in name)
    inside = words[0] if words[0] in groups else ""
    known = [name for name in COMMANDS if name.startswith(f"{inside} ")] if inside else [*COMMANDS, *groups]
    typed = {name: " ".join(words[: len(name.split())]) for name in known}

    def likeness(name: str) -> float:
        return SequenceMatcher(None, typed[name].removeprefix(inside), name.removeprefix(inside)).ratio()

    near = max(known, key=likeness)
    return (typed[near], near) if likeness(near) >= ALIKE else (" ".join(words[: 2 if inside else 1]), None)


def function(module: str, name: str) -> Run:
    return lambda arguments, prog: _tyro().cli(_get(module, name), args=arguments, prog=prog)


def configured(module: str, settings: str, name: str) -> Run:
    return lambda arguments, prog: _get(module, name)(_tyro().cli(_get(module, settings), args=arguments, prog=prog))


def train_mini(arguments: list[str], prog: str) -> None:
    """`unclutter train mini [cpu|gpu] [--field value ...]`; without a preset, the one that fits the machine."""
    import torch

    presets = {
        "cpu": ("128×128 scenes, hours on two cores; it can be stopped and resumed", _get(".mini.config", "CPU")),
        "gpu": ("256×256 scenes with a trained VAE, ten to twenty minutes on one GPU", _get(".mini.config", "GPU")),
    }
    default = "gpu" if torch.cuda.is_available() else "cpu"
    _get(".mini.train", "train_mini")(_get(".recipes.recipe", "choose_preset")(presets, default, arguments, prog))


def recipe(settings: str, module: str, objective: str) -> Run:
    """A training whose module of settings has presets to choose from."""
    return lambda arguments, prog: _get(".recipes.loop", "train")(
        _get(settings, "choose")(arguments, prog), _get(module, objective)
    )


def _get(module: str, name: str) -> Any:
    return getattr(import_module(module, __package__), name)


def _tyro() -> Any:
    return import_module("tyro")


COMMANDS: dict[str, Command] = {
    "demo": Command(
        function(".evaluation.demo", "demo"), "every method on drawn scenes: a contact sheet and a table", "demo"
    ),
    "remove": Command(
        configured(".remove", "RemoveConfig", "remove_photo"),
        "take what a mask marks out of a photo, or of a folder of them",
        "demo",
    ),
    "data store": Command(
        configured(".data.store", "StoreConfig", "store"),
        "cluttered scenes with and without one object, from backgrounds and cut-outs (LRNR)",
    ),
    "data synthesize": Command(
        configured(".data.synthesize", "SynthesizeConfig", "synthesize_pairs"),
        "pairs from pictures with masks: the object is moved (EraDiff)",
    ),
    "data people": Command(
        configured(".data.people", "PeopleConfig", "make_people"),
        "groups of people, a mask for each, from backgrounds and cut-outs (MILD)",
    ),
    "data verify": Command(
        configured(".data.verify", "VerifyConfig", "verify_pairs"),
        "the pairs among before/after pictures, with the mask of all that changed (OSOR's SAVP)",
    ),
    "data drawn": Command(function(".data.drawn", "draw_pairs"), "pairs of drawn scenes, for the mini model"),
    "data check": Command(function(".data.check", "check_data"), "every fault in a set, before a training finds it"),
    "data shard": Command(function(".data.shards", "write_shards"), "a large set as webdataset shards"),
    "train lrnr": Command(recipe(".recipes.lrnr", ".recipes.lrnr", "LRNR"), "a removal prompt and a LoRA (LRNR)"),
    "train eradiff": Command(
        recipe(".recipes.eradiff", ".recipes.eradiff", "EraDiff"),
        "a LoRA for the path on which the object fades (EraDiff)",
    ),
    "train osor": Command(
        recipe(".recipes.osor.settings", ".recipes.osor.objective", "OSOR"), "erasing in one step, in two phases (OSOR)"
    ),
    "train mild": Command(recipe(".recipes.mild", ".recipes.mild", "MILD"), "a layer per person (MILD)"),
    "train mini": Command(train_mini, "the mini model itself, from nothing; presets cpu and gpu"),
    "train judge": Command(
        configured(".evaluation.judge", "JudgeConfig", "train_judge"),
        "the network that says whether an object stands in a hole, for evaluate",
    ),
    "evaluate": Command(
        function(".evaluation.removal", "evaluate"), "removed or not, on scenes whose true background is known"
    ),
    "evaluate crowds": Command(
        function(".evaluation.crowds", "evaluate_crowds"), "the same for subsets of objects that overlap"
    ),
    "evaluate starts": Command(
        function(".evaluation.starts", "evaluate_starts"),
        "noise, the picture or a draft as the beginning of each method",
    ),
    "gpu": Command(function(".gpu", "run_on_gpu"), "all that wants a GPU, in stages that go on where they stopped"),
    "convert": Command(function(".convert", "convert"), "a LoRA file in kohya's keys, or in diffusers'"),
    "bench draft": Command(
        function(".bench.draft", "bench_draft"),
        "the draft against other fills that need no weights: PSNR and time",
        "dev",
    ),
    "bench attention": Command(
        function(".bench.attention", "bench_attention"), "region attention beside plain attention"
    ),
    "bench precision": Command(
        function(".bench.precision", "bench_precision"), "region attention in half precision, and beside FlexAttention"
    ),
    "bench guider": Command(
        function(".bench.attention", "bench_guider"), "MASG and SARG beside ComfyUI's own guidance"
    ),
    "bench layers": Command(
        function(".bench.layers", "bench_layers"),
        "a row per person beside a plain batch and beside separate calls (MILD)",
    ),
    "bench onestep": Command(
        function(".bench.one_step", "bench_onestep"), "erasing in one step beside its parts and beside 25 steps (OSOR)"
    ),
    "bench train": Command(
        function(".bench.train", "bench_train"), "a training step beside that of diffusers' example"
    ),
}

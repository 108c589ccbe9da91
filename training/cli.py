"""The command line: `unclutter COMMAND`, also `python -m unclutter.training COMMAND` for `accelerate launch`.

A command is settings, which are parsed and checked first and import no PyTorch, and the function that does the work. So
help, a wrong option and a missing file are told at once, and the list of commands needs no package at all.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module, metadata
from itertools import takewhile
from pathlib import Path
from typing import Any

from .recipes.registry import RECIPES

HELP = {"-h", "--help"}


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        summary: the line that tells of it.
        settings: "module:name" of a dataclass of options, or of a function that parses (arguments, prog) into one.
        work: "module:function" that takes these settings.
        extra: of the package, with the packages that the command needs.
        objective: "module:class" of a recipe, which `work` takes too.
    """

    summary: str
    settings: str
    work: str
    extra: str = "train"
    objective: str | None = None

    def run(self, arguments: list[str], prog: str) -> None:
        settings, parse = load(self.settings), load("tyro:cli")
        is_class = isinstance(settings, type)
        config = parse(settings, args=arguments, prog=prog) if is_class else settings(arguments, prog)
        if check := getattr(config, "check", None):
            check()
        work = load(self.work)
        if self.objective is None:
            work(config)
        else:
            work(config, load(self.objective))


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a bad value ends in one sentence and exit code 1, not in a traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(f"unclutter {version()}")
        return 0
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


def version() -> str:
    """The version of the installed package, or of the folder where it is not installed."""
    try:
        return metadata.version("unclutter")
    except metadata.PackageNotFoundError:
        lines = (Path(__file__).resolve().parent.parent / "pyproject.toml").read_text(encoding="utf-8").splitlines()
        return next(line.split('"')[1] for line in lines if line.startswith("version"))


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
    if words[0] in groups:
        # The group is right: its name, which all of its commands share, says nothing of the rest.
        known = {name.split(" ", 1)[1]: name for name in COMMANDS if name.startswith(f"{words[0]} ")}
        near = get_close_matches(words[1], known, n=1)
        return " ".join(words[:2]), known[near[0]] if near else None
    two = " ".join(words[:2])
    if near := get_close_matches(two, [name for name in COMMANDS if " " in name], n=1):
        return two, near[0]
    near = get_close_matches(words[0], [*(name for name in COMMANDS if " " not in name), *groups], n=1)
    return words[0], near[0] if near else None


def load(path: str) -> Any:
    """The object at "module:name", a module below this package, or tyro."""
    module, name = path.split(":")
    return getattr(import_module(module if module == "tyro" else f".{module}", __package__), name)


COMMANDS: dict[str, Command] = {
    "demo": Command(
        "every method on drawn scenes: a contact sheet and a table",
        "evaluation.settings:DemoConfig",
        "evaluation.demo:demo",
        "demo",
    ),
    "remove": Command(
        "take what a mask marks out of a photo, or of a folder of them",
        "settings:RemoveConfig",
        "remove:remove_photo",
        "demo",
    ),
    "data store": Command(
        "cluttered scenes with and without one object, from backgrounds and cut-outs (LRNR)",
        "data.settings:StoreConfig",
        "data.store:store",
    ),
    "data synthesize": Command(
        "pairs from pictures with masks: the object is moved (EraDiff)",
        "data.settings:SynthesizeConfig",
        "data.synthesize:synthesize_pairs",
    ),
    "data people": Command(
        "groups of people, a mask for each, from backgrounds and cut-outs (MILD)",
        "data.settings:PeopleConfig",
        "data.people:make_people",
    ),
    "data verify": Command(
        "the pairs among before/after pictures, with the mask of all that changed (OSOR's SAVP)",
        "data.settings:VerifyConfig",
        "data.verify:verify_pairs",
    ),
    "data drawn": Command(
        "pairs of drawn scenes, for the mini model", "data.settings:DrawnConfig", "data.drawn:draw_pairs"
    ),
    "data rendered": Command(
        "pairs of physically rendered scenes, with shadows and reflections that are truly gone",
        "data.rendered.settings:RenderedConfig",
        "data.rendered.make:render_pairs",
        "render",
    ),
    "data cases": Command(
        "a public set that you downloaded, as a folder that evaluate and the trainings read",
        "data.public.settings:CasesConfig",
        "data.public.write:write_cases",
        "public",
    ),
    "data check": Command(
        "every fault in a set, before a training finds it", "data.settings:CheckConfig", "data.check:check_data"
    ),
    "data shard": Command("a large set as webdataset shards", "data.settings:ShardConfig", "data.pack:write_shards"),
    **{
        f"train {name}": Command(
            entry.summary,
            f"recipes.{entry.settings}:choose",
            "recipes.loop:train",
            objective=f"recipes.{entry.objective}",
        )
        for name, entry in RECIPES.items()
    },
    "train mini": Command(
        "the mini model itself, from nothing; presets cpu and gpu", "mini.config:choose", "mini.train:train_mini"
    ),
    "train judge": Command(
        "the network that says whether an object stands in a hole, for evaluate",
        "evaluation.settings:JudgeConfig",
        "evaluation.judge:train_judge",
    ),
    "evaluate": Command(
        "removed or not, on scenes whose true background is known",
        "evaluation.settings:EvaluateConfig",
        "evaluation.removal:evaluate",
    ),
    "evaluate crowds": Command(
        "the same for subsets of objects that overlap",
        "evaluation.settings:CrowdsConfig",
        "evaluation.crowds:evaluate_crowds",
    ),
    "evaluate starts": Command(
        "noise, the picture or a draft as the beginning of each method",
        "evaluation.settings:StartsConfig",
        "evaluation.starts:evaluate_starts",
    ),
    "evaluate stability": Command(
        "how much Attentive Eraser's fill changes with the seed, from each start",
        "evaluation.settings:StabilityConfig",
        "evaluation.stability:evaluate_stability",
    ),
    "evaluate photos": Command(
        "any method on any pictures: a table, a gallery, and which method when",
        "evaluation.photographs.settings:PhotosConfig",
        "evaluation.photographs.instrument:evaluate_photos",
        "evaluate",
    ),
    "evaluate reproduce": Command(
        "a table of one of the five papers, on your pictures and checkpoints",
        "evaluation.photographs.reproduce_settings:ReproduceConfig",
        "evaluation.photographs.reproduce:reproduce",
        "evaluate",
    ),
    "rate": Command(
        "a page on which people say of each result whether the object is gone, without knowing the method",
        "evaluation.raters.settings:RateConfig",
        "evaluation.raters.page:rate",
        "rate",
    ),
    "gpu": Command("all that wants a GPU, in stages that go on where they stopped", "gpu:GpuConfig", "gpu:run_on_gpu"),
    "convert": Command("a LoRA file in kohya's keys, or in diffusers'", "settings:ConvertConfig", "convert:convert"),
    "bench draft": Command(
        "the draft against other fills that need no weights: PSNR and time",
        "bench.settings:DraftBenchConfig",
        "bench.draft:bench_draft",
        "dev",
    ),
    "bench attention": Command(
        "region attention beside plain attention",
        "bench.settings:AttentionBenchConfig",
        "bench.attention:bench_attention",
    ),
    "bench precision": Command(
        "region attention in half precision, and beside FlexAttention",
        "bench.settings:PrecisionBenchConfig",
        "bench.precision:bench_precision",
    ),
    "bench guider": Command(
        "MASG and SARG beside ComfyUI's own guidance", "bench.settings:GuiderBenchConfig", "bench.guider:bench_guider"
    ),
    "bench layers": Command(
        "a row per person beside a plain batch and beside separate calls (MILD)",
        "bench.settings:LayersBenchConfig",
        "bench.layers:bench_layers",
    ),
    "bench onestep": Command(
        "erasing in one step beside its parts and beside 25 steps (OSOR)",
        "bench.settings:OneStepBenchConfig",
        "bench.one_step:bench_onestep",
    ),
    "bench train": Command(
        "a training step beside that of diffusers' example",
        "bench.settings:TrainBenchConfig",
        "bench.train:bench_train",
    ),
}

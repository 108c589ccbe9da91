"""The rows of the table: fills without a model, methods on checkpoints, and folders of pictures that others made.

A row is described here without PyTorch. `fillers.py` makes pictures of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from ....adapters.methods import DRAFT, LAYERS, METHODS, ONE_STEP, TRAINED_FOR, Start
from ...paths import MINI, RANDOM_SDXL, check_checkpoint, check_folder, recipe_of
from ...settings import RemoveConfig

RING = "ring median"
PAINT = (RING, "grey", "Telea", "shift map", "draft")
"""The fills that are in every table. Only the draft has a seed."""
ERASERS = (ONE_STEP, LAYERS)
"""Methods that are nothing without adapters of their own, which are put beside the base for their calls alone."""
NAMES = (DRAFT, *METHODS, *ERASERS)
OPTIONS = (
    *("strength", "prompt", "negative", "steps", "start", "denoise", "show_draft", "schedule", "cutoff", "suppression"),
    *("suppression_steps", "whole", "context", "feather", "grow"),
)
"""Options of `unclutter remove` that a method may be given."""
OWN = ("base", "adapters", "mask", "name")
NONE = "none"
"""In place of a name of adapters: the method without any."""
MaskGiven = Literal["object", "effect"]
NOWHERE = Path("-")


@dataclass(frozen=True)
class Defaults:
    """Options of every method that takes them, where its own are not given."""

    steps: int
    start: Start
    prompt: str
    negative: str
    whole: bool
    grow: float


@dataclass(frozen=True)
class Contestant:
    """One row of the table.

    Attributes:
        name: unique in a run.
        mask: the mask that it is given: the object, or the object with its shadow and reflection.
        grow: by how many percent of the object's size that mask is grown.
        seeded: whether another seed makes another picture.
    """

    name: str
    mask: MaskGiven = "object"
    grow: float = 0.0
    seeded: bool = True

    @property
    def network(self) -> tuple[str, str] | None:
        """The network that is loaded for it: the base and the adapters in it; rows that share it share one load."""
        return None

    def settings(self) -> dict[str, Any]:
        """All that decides its pictures, beside the pictures given and the seed."""
        return {"mask": self.mask, "grow": self.grow}


@dataclass(frozen=True)
class Painted(Contestant):
    """A fill that needs no model, by its name in `PAINT`."""

    fill: str = RING

    def settings(self) -> dict[str, Any]:
        return {"fill": self.fill, **super().settings()}


@dataclass(frozen=True)
class Made(Contestant):
    """Pictures that another program made, in a folder."""

    folder: Path = NOWHERE

    def settings(self) -> dict[str, Any]:
        return {"folder": str(self.folder.resolve())}


@dataclass(frozen=True)
class Sampled(Contestant):
    """A method of `unclutter remove` on a checkpoint, with all of its options."""

    options: RemoveConfig = RemoveConfig(NOWHERE, out=NOWHERE)  # noqa: RUF009 (it is frozen)

    @property
    def network(self) -> tuple[str, str]:
        shares = self.options.chosen_method() in ERASERS
        return str(self.options.base), "" if shares else str(self.options.adapters or "")

    def settings(self) -> dict[str, Any]:
        deciding = {key: value for key, value in self.options.deciding().items() if key != "seed"}
        return {**deciding, **super().settings()}


def contestants(
    base: Sequence[str], adapters: Sequence[str], methods: Sequence[str], results: Sequence[str], defaults: Defaults
) -> list[Contestant]:
    """All rows of a run, from its options: paint first, then the methods in the order given, then what others made.

    Raises:
        ValueError, FileNotFoundError: a method, a base or adapters that are not there, or do not go together.
    """
    bases = dict(named(each, "base", "CHECKPOINT or NAME=CHECKPOINT") for each in base)
    trained = dict(named(each, "adapters", "PATH or NAME=PATH") for each in adapters)
    for path in bases.values():
        if path not in (MINI, RANDOM_SDXL):
            check_checkpoint(path)
    recipes = {name: recipe_of(path) for name, path in trained.items()}
    if trained and not bases:
        raise ValueError("adapters are given without a base: give the checkpoint that they were trained on as --base.")
    rows: list[Contestant] = [Painted(name, grow=defaults.grow, seeded=name == DRAFT, fill=name) for name in PAINT]
    for spec in methods or default_methods(bases, recipes):
        rows += of_method(spec, defaults, bases, trained, recipes)
    for each in results:
        name, folder = named(each, "results", "NAME=FOLDER", needs_name=True)
        check_folder(folder, f"the pictures of {name}")
        rows.append(Made(name, folder=folder))
    names = [row.name for row in rows]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(
            f"Two rows of the table are called {twice[0]}: give one another name, as {twice[0]}:name=OTHER."
        )
    return rows


def default_methods(bases: dict[str, Path], recipes: dict[str, str]) -> list[str]:
    """All that the bases and adapters can do."""
    trained = [TRAINED_FOR.get(recipe, "plain") for recipe in recipes.values()]
    return list(dict.fromkeys([*METHODS, *trained])) if bases else []


def of_method(
    spec: str, defaults: Defaults, bases: dict[str, Path], adapters: dict[str, Path], recipes: dict[str, str]
) -> list[Contestant]:
    """The rows of one method: one for each base, and for each of the adapters that are for it."""
    method, options = parse(spec)
    if method == DRAFT:
        if options.keys() - {"mask", "grow", "name"}:
            raise ValueError(f"{spec}: a draft takes only mask, grow and name.")
        if not options:
            return []  # in the table anyway
        label = options.get("name") or described(DRAFT, options)
        return [Painted(label, options.get("mask", "object"), options.get("grow", defaults.grow), fill=DRAFT)]
    if not bases:
        raise ValueError(f"{method} needs a model: give a checkpoint as --base, or `--base mini` to try it.")
    for kind, known in (("base", bases), ("adapters", {**adapters, NONE: None})):
        if kind in options and options[kind] not in known:
            raise ValueError(f"{spec}: no {kind} is called {options[kind]}: expected one of {', '.join(known)}.")
    chosen_bases = [options["base"]] if "base" in options else list(bases)
    fitting = [name for name, recipe in recipes.items() if TRAINED_FOR.get(recipe, "plain") == method]
    if method in ERASERS and not fitting:
        raise ValueError(f"{method} needs an eraser that was trained for it: give one as --adapters.")
    without: list[str | None] = [] if method in ERASERS else [None]
    chosen_adapters = [*without, *fitting]
    if "adapters" in options:
        chosen_adapters = without if options["adapters"] == NONE else [options["adapters"]]
    rows = []
    for base in chosen_bases:
        for name in chosen_adapters:
            label = options.get("name") or described(method, options)
            label += f" + {name}" if name and len(chosen_adapters) > 1 else ""
            label += f" ({base})" if len(chosen_bases) > 1 else ""
            row = of_network(label, method, options, defaults, bases[base], adapters[name] if name else None)
            rows.append(row)
    return rows


def of_network(
    label: str, method: str, options: dict[str, Any], defaults: Defaults, base: Path, adapters: Path | None
) -> Contestant:
    mask, grow = options.get("mask", "object"), options.get("grow", defaults.grow)
    asked: dict[str, Any] = {"whole": defaults.whole and "context" not in options}
    if method in METHODS:
        asked |= {"steps": defaults.steps, "start": defaults.start}
        asked |= {"prompt": defaults.prompt, "negative": defaults.negative}
    asked |= {key: value for key, value in options.items() if key in OPTIONS}
    remove = RemoveConfig(NOWHERE, out=NOWHERE, base=base, adapters=adapters, method=method)
    remove = replace(remove, **{**asked, "grow": grow})
    try:
        remove.check_settings()
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None
    return Sampled(label, mask, grow, options=remove)


def described(method: str, options: dict[str, Any]) -> str:
    """A method's name, with the options that set it apart."""
    told = [
        f"{key.replace('_', ' ')} {value:g}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"
        for key, value in options.items()
        if key not in ("base", "adapters", "name")
    ]
    return ", ".join([method, *told])


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """A method's name and its options, each as its own type.

    Raises:
        ValueError: there is no such method or option, or a value is none for it.
    """
    method, _, rest = spec.partition(":")
    if method not in NAMES:
        raise ValueError(f"There is no method {method}: expected one of {', '.join(NAMES)}.")
    hints = get_type_hints(RemoveConfig)
    options: dict[str, Any] = {}
    for part in re.split(r",(?=\w+(?:=|,|$))", rest) if rest else []:
        key, equals, text = part.partition("=")
        if key not in OPTIONS + OWN:
            raise ValueError(f"{spec}: {method} has no option {key}: expected one of {', '.join(OPTIONS + OWN)}.")
        if key in OWN:
            if key == "mask" and text not in get_args(MaskGiven):
                raise ValueError(f"{spec}: mask is {text!r}, expected object or effect.")
            options[key] = text
            continue
        options[key] = read_value(hints[key], text if equals else "true", f"{spec}: {key}")
    return method, options


def read_value(kind: Any, text: str, what: str) -> Any:
    """A value of an option from its text, by the option's type."""
    kinds = [each for each in get_args(kind) if each is not type(None)] or [kind]
    words = [word for each in (kind, *kinds) for word in get_args(each) if isinstance(word, str)]
    if words:
        if text not in words:
            raise ValueError(f"{what} is {text!r}, expected one of {', '.join(words)}.")
        return text
    (simple,) = kinds
    if simple is bool:
        if text not in ("true", "false"):
            raise ValueError(f"{what} is {text!r}, expected true or false.")
        return text == "true"
    try:
        return simple(text)
    except ValueError:
        raise ValueError(f"{what} is {text!r}, expected a number.") from None


def named(text: str, option: str, form: str, needs_name: bool = False) -> tuple[str, Path]:
    """The name and the path of NAME=PATH; of a path alone, its last part without the ending."""
    name, equals, path = text.partition("=")
    if equals and name and path and "/" not in name:
        return name, Path(path)
    if needs_name:
        raise ValueError(f"{option} is {text}, expected {form}.")
    return Path(text).stem, Path(text)

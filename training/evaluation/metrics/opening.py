"""Opens metrics by name; one that cannot be opened is a gap with a sentence, never a zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ..raters.settings import JudgeOptions
from .facts import METRICS
from .metric import Metric
from .networks import NETWORKS, how_to_get


def open_metrics(
    names: Sequence[str],
    weights: Mapping[str, Path] | None = None,
    device: torch.device | str = "cpu",
    judge: JudgeOptions | None = None,
) -> tuple[list[Metric], dict[str, str]]:
    """The metrics of these names, and the gaps among them. A network that several need is loaded once.

    Args:
        names: in `facts.METRICS`.
        weights: path of each network's weights, or `networks.DOWNLOAD`, by its name in `networks.NETWORKS`.
        judge: the model that metrics of success ask.

    Returns:
        The metrics that were opened, in the order of `names`, and for each other one a sentence that says what is missing
        and how to get it.

    Raises:
        ValueError: there is no metric of a name.
    """
    if unknown := [name for name in names if name not in METRICS]:
        raise ValueError(f"There is no metric {unknown[0]}: expected {', '.join(METRICS)}.")
    networks = Networks(weights or {}, device, judge or JudgeOptions())
    opened, gaps = [], {}
    for name in dict.fromkeys(names):
        facts = METRICS[name]
        try:
            needed = [networks.get(network) for network in (JUDGE,) * facts.judged + facts.networks]
            opened.append(_import(facts.implementation, "raters" if facts.judged else "metrics")(facts, *needed))
        except ModuleNotFoundError as missing:
            gaps[name] = f'{name} needs {missing.name}: run `pip install -e ".[evaluate]"` in the pack\'s folder.'
        except MissingNetwork as missing:
            gaps[name] = f"{name} {missing}"
    return opened, gaps


JUDGE = "judge"
HOW_TO_JUDGE = (
    "give --judge.url with the address of an OpenAI-compatible server and --judge.model with a model's name there, or "
    "--judge.model with the folder of a vision-language model."
)


class MissingNetwork(Exception):
    """A network without weights; the message says what is missing and how to get it."""


class Networks:
    """Networks and the judge by name, each loaded when it is first asked for; one that failed is not tried again."""

    LOADERS = {
        "alexnet": "perceptual:AlexLpips",
        "inception": "inception:Inception",
        "clip": "clip:Clip",
        "clip-336": "clip:Clip",
        "dino": "dino:Dino",
        "dinov2": "dino:Dino",
        "sam": "sam:Sam",
    }
    SEVERAL = {"clip:Clip", "dino:Dino"}
    """Loaders of more than one network, which are told the name too."""

    def __init__(self, weights: Mapping[str, Path], device: torch.device | str, judge: JudgeOptions) -> None:
        self.weights, self.device, self.judge = weights, device, judge
        self.loaded: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """The network of a name.

        Raises:
            MissingNetwork: no weights were given, or they do not fit.
        """
        if name not in self.loaded:
            try:
                self.loaded[name] = self.open_judge() if name == JUDGE else self.load(name)
            except MissingNetwork as missing:
                self.loaded[name] = missing
        if isinstance(found := self.loaded[name], MissingNetwork):
            raise found
        return found

    def load(self, name: str) -> Any:
        title = NETWORKS[name].title
        if name not in self.weights:
            raise MissingNetwork(f"needs {title} ({NETWORKS[name].licence}): {how_to_get(name)}")
        loader = self.LOADERS[name]
        told = (name,) if loader in self.SEVERAL else ()
        try:
            return _import(loader, "metrics")(*told, self.weights[name], self.device)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise MissingNetwork(
                f"needs {title}, which cannot be loaded from {self.weights[name]} ({reason}): {how_to_get(name)}"
            ) from None

    def open_judge(self) -> Any:
        if not self.judge.given():
            raise MissingNetwork(f"needs a vision-language model: {HOW_TO_JUDGE}")
        try:
            return _import("judge:open_judge", "raters")(self.judge, str(self.device))
        except ConnectionError as error:
            raise MissingNetwork(f"needs a judge: {error}") from None


def _import(path: str, room: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(f"..{room}.{module}", __package__), name)

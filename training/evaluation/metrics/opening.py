"""Opens metrics by name; one that cannot be opened is a gap with a sentence, never a zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

import torch

from .facts import METRICS
from .metric import Metric


def open_metrics(
    names: Sequence[str], weights: Mapping[str, Path] | None = None, device: torch.device | str = "cpu"
) -> tuple[list[Metric], dict[str, str]]:
    """The metrics of these names, and the gaps among them.

    Args:
        names: in `facts.METRICS`.
        weights: path of each network's weights, by its name in `networks.NETWORKS`.

    Returns:
        The metrics that were opened, in the order of `names`, and for each other one a sentence that says what is missing
        and how to get it.

    Raises:
        ValueError: there is no metric of a name.
    """
    if unknown := [name for name in names if name not in METRICS]:
        raise ValueError(f"There is no metric {unknown[0]}: expected {', '.join(METRICS)}.")
    opened, gaps = [], {}
    for name in dict.fromkeys(names):
        facts = METRICS[name]
        module, kind = facts.implementation.split(":")
        try:
            implementation = getattr(import_module(f".{module}", __package__), kind)
        except ModuleNotFoundError as missing:
            gaps[name] = f'{name} needs {missing.name}: run `pip install -e ".[evaluate]"` in the pack\'s folder.'
            continue
        opened.append(implementation(facts))
    return opened, gaps

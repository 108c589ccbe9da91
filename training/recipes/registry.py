"""The recipes that `unclutter train` runs: where the settings and the objective of each are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A recipe in two modules of this room.

    Attributes:
        summary: one line about it in the list of commands.
        settings: module with a function `choose(arguments, prog)` that parses its settings; it imports no PyTorch.
        objective: module and class of the objective that `loop.train` trains.
    """

    summary: str
    settings: str
    objective: str


RECIPES = {
    "lrnr": Entry("a removal prompt and a LoRA (LRNR)", "lrnr_settings", "lrnr:LRNR"),
    "eradiff": Entry("a LoRA for the path on which the object fades (EraDiff)", "eradiff_settings", "eradiff:EraDiff"),
    "osor": Entry("erasing in one step, in two phases (OSOR)", "osor.settings", "osor.objective:OSOR"),
    "mild": Entry("a layer per person (MILD)", "mild_settings", "mild:MILD"),
}
"""By the name in `unclutter train NAME`."""

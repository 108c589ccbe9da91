"""What a node's schema says in every ComfyUI the pack runs in; one that is too old for a word leaves it out."""

from __future__ import annotations

import dataclasses

from comfy_api.latest import io


@dataclasses.dataclass
class Schema(io.Schema):
    """ComfyUI's schema, which has words for the search since 0.11."""

    search_aliases: list[str] = dataclasses.field(default_factory=list)


def advanced(widget: io.Input) -> io.Input:
    """The same widget, folded away under "advanced" where ComfyUI can (since 0.10)."""
    widget.extra_dict["advanced"] = True
    return widget

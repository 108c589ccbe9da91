"""Schemas that hold in every ComfyUI the pack runs in; one that is too old for a word leaves it out."""

from __future__ import annotations

import dataclasses

from comfy_api.latest import io


@dataclasses.dataclass
class Schema(io.Schema):
    """ComfyUI's schema, which has words for the search since 0.11 and a list of essential nodes since 0.18."""

    search_aliases: list[str] = dataclasses.field(default_factory=list)
    essentials_category: str | None = None


def advanced(widget: io.Input) -> io.Input:
    """Folds a widget away under "advanced", where ComfyUI can (since 0.10)."""
    widget.extra_dict["advanced"] = True
    return widget


def seed_widget(tooltip: str, **more: bool) -> io.Int.Input:
    """A widget "seed" with the range of core's; a new one after each run, unless `more` says otherwise."""
    more = more or {"control_after_generate": True}
    return io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, tooltip=tooltip, **more)


def fixed(widget: io.Input) -> io.Input:
    """Makes a seed stay as it is after a run. ComfyUI 0.3.64 has no argument for that when the widget is made."""
    widget.extra_dict["control_after_generate"] = "fixed"
    return widget


def choice(name: str, options: dict[str, list[io.Input]], tooltip: str) -> list[io.Input]:
    """A drop-down whose options bring widgets of their own, as ComfyUI can since 0.8.

    Before, it is a plain drop-down with the widgets of all options behind it. `chosen` reads both.
    """
    dynamic = getattr(io, "DynamicCombo", None)
    if dynamic is None:
        widgets = [advanced(widget) for own in options.values() for widget in own]
        return [io.Combo.Input(name, options=list(options), tooltip=tooltip), *widgets]
    return [dynamic.Input(name, [dynamic.Option(key, own) for key, own in options.items()], tooltip=tooltip)]


def chosen(name: str, value: str | dict, others: dict) -> dict:
    """The value of a `choice` and of its option's widgets, those that were set, by their names; `others` holds the widgets
    where they are inputs of the node itself."""
    picked = value if isinstance(value, dict) else {name: value, **others}
    return {key: setting for key, setting in picked.items() if setting is not None}


def check_limits(node: type[io.ComfyNode], **values: float) -> None:
    """Raises a ValueError where a number is outside of the limits that the node's schema gives its input: ComfyUI checks
    what is typed into a widget, but not what comes through a link."""
    numbers = (widget for widget in node.define_schema().inputs if isinstance(widget, io.Int.Input | io.Float.Input))
    limits = {widget.id: (widget.min, widget.max) for widget in numbers}
    for name, value in values.items():
        low, high = limits[name]
        if low is None or high is None or not low <= value <= high:
            raise ValueError(f"{name} is {value}: it must lie between {shown(low)} and {shown(high)}.")


def shown(limit: float | None) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)

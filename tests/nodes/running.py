"""Calling a node as a graph does: whatever is not given has the value that a fresh node shows.

ComfyUI must be importable (the `comfy` fixture) before `run_node` is called.
"""

from __future__ import annotations

import inspect
from typing import Any


def run_node(node: Any, *links: Any, **named: Any) -> tuple:
    """The outputs of a node.

    Args:
        links: what comes through its sockets, in the order of `execute`; those that are named are passed over.
        named: its widgets, the others at the defaults of its schema, and sockets.
    """
    from comfy_api.latest import io

    widgets = {each.id: shown_by(each) for each in node.GET_SCHEMA().inputs if isinstance(each, io.WidgetInput)}
    sockets = [name for name in inspect.signature(node.execute).parameters if name not in widgets.keys() | named.keys()]
    assert len(links) <= len(sockets), f"{node.__name__} has the sockets {sockets}, and {len(links)} values came"
    return node.execute(**{**widgets, **dict(zip(sockets, links, strict=False)), **named}).args


def shown_by(widget: Any) -> Any:
    """The value of a widget that nobody has touched: its default, or the first of a list."""
    options = getattr(widget, "options", None)
    return options[0] if options and widget.default is None else widget.default

"""Unclutter: remove objects from pictures inside ComfyUI.

This is the door for ComfyUI, and the root of the package `unclutter` for scripts and tests; nothing is imported at load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> ComfyExtension:
    """Called once by ComfyUI at start-up: the extension that lists the pack's nodes."""
    from comfy_api.latest import ComfyExtension

    from .nodes import NODES
    from .nodes.host.examples import offer_example_pictures

    class UnclutterExtension(ComfyExtension):
        async def on_load(self) -> None:
            offer_example_pictures()

        async def get_node_list(self) -> list[type]:
            return list(NODES)

    return UnclutterExtension()

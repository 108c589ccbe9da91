"""Words on a node in the page, while and after it runs."""

from __future__ import annotations

import logging
from typing import Any


def tell(node: Any, text: str, warning: bool = False) -> None:
    """Shows a text on the node that runs (a V3 class with the hidden input unique_id), and warnings in the log too.

    Outside of a graph, where the node has no id, there is no page to show it in.
    """
    if warning:
        logging.warning(text)
    node_id = getattr(node.hidden, "unique_id", None)
    if node_id is not None:
        from server import PromptServer

        PromptServer.instance.send_progress_text(text, node_id)

"""Words on a node in the page, while and after it runs."""

from __future__ import annotations

import logging
from typing import Any

import comfy.patcher_extension

from .facts import inpaints, mini_side


def tell(node: Any, text: str, warning: bool = False) -> None:
    """Shows a text on the node that runs (a V3 class with the hidden input unique_id), and warnings in the log too.

    Outside of a graph, where the node has no id, there is no page to show it in.
    """
    if warning:
        logging.getLogger("unclutter").warning(text)
    node_id = getattr(node.hidden, "unique_id", None)
    if node_id is not None:
        from server import PromptServer

        PromptServer.instance.send_progress_text(text, node_id)


def warn_of_empty_masks(node: Any, masks: Any) -> None:
    """Names the masks [B,H,W] that mark nothing: their pictures come out as they went in."""
    empty = (~masks.flatten(1).any(dim=1)).nonzero().flatten().tolist()
    if empty:
        named = ", ".join(str(index + 1) for index in empty[:8]) + (", ..." if len(empty) > 8 else "")
        few = (
            f"Mask {named} of {len(masks)} is empty, and its picture comes"
            if len(empty) == 1
            else (f"Masks {named} of {len(masks)} are empty, and their pictures come")
        )
        tell(node, f"{few} out unchanged.", warning=True)


def spoiled_photograph(part: Any, height: int, width: int) -> str:
    """One sentence for the artist where the mini model gets a picture that cannot be one of its scenes, else "".

    Args:
        part: a MODEL or a VAE, or the side in pixels of the scenes that the mini model is trained on.
        height, width: of the picture, in pixels.
    """
    side = part if isinstance(part, int) else mini_side(part)
    if side is None or max(height, width) <= 4 * side:
        return ""
    return (
        f"The mini model is a toy that knows drawn scenes of {side}×{side}, and this picture is {width}×{height}: a "
        "photograph comes out spoiled. Connect a real checkpoint, or take a draft, which needs no model."
    )


def warn_of_photograph(node: Any, part: Any, height: int, width: int) -> None:
    """Shows the sentence of `spoiled_photograph` on the node that runs, where there is one."""
    if warning := spoiled_photograph(part, height, width):
        tell(node, warning, warning=True)


def warn_where_all_is_redrawn(model: Any, node: Any, name: str) -> None:
    """Makes a model that the node `name` patched warn in a run where nothing holds the picture outside of the mask."""

    def check(
        executor: Any, noise: Any, latent: Any, sampler: Any, sigmas: Any, mask: Any = None, *rest: Any, **more: Any
    ) -> Any:
        conds = [cond for group in executor.class_obj.conds.values() for cond in group]
        is_shown = inpaints(model.model) and any("concat_latent_image" in cond for cond in conds)
        if mask is None and not is_shown:
            tell(
                node,
                f"{name}: the latent has no noise mask, so the whole picture will be redrawn and not only what the mask marks. "
                "Connect the latent of Removal Conditioning to the sampler, or put Set Latent Noise Mask before it.",
                warning=True,
            )
        return executor(noise, latent, sampler, sigmas, mask, *rest, **more)

    kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    model.add_wrapper_with_key(kind, "unclutter_unmasked", check)

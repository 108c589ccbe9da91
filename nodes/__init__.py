"""ComfyUI nodes: thin V3 classes over `kernels`. `host/` alone touches ComfyUI's internals."""

from . import (
    attention,
    compose,
    conditioning,
    draft,
    example,
    guidance,
    layers,
    masks,
    mini,
    morphology,
    onestep,
    prompt,
    remove,
)

NODES = [
    *remove.NODES,
    *draft.NODES,
    *masks.NODES,
    *conditioning.NODES,
    *guidance.NODES,
    *attention.NODES,
    *example.NODES,
    *mini.NODES,
    *prompt.NODES,
    *onestep.NODES,
    *layers.NODES,
    *morphology.NODES,
    *compose.NODES,
]

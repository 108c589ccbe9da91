"""ComfyUI nodes: thin V3 classes over `kernels`. `host/` alone touches ComfyUI's internals."""

from . import attention, conditioning, guidance, masks, mini, prompt

NODES = [*masks.NODES, *conditioning.NODES, *guidance.NODES, *attention.NODES, *mini.NODES, *prompt.NODES]

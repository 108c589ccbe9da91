"""ComfyUI nodes: thin V3 classes over `kernels`. `host.py` alone touches ComfyUI's internals."""

from . import attention, conditioning, guidance, masks

NODES = [*masks.NODES, *conditioning.NODES, *guidance.NODES, *attention.NODES]

"""All that the pack touches of ComfyUI's internals. Nothing of ComfyUI is replaced.

Masks here have been through `normalize_mask`: float [masks, H, W] of 0 and 1, where 1 is removed.
"""

from .attention import RegionPatch, with_region_attention, with_removal_guidance
from .common import Progress, check_number, normalize_mask, set_condition_image, sigma_range, tracked
from .guider import MASGGuider
from .layered import Rows, load_layered
from .mini import load_mini
from .onestep import OneStepSampler, adapter_files, adapter_path, erase_latent, eraser_of, with_one_step
from .prompt import embedding_files, embedding_path, encode_with_vectors
from .rows import SAMPLERS, SCHEDULERS, lora_files, next_output_file, sample_layers, stack_conditionings

__all__ = [
    "MASGGuider",
    "OneStepSampler",
    "Progress",
    "RegionPatch",
    "Rows",
    "SAMPLERS",
    "SCHEDULERS",
    "adapter_files",
    "adapter_path",
    "check_number",
    "embedding_files",
    "embedding_path",
    "encode_with_vectors",
    "erase_latent",
    "eraser_of",
    "load_layered",
    "load_mini",
    "lora_files",
    "next_output_file",
    "normalize_mask",
    "sample_layers",
    "set_condition_image",
    "sigma_range",
    "stack_conditionings",
    "tracked",
    "with_one_step",
    "with_region_attention",
    "with_removal_guidance",
]

"""All that the pack touches of ComfyUI's internals. Nothing of ComfyUI is replaced.

Masks here have been through `binary_mask`: float [masks, H, W] of 0 and 1, where 1 is removed.
"""

from .attention import RegionPatch, with_region_attention
from .common import (
    Progress,
    add_references,
    binary_mask,
    encode,
    set_condition_image,
    sigma_range,
    tracked,
    with_frame,
)
from .facts import Facts, facts_of, prompt_of_training
from .files import embedding_files, file_path, layered_files, lora_files, next_output_file, one_step_files
from .guider import MASGGuider
from .layered import LayeredModel, Rows, load_layered
from .mini import load_mini
from .notice import spoiled_photograph, tell, warn_of_empty_masks, warn_of_photograph, warn_where_all_is_redrawn
from .onestep import Eraser, OneStepSampler, erase_latent, eraser_of, with_one_step
from .prompt import encode_with_vectors
from .redirection import with_removal_guidance
from .rows import SAMPLERS, SCHEDULERS, sample_layers, stack_conditionings
from .sampling import decode, encode_text, guided, sample_latent, with_lora

__all__ = [
    "Eraser",
    "Facts",
    "MASGGuider",
    "LayeredModel",
    "OneStepSampler",
    "Progress",
    "RegionPatch",
    "Rows",
    "SAMPLERS",
    "SCHEDULERS",
    "add_references",
    "binary_mask",
    "decode",
    "embedding_files",
    "encode",
    "encode_text",
    "encode_with_vectors",
    "erase_latent",
    "eraser_of",
    "facts_of",
    "file_path",
    "guided",
    "layered_files",
    "load_layered",
    "load_mini",
    "lora_files",
    "next_output_file",
    "one_step_files",
    "prompt_of_training",
    "sample_latent",
    "sample_layers",
    "set_condition_image",
    "sigma_range",
    "spoiled_photograph",
    "stack_conditionings",
    "tell",
    "tracked",
    "warn_of_empty_masks",
    "warn_of_photograph",
    "warn_where_all_is_redrawn",
    "with_frame",
    "with_lora",
    "with_one_step",
    "with_region_attention",
    "with_removal_guidance",
]

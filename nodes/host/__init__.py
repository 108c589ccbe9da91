"""All that the pack touches of ComfyUI's internals. Nothing of ComfyUI is replaced.

Masks here have been through `normalize_mask`: float [masks, H, W] of 0 and 1, where 1 is removed.
"""

from .attention import RegionPatch, with_region_attention, with_removal_guidance
from .common import check_number, normalize_mask, set_condition_image, sigma_range
from .guider import MASGGuider
from .mini import load_mini
from .prompt import embedding_files, embedding_path, encode_with_vectors

__all__ = [
    "MASGGuider",
    "RegionPatch",
    "check_number",
    "embedding_files",
    "embedding_path",
    "encode_with_vectors",
    "load_mini",
    "normalize_mask",
    "set_condition_image",
    "sigma_range",
    "with_region_attention",
    "with_removal_guidance",
]

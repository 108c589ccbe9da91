"""The names that trainers give to the modules of Stable Diffusion's networks, and diffusers' paths of them.

diffusers: `unet.mid_block.attentions.0.proj_in`. kohya: the same with underscores, or ldm's path with underscores, as
its SDXL trainer writes: `lora_unet_middle_block_1_proj_in`. ComfyUI: `diffusion_model.middle_block.1.proj_in`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

QKV = ("to_q", "to_k", "to_v")
"""Projections of an attention layer to queries, keys and values, by diffusers' names."""
Style = Literal["kohya", "diffusers"]
"""Trainers by whose keys a LoRA file is written."""

PREFIXES = {
    "lora_unet_": "unet.",
    "lora_te_": "text_encoder.",
    "lora_te1_": "text_encoder.",
    "lora_te2_": "text_encoder_2.",
    "diffusion_model.": "unet.",
}
PARTS = ("unet.", "text_encoder.", "text_encoder_2.")
OLD_NAMES = {
    "attn1.to_out": "attn1.to_out.0",
    "attn2.to_out": "attn2.to_out.0",
    "self_attn.to_q": "self_attn.q_proj",
    "self_attn.to_k": "self_attn.k_proj",
    "self_attn.to_v": "self_attn.v_proj",
    "self_attn.to_out": "self_attn.out_proj",
}
"""Ends of module paths that older diffusers wrote otherwise than the networks name them."""
NAMES = (
    "add_embedding",
    "conv_in",
    "conv_out",
    "conv_shortcut",
    "down_blocks",
    "linear_1",
    "linear_2",
    "mid_block",
    "out_proj",
    "proj_in",
    "proj_out",
    "self_attn",
    "text_model",
    "text_projection",
    "time_emb_proj",
    "time_embedding",
    "to_k",
    "to_out",
    "to_q",
    "to_v",
    "transformer_blocks",
    "up_blocks",
)
"""Parts of diffusers' and transformers' module paths that hold an underscore; kohya writes dots as underscores too."""
_SEGMENT = re.compile("|".join([*(f"{name}(?=_|$)" for name in NAMES), "[qkv]_proj(?=_|$)", "[^_]+"]))
_KNOWN = re.compile(
    r"unet\.(down_blocks|mid_block|up_blocks|conv_in|conv_out|time_embedding|add_embedding)\b"
    r"|text_encoder(_2)?\.(text_model|text_projection)\b"
)

LDM_SINGLE = {
    "input_blocks_0_0": "conv_in",
    "time_embed_0": "time_embedding.linear_1",
    "time_embed_2": "time_embedding.linear_2",
    "label_emb_0_0": "add_embedding.linear_1",
    "label_emb_0_2": "add_embedding.linear_2",
    "out_0": "conv_norm_out",
    "out_2": "conv_out",
}
LDM_RESNET = {
    "in_layers_0": "norm1",
    "in_layers_2": "conv1",
    "emb_layers_1": "time_emb_proj",
    "out_layers_0": "norm2",
    "out_layers_3": "conv2",
    "skip_connection": "conv_shortcut",
}
LDM_BLOCKS = 3
"""Blocks of a level in ldm's numbering: two of layers and one that halves the size; on the way up, three of layers."""
_LDM = re.compile(r"(?:(input|output)_blocks_(\d+)|middle_block)_(\d)_(.+)")
LDM_UNET = "model.diffusion_model."
"""The start of a UNet's keys in ldm's checkpoints."""
_DIFFUSERS = re.compile(r"(down|mid|up)_blocks?(?:\.(\d+))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")


def module_of(name: str) -> str | None:
    """Part and diffusers' path of a module, from its name in any of the styles; None where it is none of the SD family's."""
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
    if prefix:
        path = name.removeprefix(prefix).replace(".", "_")
        module = PREFIXES[prefix] + (from_ldm(path) or with_dots(path))
    else:
        module = name.removeprefix("base_model.model.").replace(".processor.", ".")
        for old, new in OLD_NAMES.items():
            if module.endswith(f".{old}"):
                module = module.removesuffix(old) + new
        if not module.startswith(PARTS):
            module = f"unet.{module}"
        # transformers 5 dropped `text_model` from one of the two encoders' paths; ComfyUI and older files have it.
        module = re.sub(r"^(text_encoder(?:_2)?)\.encoder\.layers\.", r"\1.text_model.encoder.layers.", module)
    return module if _KNOWN.match(module) else None


def from_ldm(path: str) -> str | None:
    """diffusers' path of a module of the UNets of SD 1.5, SD 2 and SDXL, from ldm's with underscores for dots."""
    if path in LDM_SINGLE:
        return LDM_SINGLE[path]
    if not (match := _LDM.fullmatch(path)):
        return None
    way, number, place, rest = match.groups()
    if way == "input":
        level, layer = divmod(int(number) - 1, LDM_BLOCKS)
        block, sampler = f"down_blocks.{level}", ("op", "downsamplers.0.conv")
    elif way == "output":
        level, layer = divmod(int(number), LDM_BLOCKS)
        block, sampler = f"up_blocks.{level}", ("conv", "upsamplers.0.conv")
    else:
        block, sampler, layer = "mid_block", ("", ""), int(place) // 2
    if rest == sampler[0]:
        return f"{block}.{sampler[1]}"
    if rest in LDM_RESNET:
        return f"{block}.resnets.{layer}.{LDM_RESNET[rest]}"
    return f"{block}.attentions.{layer}.{with_dots(rest)}"


def with_dots(path: str) -> str:
    """kohya's underscores between the parts of a path as dots."""
    return ".".join(_SEGMENT.findall(path))


def ldm_keys(keys: Iterable[str]) -> dict[str, str]:
    """ldm's key of each weight of a UNet, by diffusers' key; some networks, such as SD 2-inpainting, ComfyUI knows by
    ldm's keys alone.

    Args:
        keys: of the whole network, for they say how many blocks a level has.
    """
    keys = list(keys)
    layers = len({key.split(".")[3] for key in keys if key.startswith("down_blocks.0.resnets.")})
    attentive = {key.split(".attentions.")[0] for key in keys if ".attentions." in key}
    single, resnet = ({path: _numbered(name) for name, path in names.items()} for names in (LDM_SINGLE, LDM_RESNET))
    renamed = {}
    for key in keys:
        module, _, kind = key.rpartition(".")
        if not (match := _DIFFUSERS.fullmatch(module)):
            renamed[key] = f"{LDM_UNET}{single[module]}.{kind}"
            continue
        way, level, part, index, rest = match.groups()
        rest = resnet.get(rest, rest)
        if way == "mid":
            block = f"middle_block.{2 * int(index) + (part == 'attentions')}"
        elif part == "downsamplers":
            block, rest = f"input_blocks.{(int(level) + 1) * (layers + 1)}.0", "op"
        elif part == "upsamplers":  # in the level's last block, behind what else is in it
            block = f"output_blocks.{int(level) * (layers + 1) + layers}.{1 + (f'up_blocks.{level}' in attentive)}"
        else:
            number = int(level) * (layers + 1) + int(index)
            block = f"input_blocks.{number + 1}" if way == "down" else f"output_blocks.{number}"
            block += ".1" if part == "attentions" else ".0"
        renamed[key] = f"{LDM_UNET}{block}.{rest}.{kind}"
    return renamed


def _numbered(name: str) -> str:
    """in_layers_0 as in_layers.0"""
    return re.sub(r"_(\d+)", r".\1", name)

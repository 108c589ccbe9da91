"""The layout of the tokens of each transformer that ComfyUI knows, and how its makers sample it.

A family is known by the class of its network. Its record says through which blocks the picture passes and where its
tokens lie among those of the text and of reference pictures. A network that is not here is refused: to add one, add its
record and a row in `tests/nodes/test_families.py`, which tells whether the record is right.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from .own_attention import Projected, ernie, hunyuan_dit, pixart


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one family's transformer lays out its tokens.

    name        what an artist calls it
    blocks      its lists of blocks through which the picture passes, in the order in which it does
    patch       side of a token in cells of the latent, or the network's attribute that tells it
    first       the picture's tokens come before all others; else they come after the text, with reference pictures of
                `reference_image_num_tokens` behind them
    pad         the network's attribute that tells to which multiple the picture's tokens are filled up
    encoder     the lists that count as the encoder; without any, the first third of all blocks does
    text        (network, text features [B, tokens, ...]) -> how many tokens of text stand beside the picture's, where that
                is known; a call that has another number of them is refused, as something has joined the sequence
    aside       names of modules within a block whose attention is not over the picture (cross-attention)
    own         the name of a block's attention that ComfyUI calls without options, and how it projects (`own_attention.py`)
    steps       as its makers sample
    guidance    by which its makers guide it
    few_steps   as its makers sample its version for few steps, unguided, where that is as common as the base model and
                nothing in its file tells them apart
    version     (network) -> the fields that are otherwise in the version of the family that this network is
    refused     arguments of the network which lay the tokens out in another way, and what an artist calls them
    """

    name: str
    blocks: tuple[str, ...]
    patch: int | str = "patch_size"
    first: bool = False
    pad: str | None = None
    encoder: tuple[str, ...] = ()
    text: Callable[[Any, Tensor], int] | None = None
    aside: tuple[str, ...] = ()
    own: tuple[str, Callable[..., Projected]] | None = None
    steps: int = 30
    guidance: float = 4.0
    few_steps: int | None = None
    version: Callable[[Any], dict[str, Any]] | None = None
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def lists(self, network: Any) -> list[tuple[str, Any]]:
        """(part, block) of every block, in order; part is input, middle or output, as a UNet has them."""
        found = [(name, block) for name in self.blocks for block in network.get_submodule(name)]
        if self.encoder:
            return [("input" if name in self.encoder else "output", block) for name, block in found]
        thirds = ("input", "middle", "output")
        return [(thirds[3 * index // len(found)], block) for index, (_, block) in enumerate(found)]

    def grid(self, network: Any, x: Tensor) -> tuple[int, int]:
        """Rows and columns of tokens of the latent x [B, C, h, w] or [B, C, 1, h, w]."""
        patch = self.patch if isinstance(self.patch, int) else getattr(network, self.patch)
        patch = patch if isinstance(patch, int) else patch[-1]
        return math.ceil(x.shape[-2] / patch), math.ceil(x.shape[-1] / patch)

    def around(self, network: Any, keys: int, picture: int, context: Tensor | None, call: Mapping) -> tuple[int, int]:
        """How many of `keys` tokens come before and after the `picture`'s, in one call of the network's attention.

        call        the network's arguments, and `reference_image_num_tokens` where it tells them

        Raises:
            ValueError: the numbers do not fit this layout.
        """
        if self.first:
            before, after = 0, keys - picture
            text = after
        else:
            behind = sum(call.get("reference_image_num_tokens") or ())
            if (patches := call.get("ref_patches")) is not None:
                behind += patches.shape[1]
            multiple = (self.pad and getattr(network, self.pad)) or 1
            after = behind + -picture % multiple
            text = before = keys - picture - after
        if before < 0 or after < 0 or not self.is_text(network, text, context, call):
            raise ValueError(
                f"An attention layer of {self.name} has {keys} tokens, of which {picture} are the picture's, and the others "
                "are not as many as its text and reference pictures have: another node has added some, or this ComfyUI "
                "lays them out in a new way. Remove such a node; without one, please report it with your ComfyUI's version."
            )
        return before, after

    def is_text(self, network: Any, tokens: int, context: Tensor | None, call: Mapping) -> bool:
        """Whether so many `tokens` can be those of the text: all of them, or none in a layer without."""
        if self.text is None or context is None or tokens == 0:
            return True
        # Some families put reference pictures between the text and the picture, and do not tell how many tokens they are.
        if call.get("ref_latents") and not call.get("reference_image_num_tokens"):
            return True
        return tokens == self.text(network, context)


def as_many(network: Any, context: Tensor) -> int:
    return context.shape[1]


def none(network: Any, context: Tensor) -> int:
    """The text comes in by cross-attention."""
    return 0


def padded(network: Any, context: Tensor) -> int:
    multiple = network.pad_tokens_multiple or 1
    return math.ceil(context.shape[1] / multiple) * multiple


def version_of_flux(network: Any) -> dict[str, Any]:
    if not getattr(network.params, "global_modulation", False):
        return {}
    if network.params.guidance_embed:
        return {"name": "FLUX.2", "steps": 20, "guidance": 1.0}
    return {"name": "FLUX.2 Klein", "steps": 20, "guidance": 5.0, "few_steps": 4}


def version_of_lumina(network: Any) -> dict[str, Any]:
    if network.pad_tokens_multiple is None:
        return {"name": "Lumina 2"}
    return {"name": "Z-Image", "steps": 25, "few_steps": 8}


FLUX = Layout("FLUX", ("double_blocks", "single_blocks"), encoder=("double_blocks",), text=as_many)
QWEN = Layout("Qwen-Image", ("transformer_blocks",), text=as_many, steps=20, guidance=2.5)
OMNIGEN = Layout("OmniGen2", ("noise_refiner", "layers"), text=as_many, steps=50, guidance=5.0)
COSMOS = Layout("Cosmos Predict2", ("blocks",), patch="patch_spatial", text=none, aside=("cross_attn",))

LAYOUTS = {
    "flux.model.Flux": dataclasses.replace(FLUX, version=version_of_flux),
    "chroma.model.Chroma": dataclasses.replace(FLUX, name="Chroma"),
    "chroma_radiance.model.ChromaRadiance": dataclasses.replace(FLUX, name="Chroma Radiance"),
    "qwen_image.model.QwenImageTransformer2DModel": QWEN,
    "mage_flow.model.MageFlowTransformer2DModel": dataclasses.replace(QWEN, name="Mage-Flow"),
    "modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper": Layout(
        "Stable Diffusion 3",
        ("joint_blocks",),
        text=lambda network, context: context.shape[1] + network.register_length,
        steps=28,
        guidance=4.5,
    ),
    "aura.mmdit.MMDiT": Layout(
        "AuraFlow",
        ("double_layers", "single_layers"),
        text=lambda network, context: context.shape[1] + network.register_tokens.shape[1],
    ),
    # Its latent comes packed, so that a token is one cell of it whatever the network calls its patch.
    "ideogram4.model.Ideogram4Transformer2DModel": Layout("Ideogram 4", ("layers",), patch=1, text=as_many),
    # A second text encoder may add to its text.
    "hunyuan_video.model.HunyuanVideo": dataclasses.replace(FLUX, name="HunyuanImage 2.1", text=None),
    "lumina.model.NextDiT": Layout(
        "Lumina 2 and Z-Image",
        ("noise_refiner", "layers"),
        pad="pad_tokens_multiple",
        text=padded,
        version=version_of_lumina,
    ),
    "krea2.model.SingleStreamDiT": Layout("Krea 2", ("blocks",), patch="patch", text=as_many),
    "omnigen.omnigen2.OmniGen2Transformer2DModel": OMNIGEN,
    "boogu.model.BooguTransformer2DModel": dataclasses.replace(
        OMNIGEN, name="Boogu", blocks=("noise_refiner", "double_stream_layers", "single_stream_layers")
    ),
    "pixeldit.model.PixDiT_T2I": Layout(
        "PixelDiT",
        ("patch_blocks", "pixel_blocks"),
        text=lambda network, context: min(context.shape[1], network.txt_max_length),
    ),
    "hidream_o1.model.HiDreamO1Transformer": Layout("HiDream-O1", ("language_model.layers",)),
    "hidream.model.HiDreamImageTransformer2DModel": Layout(
        "HiDream-I1",
        ("double_stream_blocks", "single_stream_blocks"),
        first=True,
        encoder=("double_stream_blocks",),
        steps=50,
        guidance=5.0,
        refused={"image_cond": "the picture that HiDream-E1 is shown beside it"},
    ),
    "ernie.model.ErnieImageModel": Layout(
        "ERNIE-Image",
        ("layers",),
        first=True,
        text=as_many,
        own=("self_attention", ernie),
        steps=20,
        few_steps=8,
    ),
    "pixart.pixartms.PixArtMS": Layout("PixArt", ("blocks",), text=none, own=("attn", pixart), steps=20, guidance=4.5),
    "hydit.models.HunYuanDiT": Layout(
        "HunyuanDiT", ("blocks",), text=none, own=("attn1", hunyuan_dit), steps=50, guidance=6.0
    ),
    "joyimage.model.JoyImageTransformer3DModel": Layout("JoyImage", ("double_blocks",), first=True),
    "lens.model.LensTransformer2DModel": Layout("Lens", ("transformer_blocks",), patch=1, first=True),
    "cosmos.predict2.MiniTrainDIT": COSMOS,
    "anima.model.Anima": dataclasses.replace(COSMOS, name="Anima"),
    "kandinsky5.model.Kandinsky5": Layout(
        "Kandinsky 5", ("visual_transformer_blocks",), text=none, aside=("cross_attention",)
    ),
    "wan.model.WanModel": Layout(
        "Wan 2",
        ("blocks",),
        text=none,
        aside=("cross_attn",),
        refused={"context_latents": "a reference among its tokens"},
    ),
}
"""By the class of the network, under `comfy.ldm`."""


def layout_of(network: Any) -> Layout | None:
    """The layout of a transformer, or None where its family is not known. A class derived from a known one is another
    family, as it may lay out its tokens otherwise."""
    kind = type(network)
    layout = LAYOUTS.get(f"{kind.__module__.removeprefix('comfy.ldm.')}.{kind.__name__}")
    return dataclasses.replace(layout, **layout.version(network)) if layout and layout.version else layout

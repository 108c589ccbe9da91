"""The mini model: graphs run and tests pass with nothing downloaded."""

from __future__ import annotations

from comfy_api.latest import io

from ..adapters import mini
from . import host
from .schema import Schema

LORAS = {"EraDiff": "unclutter-mini-eradiff.safetensors", "LRNR": "unclutter-mini-lrnr.safetensors"}


class LoadMini(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterLoadMini",
            display_name="Load Mini Model",
            category="Unclutter/loaders",
            description=(
                "Loads the pack's own tiny inpainting model, for trying graphs without a download. It has seen nothing "
                "but drawn scenes of 64×64 pixels: it shows how a method behaves, and knows no photographs."
            ),
            search_aliases=["test model", "tiny model", "demo model"],
            inputs=[
                io.Combo.Input(
                    "lora",
                    display_name="LoRA of its training",
                    options=["none", *LORAS],
                    default="none",
                    optional=True,
                    tooltip="Puts a LoRA on the model that was trained for removal on it: EraDiff's, to be used with "
                    "Self-Rectifying Attention, or LRNR's, to be used with the removal prompt unclutter-mini-lrnr.",
                )
            ],
            outputs=[
                io.Model.Output("MODEL", display_name="model", tooltip="An inpainting network with SDXL's structure."),
                io.Clip.Output("CLIP", display_name="clip", tooltip="Its text encoder; it knows some forty words."),
                io.Vae.Output("VAE", display_name="vae", tooltip="Its VAE. A latent cell covers 4×4 pixels."),
            ],
        )

    @classmethod
    def execute(cls, lora: str = "none") -> io.NodeOutput:
        model, clip, vae = host.load_mini(mini.load())
        if lora != "none":
            model = host.with_lora(model, LORAS[lora])
        return io.NodeOutput(model, clip, vae)


NODES = [LoadMini]

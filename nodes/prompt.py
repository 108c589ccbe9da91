"""A learned removal prompt as conditioning."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..adapters import prompt
from . import host
from .schema import Schema

ORDERS = ("as trained", "prompt first", "words first")


class LoadRemovalPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="UnclutterLoadRemovalPrompt",
            display_name="Load Removal Prompt",
            category="Unclutter/loaders",
            description=(
                "Loads a learned prompt that means: nothing is here. It comes from models/embeddings, made by LRNR "
                "training, or is PowerPaint's text encoder with its task prompts."
            ),
            search_aliases=["lrnr", "textual inversion", "embedding", "powerpaint"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoders of the model that the prompt was trained on."),
                io.Combo.Input(
                    "file",
                    options=host.embedding_files(),
                    tooltip="A .safetensors file in models/embeddings. unclutter-mini-lrnr comes with the pack, for the "
                    "mini model.",
                ),
                io.Boolean.Input(
                    "enhancers",
                    display_name="quality words",
                    default=True,
                    tooltip="On: the quality words that the prompt was trained beside stand beside it (LRNR's P_enh). "
                    "Off: the learned vectors alone.",
                ),
                io.Combo.Input(
                    "order",
                    display_name="learned words stand",
                    options=list(ORDERS),
                    default="as trained",
                    tooltip="The learned vectors before the words, or after them.",
                ),
                io.String.Input(
                    "background",
                    display_name="words for background",
                    default="",
                    tooltip="More words, after the quality words: what is to be seen in the hole. Empty as trained. "
                    "(word:1.2) weighs a word; embedding: does not work here.",
                ),
                io.String.Input(
                    "negative_text",
                    display_name="negative prompt",
                    default="",
                    tooltip="The negative prompt in words. Empty as trained. (word:1.2) weighs a word; embedding: does not "
                    "work here.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("POSITIVE", display_name="positive", tooltip="The removal prompt."),
                io.Conditioning.Output(
                    "NEGATIVE",
                    display_name="negative",
                    tooltip="The negative prompt, with PowerPaint's object prompt behind it where the file has one.",
                ),
                io.String.Output(
                    "INFO", display_name="info", tooltip="How the file was trained, and what goes with it."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: Any) -> int:
        """A file that a new training wrote over is read again."""
        return host.file_path("embeddings", file).stat().st_mtime_ns

    @classmethod
    def execute(
        cls, clip: io.Clip.Type, file: str, enhancers: bool, order: str, background: str, negative_text: str
    ) -> io.NodeOutput:
        if clip is None:
            raise ValueError("clip is empty: the checkpoint holds no text encoder, load one with Load CLIP.")
        learned = prompt.load(host.file_path("embeddings", file))
        first = learned.prompt_first if order == "as trained" else order == "prompt first"
        words = f"{', '.join(learned.enhancers) if enhancers else ''} {background}".strip()
        before, after = ("", words) if first else (words, "")
        return io.NodeOutput(
            host.encode_with_vectors(clip, learned.vectors, before, after),
            host.encode_with_vectors(clip, learned.negative, negative_text, ""),
            describe(learned),
        )


def describe(learned: prompt.RemovalPrompt) -> str:
    """The file's metadata in words, with what its method gets on with."""
    sizes = ", ".join(f"{len(vectors)} × {vectors.shape[1]} ({name})" for name, vectors in learned.vectors.items())
    lines = [f"vectors: {sizes}"]
    for key in ("method", "base", "condition_image", "mask_pooling", "guidance", "steps"):
        if value := learned.header.stated(key):
            lines.append(f"{key.replace('_', ' ')}: {value}")
    if learned.header.method == "lrnr":
        lines.append(
            "Load the LoRA of the same training, show the full picture (Removal Conditioning: condition_image full), and "
            "leave Attentive Eraser and Self-Rectifying Attention out: they made LRNR worse (its Appendix E)."
        )
    if learned.header.method == "powerpaint":
        lines.append(
            "PowerPaint v1: its SD 1.5 inpainting UNet, masked grey in Removal Conditioning (its training blackened the hole: "
            "try masked black too), mask rounding nearest, guidance of 10 or more, 45 steps. PowerPaint v2: this prompt goes to "
            "its BrushNet with quality words off, and the base model gets empty scene blur by an ordinary text node. "
            "Only this node reads the file: embedding:NAME would take its position table for the prompt."
        )
    return "\n".join(lines)


NODES = [LoadRemovalPrompt]

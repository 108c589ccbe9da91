"""Remove Object on a real server: the same picture as the graph of single nodes, and what it says to the artist."""

from __future__ import annotations

import pytest
import torch

from unclutter.training.comfyui import PACK

WIDGETS = {
    "seed": 3,
    "steps": 3,
    "strength": 1.0,
    "grow_percent": 7.5,
    "background": "",
    "negative_text": "",
    "denoise": 0.0,
    "resolution": 0,
    "context": 0.5,
    "feather": 8,
    "sampler_name": "euler",
    "scheduler": "simple",
}
MINI = {"model": ["mini", 0], "vae": ["mini", 2], "clip": ["mini", 1]}


def nodes(**graph: tuple[str, dict]) -> dict:
    """{name: (class type, inputs)} as a graph in API format."""
    return {
        name: {"class_type": kind, "inputs": inputs, "_meta": {"title": name}} for name, (kind, inputs) in graph.items()
    }


def with_inputs(**graph: tuple[str, dict]) -> dict:
    return nodes(
        picture=("LoadImage", {"image": "example_scene.png"}),
        marked=("LoadImageMask", {"image": "example_mask.png", "channel": "red"}),
        mini=("UnclutterLoadMini", {}),
        **graph,
    )


def one_node(method: str, model: dict = MINI, **changed) -> dict:
    inputs = {"image": ["picture", 0], "mask": ["marked", 0], "method": method, **model, **WIDGETS, **changed}
    return with_inputs(
        remove=("UnclutterRemoveObject", inputs),
        result=("PreviewImage", {"images": ["remove", 0]}),
        mask=("MaskToImage", {"mask": ["remove", 1]}),
        removed=("PreviewImage", {"images": ["mask", 0]}),
        preview=("PreviewImage", {"images": ["remove", 2]}),
    )


def long_graph(
    model: list, guider: tuple[str, dict], shown: str = "masked grey", text: tuple | None = None, **more
) -> dict:
    """Prepare, crop, condition, sample, decode, paste back, each by its node; `guider` has the model put in."""
    positive, negative = (["text", 0], ["text", 1]) if text else (["words", 0], ["nothing", 0])
    encoded = {"text": text} if text else {
        "words": ("CLIPTextEncode", {"clip": ["mini", 1], "text": more.pop("background", "")}),
        "nothing": ("CLIPTextEncode", {"clip": ["mini", 1], "text": ""}),
    }  # fmt: skip
    kind, values = guider
    return with_inputs(
        prepared=(
            "UnclutterPrepareMask",
            {
                "mask": ["marked", 0],
                "image": ["picture", 0],
                "grow_percent": 7.5,
                "grow_pixels": 0,
                "fill_holes": True,
                "min_area": 0,
            },
        ),
        cropped=(
            "UnclutterCropToMask",
            {
                "image": ["picture", 0],
                "mask": ["prepared", 0],
                "context": 0.5,
                "multiple": 32,
                "minimum": 64,
                "maximum": 96,
            },
        ),
        **encoded,
        conditioned=(
            "UnclutterRemovalConditioning",
            {
                "positive": positive,
                "negative": negative,
                "vae": ["mini", 2],
                "image": ["cropped", 0],
                "mask": ["cropped", 1],
                "condition_image": shown,
                "mask_pooling": "max",
                "keep_background": True,
            },
        ),
        **more,
        guider=(kind, {"model": model, **values}),
        noise=("RandomNoise", {"noise_seed": 3}),
        sampler=("KSamplerSelect", {"sampler_name": "euler"}),
        sigmas=("BasicScheduler", {"model": model, "scheduler": "simple", "steps": 3, "denoise": 1.0}),
        sampled=(
            "SamplerCustomAdvanced",
            {
                "noise": ["noise", 0],
                "guider": ["guider", 0],
                "sampler": ["sampler", 0],
                "sigmas": ["sigmas", 0],
                "latent_image": ["conditioned", 2],
            },
        ),
        decoded=("VAEDecode", {"samples": ["sampled", 0], "vae": ["mini", 2]}),
        pasted=(
            "UnclutterPasteBack",
            {"image": ["decoded", 0], "crop": ["cropped", 2], "feather": 8, "match_color": True, "ring": 32},
        ),
        result=("PreviewImage", {"images": ["pasted", 0]}),
    )


def cfg(scale: float = 1.0) -> tuple[str, dict]:
    return "CFGGuider", {"positive": ["conditioned", 0], "negative": ["conditioned", 1], "cfg": scale}


def masg(scale: float) -> tuple[str, dict]:
    values = {"mask_scale": scale, "background_scale": 1.0, "schedule": "cosine_step", "cutoff": 0.5}
    prompts = {"positive": ["conditioned", 0], "negative": ["conditioned", 1]}
    return "UnclutterMASGGuider", {**prompts, "mask": ["cropped", 1], **values}


def attention(name: str, **values) -> tuple[str, dict]:
    return name, {"model": ["mini", 0], "mask": ["cropped", 1], **values, "start_percent": 0.0, "end_percent": 1.0}


ERASER = attention(
    "UnclutterAttentiveEraser", removal_scale=3.0, suppression=0.3, suppression_steps=0.2, layers="decoder"
)
SRA = attention("UnclutterSelfRectifyingAttention", mode="Eq. 10")
LRNR = "unclutter-mini-lrnr.safetensors"
LORA = ("LoraLoaderModelOnly", {"model": ["mini", 0], "lora_name": LRNR, "strength_model": 1.0})
PROMPT = (
    "UnclutterLoadRemovalPrompt",
    {
        "clip": ["mini", 1],
        "file": LRNR,
        "enhancers": True,
        "order": "as trained",
        "background": "",
        "negative_text": "",
    },
)
LONG = {
    "plain": (long_graph(["mini", 0], cfg()), {}),
    "plain, with words": (
        long_graph(["mini", 0], cfg(3.0), background="blue background"),
        {"background": "blue background"},
    ),
    "SRA": (long_graph(["sra", 0], cfg(), sra=SRA), {}),
    "MASG": (long_graph(["mini", 0], masg(6.0), background="background"), {}),
    "Attentive Eraser": (long_graph(["eraser", 0], cfg(), eraser=ERASER), {}),
    "auto": (long_graph(["sra", 0], masg(6.0), background="background", sra=SRA), {}),
    "learned": (
        long_graph(["lora", 0], masg(3.0), "full", PROMPT, lora=LORA),
        {"method.lora": LRNR, "method.removal_prompt": LRNR},
    ),
}


@pytest.fixture(scope="module")
def server(comfy_server):
    for name in ("example_scene.png", "example_mask.png"):
        comfy_server.upload(PACK / "workflows" / name)
    return comfy_server


def run(server, graph: dict, *names: str) -> list[torch.Tensor]:
    finished = server.post(graph)
    return [server.images(finished, name) for name in names or ("result",)]


@pytest.mark.parametrize("name", LONG)
def test_one_node_makes_the_picture_of_the_long_graph(server, name):
    long, changed = LONG[name]
    (expected,) = run(server, long)
    (made,) = run(server, one_node(name.split(",")[0], **changed))
    assert torch.equal(made, expected)

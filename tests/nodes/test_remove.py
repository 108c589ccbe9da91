"""Remove Object on a real server: the same picture as the graph of single nodes, and what it says to the artist."""

from __future__ import annotations

import copy
import struct

import pytest
import torch

from unclutter.training.comfyui_server import PACK
from unclutter.training.images.files import read_image

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
    "start": "noise",
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


PREPARED = (
    "UnclutterPrepareMask",
    {
        "mask": ["marked", 0],
        "image": ["picture", 0],
        "grow_percent": 7.5,
        "grow_pixels": 0,
        "fill_holes": True,
        "min_area": 0,
    },
)


def cropped(**changed) -> tuple[str, dict]:
    size = {"context": 0.5, "multiple": 32, "minimum": 64, "maximum": 96, **changed}
    return "UnclutterCropToMask", {"image": ["picture", 0], "mask": ["prepared", 0], **size}


def pasted(image: list, **more) -> tuple[str, dict]:
    return "UnclutterPasteBack", {
        "image": image,
        "crop": ["cropped", 2],
        "feather": 8,
        "match_color": True,
        "ring": 32,
        **more,
    }


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
        prepared=PREPARED,
        cropped=cropped(),
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
        pasted=pasted(["decoded", 0]),
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
LRNR, OSOR = "unclutter-mini-lrnr.safetensors", "unclutter-mini-osor.safetensors"
LORA = ("UnclutterLoadMini", {"lora": "LRNR"})
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


@pytest.mark.parametrize("name", ["plain", "learned"])
def test_begun_from_the_draft_it_is_the_graph_with_draft_fill(server, name):
    long, changed = copy.deepcopy(LONG[name])
    long |= nodes(
        filled=("UnclutterDraftFill", {"image": ["picture", 0], "mask": ["prepared", 0], "seed": 3}),
        part=(cropped()[0], {**cropped()[1], "image": ["filled", 0]}),
    )
    long["conditioned"]["inputs"]["draft"] = ["part", 0]
    long["sigmas"]["inputs"]["denoise"] = 0.8 if name == "learned" else 0.4
    made = run(server, one_node(name, start="draft", **changed))[0]
    assert torch.equal(made, run(server, long)[0])
    assert not torch.equal(made, run(server, one_node(name, **changed))[0])


def test_one_step_is_the_graph_of_its_nodes(server):
    """Crop to the size that the eraser knows, erase, and paste back the mask with whatever went with it."""
    graph = with_inputs(
        prepared=PREPARED,
        cropped=cropped(context=1.0, minimum=64, maximum=64),
        eraser=("UnclutterLoadOneStep", {"model": ["mini", 0], "file": OSOR, "clip": ["mini", 1]}),
        erased=(
            "UnclutterOneStepErase",
            {
                "model": ["eraser", 0],
                "vae": ["mini", 2],
                "image": ["cropped", 0],
                "mask": ["cropped", 1],
                "seed": 3,
                "timestep": 0,
                "alpha_strength": 1.0,
                "resolution": 0,
                "paste_back": False,
            },
        ),
        # Threshold Mask marks what is above the value, and the node what is a half or more.
        taken=("ThresholdMask", {"mask": ["erased", 1], "value": 0.4999999}),
        removed=(
            "MaskComposite",
            {"destination": ["cropped", 1], "source": ["taken", 0], "x": 0, "y": 0, "operation": "or"},
        ),
        pasted=pasted(["erased", 0], mask=["removed", 0]),
        result=("PreviewImage", {"images": ["pasted", 0]}),
        as_picture=("MaskToImage", {"mask": ["removed", 0]}),
        mask=("PreviewImage", {"images": ["as_picture", 0]}),
    )
    expected = run(server, graph, "result", "mask")
    by_file = run(server, one_node("one step", **{"method.eraser": OSOR}), "result", "removed")
    assert all(torch.equal(*pair) for pair in zip(by_file, expected, strict=True))
    marked = run(server, one_node("plain"), "removed")[0]
    assert by_file[1].sum() > marked.sum(), "the shadow is not among what was removed"
    loaded = ("UnclutterLoadOneStep", {"model": ["mini", 0], "file": OSOR, "clip": ["mini", 1]})
    on_model = one_node("auto", {**MINI, "model": ["loaded", 0]}) | nodes(loaded=loaded)
    assert torch.equal(run(server, on_model)[0], by_file[0])


def test_without_a_model_it_is_the_draft_fill(server):
    graph = with_inputs(
        prepared=PREPARED,
        filled=("UnclutterDraftFill", {"image": ["picture", 0], "mask": ["prepared", 0], "seed": 3}),
        result=("PreviewImage", {"images": ["filled", 0]}),
    )
    (expected,) = run(server, graph)
    for method in ("auto", "draft"):
        assert torch.equal(run(server, one_node(method, {}))[0], expected)


def test_every_pixel_away_from_the_mask_stays(server):
    made, removed = run(server, one_node("MASG", feather=0), "result", "removed")
    picture = read_image(PACK / "workflows" / "example_scene.png").movedim(1, -1)
    outside = (removed[..., :1] == 0).expand_as(made)
    assert torch.equal(made[outside], picture[outside])
    assert not torch.equal(made, picture)


@pytest.mark.parametrize(
    ("lora", "method", "why"),
    [
        (None, "SRA + MASG", "inpainting model"),
        ("LRNR", "learned", "LRNR"),
        ("EraDiff", "SRA", "EraDiff"),
    ],
)
def test_auto_says_on_the_node_what_it_took_and_why(server, lora, method, why):
    put_on = {"lora": ("UnclutterLoadMini", {"lora": lora})}
    model = {**MINI, "model": ["lora", 0]} if lora else MINI
    graph = one_node("auto", model, seed=11) | (nodes(**put_on) if lora else {})
    said = " ".join(spoken(server, graph)["remove"])
    assert f"took {method}:" in said and why in said and "3 steps" in said


def test_auto_finds_the_prompt_that_was_trained_with_the_lora(server):
    by_files, _ = LONG["learned"][0], None
    graph = one_node("auto", {**MINI, "model": ["lora", 0]}) | nodes(lora=LORA)
    assert torch.equal(run(server, graph)[0], run(server, by_files)[0])


def test_auto_without_a_model_says_that_it_is_a_draft(server):
    said = " ".join(spoken(server, one_node("auto", {}, seed=11))["remove"])
    assert "took draft: no model is connected" in said


def test_the_mini_model_says_that_it_is_a_toy_where_it_gets_a_photograph(server, tmp_path):
    large = one_node("plain", steps=1)
    large["picture"] = nodes(a=("EmptyImage", {"width": 640, "height": 640, "batch_size": 1, "color": 0x305070}))["a"]
    assert "toy" in " ".join(spoken(server, large)["remove"])
    assert "toy" not in " ".join(spoken(server, one_node("plain", steps=1, seed=12))["remove"])


@pytest.mark.parametrize("side", [64, 640], ids=["scene", "photograph"])
def test_single_nodes_say_so_too(server, side):
    """Each that gets the mini model, or the size for it, beside a picture that cannot be one of its scenes."""
    words = ("CLIPTextEncode", {"clip": ["mini", 1], "text": "background"})
    prompts = {name: ["words", 0] for name in ("positive", "negative")}
    erased = {"model": ["eraser", 0], "vae": ["mini", 2], "image": ["photo", 0], "mask": ["whole", 0], "seed": side}
    erased |= {"timestep": 0, "alpha_strength": 1.0, "resolution": 0, "paste_back": False}
    shown = {**prompts, "vae": ["mini", 2], "image": ["photo", 0], "mask": ["whole", 0]}
    shown |= {"condition_image": "masked grey", "mask_pooling": "max", "keep_background": True}
    guided = {**prompts, "model": ["mini", 0], "mask": ["whole", 0], "mask_scale": 3.0, "background_scale": 1.0}
    cut = {"context": 0.5, "multiple": 8, "minimum": 64, "maximum": 128}
    layered = {"model": ["mini", 0], "file": "unclutter-mini-mild.safetensors"}
    taken = {name: ["words", 0] for name in ("person", "background", "negative")} | {"vae": ["mini", 2], "seed": side}
    taken |= {"layered_model": ["layered", 0], "image": ["photo", 0], "masks": ["whole", 0], "keep": "none", "steps": 1}
    taken |= {"cfg": 1.0, "person_cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "masg": "off"}
    taken |= {"grow_percent": 0.0, "context": 0.5, "minimum": 64, "maximum": 64, "match_color": True}
    graph = nodes(
        mini=("UnclutterLoadMini", {}),
        photo=("EmptyImage", {"width": side, "height": side, "batch_size": 1, "color": 0x305070}),
        black=("SolidMask", {"value": 0.0, "width": side, "height": side}),
        white=("SolidMask", {"value": 1.0, "width": 24, "height": 24}),
        whole=(
            "MaskComposite",
            {"destination": ["black", 0], "source": ["white", 0], "x": 20, "y": 20, "operation": "add"},
        ),
        words=words,
        eraser=("UnclutterLoadOneStep", {"model": ["mini", 0], "file": OSOR, "clip": ["mini", 1]}),
        layered=("UnclutterLoadLayered", layered),
        crop=("UnclutterCropToMask", {"image": ["photo", 0], "mask": ["whole", 0], **cut}),
        erase=("UnclutterOneStepErase", erased),
        conditioning=("UnclutterRemovalConditioning", shown),
        guider=("UnclutterMASGGuider", {**guided, "schedule": "cosine_step", "cutoff": 0.5}),
        layers=("UnclutterLayeredSampler", taken),
        composed=("UnclutterComposeLayers", {"layers": ["layers", 0], "remove": "all", "order": "", "feather": 0}),
        decoded=("VAEDecode", {"samples": ["conditioning", 2], "vae": ["mini", 2]}),
        **{
            f"seen_{key}": ("PreviewImage", {"images": source})
            for key, source in {
                "crop": ["crop", 0],
                "erase": ["erase", 0],
                "conditioning": ["decoded", 0],
                "guider": ["guider", 1],
                "layers": ["composed", 0],
            }.items()
        },
    )
    texts = spoken(server, graph)
    warned = {key for key, said in texts.items() if "toy" in " ".join(said)}
    assert warned == ({"crop", "erase", "conditioning", "guider", "layers"} if side == 640 else set())


@pytest.mark.parametrize(
    ("method", "given", "says"),
    [
        ("SRA", {}, "SRA needs a model"),
        ("auto", {"model": ["mini", 0]}, "no vae"),
        ("auto", {"model": ["mini", 0], "vae": ["mini", 2]}, "no clip"),
        ("one step", MINI, "no one-step eraser"),
        ("learned", MINI, "no such LoRA"),
    ],
)
def test_what_is_missing(server, method, given, says):
    with pytest.raises(RuntimeError, match=says):
        server.post(one_node(method, given))


def test_an_empty_mask_gets_the_sentence_of_prepare_removal_mask(server):
    graph = one_node("auto")
    graph["marked"] = nodes(a=("SolidMask", {"value": 0.0, "width": 64, "height": 64}))["a"]
    with pytest.raises(RuntimeError, match="Load Image.*MaskEditor"):
        server.post(graph)


def test_two_masks_for_one_picture_and_one_mask_for_two_pictures(server):
    """Each of a batch is as if it came alone: all rows of the noise come from one seed, so a draft is compared."""
    alone = run(server, one_node("draft", {}))[0]
    twice = one_node("draft", {}, image=["pictures", 0]) | nodes(
        pictures=("RepeatImageBatch", {"image": ["picture", 0], "amount": 2})
    )
    made = run(server, twice)[0]
    assert made.shape[0] == 2 and torch.equal(made[:1], alone)
    sampled = run(server, {**twice, "remove": one_node("auto", image=["pictures", 0])["remove"]}, "result", "removed")
    assert [len(batch) for batch in sampled] == [2, 2]


def test_cancelled_within_a_step_it_stops_and_leaves_nothing_behind(server):
    expected = run(server, one_node("Attentive Eraser", steps=2))[0]
    running = server.submit(one_node("Attentive Eraser", steps=900, seed=5))
    server.wait_for_step(running)
    server.cancel()
    with pytest.raises(RuntimeError, match="interrupted in UnclutterRemoveObject"):
        server.wait(running, timeout=30)
    assert torch.equal(run(server, one_node("Attentive Eraser", steps=2, grow_percent=7.5001))[0], expected)


@pytest.mark.parametrize("eraser", [ERASER, SRA])
def test_a_picture_that_would_be_redrawn_whole_is_a_warning_on_the_node(server, eraser):
    def graph(latent: list, seed: int) -> dict:
        kind, values = eraser
        held = ("SetLatentNoiseMask", {"samples": ["encoded", 0], "mask": ["marked", 0]})
        words = ("CLIPTextEncode", {"clip": ["mini", 1], "text": ""})
        prompts = {"positive": ["words", 0], "negative": ["words", 0], "latent_image": latent}
        numbers = {"seed": seed, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
        return with_inputs(
            eraser=(kind, {**values, "mask": ["marked", 0]}),
            encoded=("VAEEncode", {"pixels": ["picture", 0], "vae": ["mini", 2]}),
            held=held,
            words=words,
            sampled=("KSampler", {"model": ["eraser", 0], **prompts, **numbers}),
            decoded=("VAEDecode", {"samples": ["sampled", 0], "vae": ["mini", 2]}),
            result=("PreviewImage", {"images": ["decoded", 0]}),
        )

    assert "whole picture will be redrawn" in " ".join(spoken(server, graph(["encoded", 0], 1))["eraser"])
    assert "eraser" not in spoken(server, graph(["held", 0], 2))


def spoken(server, graph: dict) -> dict[str, list[str]]:
    """Texts that the page is given to show while the graph runs, by node."""
    import websocket

    texts: dict[str, list[str]] = {}
    events = websocket.create_connection(f"ws://{server.address}/ws?clientId={server.client_id}", timeout=60)
    try:
        prompt_id = server.submit(graph)
        while True:
            message = events.recv()
            if isinstance(message, bytes):
                kind, length = struct.unpack(">II", message[:8])
                if kind == 3:
                    texts.setdefault(message[8 : 8 + length].decode(), []).append(message[8 + length :].decode())
            elif '"execution_success"' in message or '"execution_error"' in message:
                break
    finally:
        events.close()
    server.wait(prompt_id)
    return texts

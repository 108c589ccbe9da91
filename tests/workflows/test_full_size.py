"""The graphs for SDXL and FLUX on networks of the real width, with random weights: `pytest --full-size`.

They show that every graph runs, that every tensor of every file finds its place, and that nothing outside of the mask
changes. SDXL is whole; FLUX has one block of each kind. 14 GB of disk and of memory; half an hour on two
cores.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from safetensors.torch import save_file

from unclutter.adapters import layered, lora, one_step, prompt
from unclutter.kernels import regions
from unclutter.kernels.morphology import HumanMorphology
from unclutter.training.base_models.random_sdxl import SDXL_INPAINTING
from unclutter.training.comfyui_server import PACK, ComfyServer

pytestmark = [pytest.mark.full_size, pytest.mark.timeout(3600)]
GRAPHS = PACK / "workflows"
NAMES = [
    name
    for name in sorted(path.stem for path in (GRAPHS / "api").glob("*.json"))
    if not name.startswith("Toy") and not name.endswith(("_mini", "no model"))
]
SIDE = 512
"""Of the crop; the graphs' own 1024 takes four times as long and shows nothing more."""
UNET = {"image_size": 32, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2]}
UNET |= {"channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10], "context_dim": 2048}
UNET |= {"transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "transformer_depth_middle": 10}
UNET |= {"use_linear_in_transformer": True, "use_spatial_transformer": True, "legacy": False}
UNET |= {"adm_in_channels": 2816, "num_classes": "sequential", "num_heads": -1, "num_head_channels": 64}
FLUX = {"image_model": "flux", "in_channels": 96, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 4096}
FLUX |= {"hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 1, "depth_single_blocks": 1, "theta": 10000}
FLUX |= {"axes_dim": [16, 56, 56], "patch_size": 2, "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": []}
ATTENTION = ("to_q", "to_k", "to_v")
UNET_TARGETS = (*ATTENTION, "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
UNET_TARGETS += ("conv1", "conv2", "conv_shortcut", "conv")
FLUX_TARGETS = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "ff.net.0.proj", "ff.net.2", "proj_mlp")
RANK = 4
META = torch.device("meta")


@pytest.fixture(scope="module")
def server(comfy, comfyui_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    folder = tmp_path_factory.mktemp("full_size")
    options = ("--fp16-unet", "--fp16-text-enc", "--cache-none")
    with ComfyServer(comfyui_path, folder, options) as server:
        yield server


@pytest.fixture(scope="module")
def models(server: ComfyServer) -> Path:
    """models/, with the adapters of every graph; checkpoints are made one at a time by `sdxl` and `flux`."""
    folder = server.base_directory / "models"
    torch.manual_seed(0)
    with META:
        unet = UNet2DConditionModel(**SDXL_INPAINTING)
        flux = FluxTransformer2DModel(
            in_channels=384, out_channels=64, guidance_embeds=True, num_layers=1, num_single_layers=1
        )
    attention = {f"unet.{path}": pair for path, pair in random_lora(unet, ATTENTION).items()}
    for name in ("lrnr", "eradiff"):
        lora.save(folder / "loras" / f"unclutter-{name}.safetensors", lora.Lora(attention, {"unclutter.method": name}))
    vectors = {"clip_l": 0.02 * torch.randn(1, 768), "clip_g": 0.02 * torch.randn(1, 1280)}
    learned = prompt.RemovalPrompt(vectors, ("8K",), True, {"unclutter.method": "lrnr"})
    prompt.save(folder / "embeddings" / "unclutter-lrnr.safetensors", learned)
    for network, targets, last, rows, name in (
        (unet, UNET_TARGETS, unet.conv_out, 5, "sdxlinpainting"),
        (flux, FLUX_TARGETS, flux.proj_out, 68, "fluxfill"),
    ):
        pairs = {
            path: pair for path, pair in random_lora(network, targets).items() if path not in ("conv_out", "proj_out")
        }
        shape = (rows, *last.weight.shape[1:])
        terminal = {"weight": random_tensor("weight", shape), "bias": torch.zeros(rows)}
        terminal["bias"][-4 if network is flux else -1 :] = 9.0  # an alpha of about 1 everywhere
        eraser = one_step.OneStep("unet" if network is unet else "flux", pairs, terminal)
        torch.save(one_step.to_release(eraser), folder / "loras" / f"{name}_phase2.pth")
    layers = [path for path, _ in unet.named_modules() if path.endswith("attn1")]
    branches = [random_lora(unet, ATTENTION) for _ in range(2)]
    sma = {layer: torch.tensor([0.1, -0.1]) for layer in layers}
    morphology = HumanMorphology(2048).state_dict()
    layered.save(folder / "loras" / "unclutter-mild.safetensors", layered.Layered(*branches, sma, morphology))
    return folder


@pytest.fixture(scope="module")
def sdxl(models: Path) -> Path:
    import comfy.sdxl_clip
    import comfy.supported_models

    config = comfy.supported_models.SDXL({**UNET, "in_channels": 9})
    text = config.process_clip_state_dict_for_saving(comfy.sdxl_clip.SDXLClipModel("meta", torch.float16).state_dict())
    inpainting = diffusion_model(config) | text | named("first_stage_model.", autoencoder(4))
    folder = models / "checkpoints"
    weights = write_random(folder / "sd_xl_base_1.0_inpainting_0.1.safetensors", inpainting)
    first = "model.diffusion_model.input_blocks.0.0.weight"
    save_file(weights | {first: weights[first][:, :4].clone()}, folder / "sd_xl_base_1.0.safetensors")
    return folder


@pytest.fixture(scope="module")
def flux(models: Path) -> Path:
    import comfy.supported_models
    import comfy.text_encoders.flux

    texts = comfy.text_encoders.flux.FluxClipModel(torch.float16, "meta", torch.float16)
    config = comfy.supported_models.FluxInpaint(FLUX)
    transformer = diffusion_model(config, prefix="")
    write_random(models / "diffusion_models" / "flux1-fill-dev.safetensors", transformer)
    write_random(models / "vae" / "ae.safetensors", autoencoder(16))
    write_random(models / "text_encoders" / "clip_l.safetensors", texts.clip_l.transformer.state_dict())
    t5 = texts.t5xxl.transformer.state_dict()
    write_random(models / "text_encoders" / "t5xxl_fp16.safetensors", t5, torch.float8_e4m3fn)
    return models


def diffusion_model(config, prefix: str = "model.diffusion_model.") -> dict[str, torch.Tensor]:
    config.set_inference_dtype(torch.float16, None)
    return named(prefix, config.get_model({}, "", device=META).diffusion_model.state_dict())


def autoencoder(channels: int) -> dict[str, torch.Tensor]:
    from comfy.ldm.models.autoencoder import AutoencoderKL

    config = {"double_z": True, "z_channels": channels, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128}
    config |= {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
    with META:
        state = AutoencoderKL(embed_dim=channels, ddconfig=config).state_dict()
    # FLUX's has no layers between its two halves and the latent.
    return {key: value for key, value in state.items() if channels == 4 or "quant_conv" not in key}


def named(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}{key}": value for key, value in tensors.items()}


def random_tensor(name: str, shape: Iterable[int]) -> torch.Tensor:
    """Weights that keep a signal about as large as it is: norms of one, biases of zero, all else by its fan-in."""
    shape = tuple(shape)
    if len(shape) < 2:
        return torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)
    return torch.randn(shape) / math.prod(shape[1:]) ** 0.5


def write_random(
    path: Path, tensors: dict[str, torch.Tensor], dtype: torch.dtype = torch.float16
) -> dict[str, torch.Tensor]:
    shapes = {name: value.shape for name, value in tensors.items() if "position_ids" not in name}
    flat = torch.empty(sum(shape.numel() for shape in shapes.values()), dtype=dtype)  # one block goes back as a whole
    parts = flat.split([shape.numel() for shape in shapes.values()])
    weights = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
    for name, value in weights.items():
        value.copy_(random_tensor(name, value.shape))
    path.parent.mkdir(exist_ok=True)
    save_file(weights, path, {"format": "pt"})
    return weights


def random_lora(network: torch.nn.Module, targets: tuple[str, ...]) -> dict[str, lora.LoraPair]:
    pairs = {}
    for path, module in network.named_modules():
        if f".{path}".endswith(tuple(f".{end}" for end in targets)) and hasattr(module, "weight"):
            out, inner, *kernel = module.weight.shape
            down = random_tensor("weight", (RANK, inner, *kernel))
            pairs[path] = lora.LoraPair(down, 0.1 * torch.randn(out, RANK, *[1] * len(kernel)), float(RANK))
    return pairs


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_runs_on_the_real_shape(request, server, models, name):
    request.getfixturevalue("flux" if name.endswith("FLUX") else "sdxl")
    graph = json.loads((GRAPHS / "api" / f"{name}.json").read_text())
    for node in graph.values():
        if "steps" in node["inputs"] and not isinstance(node["inputs"]["steps"], list):
            node["inputs"]["steps"] = 1
        if "maximum" in node["inputs"]:
            node["inputs"] |= {"minimum": SIDE, "maximum": SIDE}
    before_log = len(server.log())
    source = next(key for key, node in graph.items() if node["class_type"] in ("LoadImage", "UnclutterExampleScene"))
    (saved,) = [key for key, node in graph.items() if node["class_type"] == "SaveImage"]
    graph["white"] = {"class_type": "MaskToImage", "inputs": {"mask": [source, 1]}, "_meta": {}}
    for key, picture in (("picture", [source, 0]), ("marked", ["white", 0])):
        graph[key] = {"class_type": "PreviewImage", "inputs": {"images": picture}, "_meta": {}}
    outputs = server.post(graph, timeout=3000)
    before, after = (server.images(outputs, key).movedim(-1, 1) for key in ("picture", saved))
    mask = (server.images(outputs, "marked")[..., 0] > 0.5).float()
    # One step's alpha covers the picture, and of people another one goes than the one whose mask is marked.
    if "shadow" not in name and "one step" not in name and "people" not in name:
        feather = max(node["inputs"].get("feather", 0) for node in graph.values())
        hole = regions.grow(regions.fill_holes(mask), percent=7.5)
        outside = (regions.feather(hole, feather) == 0)[:, None].expand_as(before)
        assert outside.float().mean() > 0.3 and torch.equal(before[outside], after[outside])
    changed = (before - after).abs().mean(dim=1)
    assert (changed if "people" in name else changed[mask > 0]).max() > 0.02
    complaints = re.findall(r".*(?:not loaded|missing|unexpected|NaN|invalid value).*", server.log()[before_log:])
    assert not complaints

"""Checkpoints in one file, in their real shapes: sparse files of zeros, which take no room on disk or in memory."""

import json
import math
import socket
import struct

import pytest
import torch
from safetensors.torch import save_file

from unclutter.training.base_models.checkpoints import load_checkpoint

META = torch.device("meta")
UNET = "model.diffusion_model."
COMMON = {"image_size": 32, "out_channels": 4, "model_channels": 320, "use_spatial_transformer": True, "legacy": False}
FOUR_LEVELS = {
    "num_res_blocks": [2] * 4,
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1] * 6 + [0] * 2,
    "transformer_depth_output": [1] * 9 + [0] * 3,
    "transformer_depth_middle": 1,
    "adm_in_channels": None,
}
THREE_LEVELS = {
    "num_res_blocks": [2] * 3,
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0] * 3 + [2] * 3 + [10] * 3,
    "transformer_depth_middle": 10,
    "adm_in_channels": 2816,
    "num_classes": "sequential",
}


def shapes_of(family, channels):
    """Names and shapes of a checkpoint's tensors, as ComfyUI knows them."""
    import comfy.sd1_clip
    import comfy.sdxl_clip
    import comfy.supported_models
    import comfy.text_encoders.sd2_clip
    from comfy.ldm.models.autoencoder import AutoencoderKL

    kind, levels, width, linear, texts = {
        "sd15": ("SD15", FOUR_LEVELS, 768, False, comfy.sd1_clip.SD1ClipModel),
        "sd2": ("SD20", FOUR_LEVELS, 1024, True, comfy.text_encoders.sd2_clip.SD2ClipModel),
        "sdxl": ("SDXL", THREE_LEVELS, 2048, True, comfy.sdxl_clip.SDXLClipModel),
    }[family]
    unet = {"in_channels": channels, "context_dim": width, "use_linear_in_transformer": linear}
    config = getattr(comfy.supported_models, kind)({**COMMON, **levels, **unet})
    config.set_inference_dtype(torch.float16, None)
    vae = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128}
    vae |= {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
    with META:
        autoencoder = AutoencoderKL(embed_dim=4, ddconfig=vae).state_dict()
    parts = {
        UNET: config.get_model({}, "", device=META).diffusion_model.state_dict(),
        "first_stage_model.": autoencoder,
        "": config.process_clip_state_dict_for_saving(texts("meta", torch.float16).state_dict()),
    }
    return {f"{start}{key}": list(value.shape) for start, part in parts.items() for key, value in part.items()}


def write_sparse(path, shapes, given):
    """A safetensors file in fp16: zeros that are not written, but for what is `given`."""
    header, places, end = {}, {}, 0
    for key, shape in shapes.items():
        places[key], end = end, end + 2 * math.prod(shape)
        header[key] = {"dtype": "F16", "shape": shape, "data_offsets": [places[key], end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
        for key, value in given.items():
            file.seek(8 + len(text) + places[key])
            file.write(value.half().expand(shapes[key]).contiguous().numpy().tobytes())


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(
    ("family", "channels", "side", "multiple", "encoders"),
    [
        ("sd15", 9, 512, 64, {"clip_l": 768}),
        ("sd2", 4, 768, 64, {"clip_h": 1024}),
        ("sdxl", 9, 1024, 32, {"clip_l": 768, "clip_g": 1280}),
    ],
)
def test_a_checkpoint_in_one_file_needs_no_network(
    comfy, tmp_path, offline, family, channels, side, multiple, encoders
):
    shapes = shapes_of(family, channels)
    norm = f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias"
    given = {f"{UNET}out.2.bias": torch.arange(4.0), "first_stage_model.decoder.conv_out.bias": torch.arange(3.0)}
    if family == "sd2":  # as wide as those of the model that predicts v are
        given[norm] = torch.linspace(-1, 1, 320)
    write_sparse(tmp_path / "base.safetensors", shapes, given)
    base = load_checkpoint(tmp_path / "base.safetensors", "cpu", torch.float16)
    assert base.inpaints == (channels == 9) and (base.native_size, base.multiple) == (side, multiple)
    assert base.schedule["prediction_type"] == ("v_prediction" if family == "sd2" else "epsilon")
    assert base.network.conv_out.bias.tolist() == [0, 1, 2, 3] and base.network.dtype == torch.float16
    decoded = base.decode(torch.zeros(1, 4, 1, 1))
    torch.testing.assert_close(decoded, torch.arange(3.0)[None, :, None, None].expand(1, 3, 8, 8))
    widths = {each.name: each.module.get_input_embeddings().weight.shape for each in base.texts.encoders}
    assert widths == {name: (49408, width) for name, width in encoders.items()}
    for each in base.texts.encoders:
        ids = each.tokenizer("A photo of a cat", padding="max_length").input_ids
        padding = 49407 if each.name == "clip_l" else 0
        assert ids == [49406, 320, 1125, 539, 320, 2368, 49407, *[padding] * 70]


@pytest.mark.parametrize("change", ["missing", "narrower"])
def test_a_checkpoint_with_other_layers_is_refused(comfy, tmp_path, change):
    shapes = shapes_of("sd15", 9)
    last = shapes.pop(f"{UNET}out.2.weight")
    if change == "narrower":
        shapes[f"{UNET}out.2.weight"] = [4, 64, *last[2:]]
    write_sparse(tmp_path / "base.safetensors", shapes, {})
    with pytest.raises(
        ValueError, match=r"base\.safetensors is like SD 1\.5, but layers are missing or of other sizes"
    ):
        load_checkpoint(tmp_path / "base.safetensors", "cpu", torch.float16)


@pytest.mark.parametrize(
    ("channels", "width", "more", "message"),
    [
        (9, 768, (), r"SD 1\.5 without its VAE"),
        (4, 2048, ("first_stage_model.", "conditioner.embedders.0.transformer.text_model."), "SDXL without its text"),
        (8, 768, (), "takes 8 channels and texts 768 wide: expected 4 or 9"),
        (4, 1280, (), "takes 4 channels and texts 1280 wide"),
    ],
)
def test_half_a_checkpoint_and_another_model_say_what_they_are(tmp_path, channels, width, more, message):
    tensors = {
        f"{UNET}input_blocks.0.0.weight": torch.zeros(1, channels, 1, 1),
        f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(1, width),
    }
    save_file({**tensors, **{f"{start}x": torch.zeros(1) for start in more}}, tmp_path / "base.safetensors")
    with pytest.raises(ValueError, match=message):
        load_checkpoint(tmp_path / "base.safetensors", "cpu")

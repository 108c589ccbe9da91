import json
import math
import resource

import pytest
import torch
from safetensors.torch import load_file, save_file

from unclutter.adapters import lora
from unclutter.adapters.names import module_of

MODULES = (
    "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q",
    "unet.mid_block.attentions.0.proj_in",
    "unet.up_blocks.0.attentions.2.transformer_blocks.0.attn2.to_out.0",
    "unet.up_blocks.0.resnets.1.conv_shortcut",
    "unet.up_blocks.1.upsamplers.0.conv",
    "unet.down_blocks.0.resnets.0.time_emb_proj",
    "unet.down_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj",
    "text_encoder.text_model.encoder.layers.3.self_attn.q_proj",
    "text_encoder_2.text_model.encoder.layers.3.mlp.fc1",
)


@pytest.fixture
def adapter():
    generator = torch.Generator().manual_seed(0)
    pairs = {
        module: lora.LoraPair(torch.randn(4, 6, generator=generator), torch.randn(5, 4, generator=generator), 2.0)
        for module in MODULES
    }
    return lora.Lora(pairs, {"unclutter.method": "lrnr"})


def update(pair):
    return pair.alpha / len(pair.down) * pair.up @ pair.down


@pytest.mark.parametrize("style", ["kohya", "diffusers"])
def test_every_style_reads_back_as_the_same_update(adapter, tmp_path, style):
    lora.save(tmp_path / "a.safetensors", adapter, style)
    again = lora.load(tmp_path / "a.safetensors")
    assert again.pairs.keys() == adapter.pairs.keys() and again.rank == 4
    assert again.metadata["unclutter.method"] == "lrnr"
    for module, pair in adapter.pairs.items():
        torch.testing.assert_close(update(again.pairs[module]), update(pair))


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("base_model.model.{path}.lora_A.weight", "base_model.model.{path}.lora_B.weight"),
        ("unet.{path}.lora.down.weight", "unet.{path}.lora.up.weight"),
        ("unet.{path}.lora_A.default.weight", "unet.{path}.lora_B.default.weight"),
        ("{path}.lora_A.weight", "{path}.lora_B.weight"),
    ],
)
def test_what_other_trainers_write_is_read(tmp_path, down, up):
    path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    save_file(
        {down.format(path=path): torch.ones(2, 6), up.format(path=path): torch.ones(5, 2)}, tmp_path / "a.safetensors"
    )
    assert lora.load(tmp_path / "a.safetensors").pairs.keys() == {f"unet.{path}"}


@pytest.mark.parametrize(
    ("old", "module"),
    [
        ("unet.mid_block.x.attn1.processor.to_q_lora", "unet.mid_block.x.attn1.to_q"),
        ("unet.mid_block.x.attn2.processor.to_out_lora", "unet.mid_block.x.attn2.to_out.0"),
        ("text_encoder.text_model.x.self_attn.to_out_lora", "text_encoder.text_model.x.self_attn.out_proj"),
        ("text_encoder.text_model.x.k_proj.lora_linear_layer", "text_encoder.text_model.x.k_proj"),
        ("text_encoder.encoder.layers.2.mlp.fc1.lora", "text_encoder.text_model.encoder.layers.2.mlp.fc1"),
    ],
)
def test_the_names_of_old_diffusers_are_those_of_todays_modules(tmp_path, old, module):
    save_file(
        {f"{old}.down.weight": torch.ones(2, 6), f"{old}.up.weight": torch.ones(5, 2)}, tmp_path / "a.safetensors"
    )
    assert lora.load(tmp_path / "a.safetensors").pairs.keys() == {module}


@pytest.mark.parametrize(
    ("config", "alpha"),
    [
        ({"lora_alpha": 8}, 8.0),
        ({"lora_alpha": 8, "alpha_pattern": {"to_q": 3}}, 3.0),
        ({"lora_alpha": 8, "alpha_pattern": {"to_k": 3}}, 8.0),
        ({"lora_alpha": 8, "use_rslora": True}, 8.0 * math.sqrt(2)),
    ],
)
def test_the_alpha_in_pefts_config_counts(tmp_path, config, alpha):
    """diffusers keeps it in the header, peft in a file beside; a LoRA read without it is too weak or too strong."""
    path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    down, up = torch.ones(2, 6), torch.ones(5, 2)
    header = {"lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in config.items()})}
    keys = (f"unet.{path}.lora_A.weight", f"unet.{path}.lora_B.weight")
    save_file(dict(zip(keys, (down, up), strict=True)), tmp_path / "a.safetensors", header)
    keys = (f"base_model.model.{path}.lora_A.weight", f"base_model.model.{path}.lora_B.weight")
    save_file(dict(zip(keys, (down, up), strict=True)), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    for name in ("a", "adapter_model"):
        adapter = lora.load(tmp_path / f"{name}.safetensors")
        assert adapter.pairs[f"unet.{path}"].alpha == alpha
        # Written again, the old config must not scale the new file once more.
        assert "lora_adapter_metadata" not in adapter.metadata


def test_one_file_may_mix_styles(adapter, tmp_path):
    """As RORem's does: attention in one style, the rest in another."""
    lora.save(tmp_path / "a.safetensors", adapter, "diffusers")
    lora.save(tmp_path / "b.safetensors", adapter, "kohya")
    first, second = load_file(tmp_path / "a.safetensors"), load_file(tmp_path / "b.safetensors")
    mixed = {key: value for key, value in first.items() if "attn" in key}
    mixed |= {key: value for key, value in second.items() if "attn" not in key}
    save_file(mixed, tmp_path / "mixed.safetensors")
    assert lora.load(tmp_path / "mixed.safetensors").pairs.keys() == adapter.pairs.keys()


def test_kohyas_names_are_those_comfyui_knows(adapter, tmp_path):
    lora.save(tmp_path / "a.safetensors", adapter)
    keys = load_file(tmp_path / "a.safetensors").keys()
    assert "lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn1_to_q.lora_down.weight" in keys
    assert "lora_te1_text_model_encoder_layers_3_self_attn_q_proj.alpha" in keys
    assert len(keys) == 3 * len(MODULES)


A, B = "unet.mid_block.x.to_q.lora_A.weight", "unet.mid_block.x.to_q.lora_B.weight"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": torch.ones(2)}, "0 of 1 tensors are LoRA factors .* weight is not"),
        ({A: torch.ones(2, 3)}, "holds down of unet.mid_block.x.to_q, expected both factors"),
        ({A: torch.ones(2, 3), B: torch.ones(3, 4)}, r"factors of \[2, 3\] and \[3, 4\]"),
        ({A: torch.ones(2, 3), B: torch.ones(3, 2), "odd.lora_A.weight": torch.ones(1)}, "2 of 3 tensors"),
        ({"lora_unet_input_blocks_4_1_proj_in.alpha": torch.ones(())}, "holds alpha of .*, expected both factors"),
        ({"lora_unet_double_blocks_0_img_attn_qkv.alpha": torch.ones(())}, "0 of 1 tensors"),
        ({"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(2, 2)}, "0 of 1 tensors"),
        ({"lora_te1_encoder_block_0_layer_0_SelfAttention_q.alpha": torch.ones(())}, "0 of 1 tensors"),
    ],
)
def test_a_file_that_is_no_lora_is_counted_and_refused(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=message):
        lora.load(tmp_path / "a.safetensors")


def test_a_failed_write_leaves_the_file_as_it_was(adapter, tmp_path):
    path = tmp_path / "a.safetensors"
    lora.save(path, adapter)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        lora.save(path, lora.Lora(adapter.pairs, {"steps": 3}))  # type: ignore[dict-item]
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_sentence_and_leaves_no_part(adapter, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=r"a\.safetensors could not be written .*: make room"):
            lora.save(tmp_path / "a.safetensors", adapter)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("ldm", "module"),
    [
        (
            "input_blocks_4_1_transformer_blocks_0_attn1_to_q",
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
        ),
        ("output_blocks_5_2_conv", "up_blocks.1.upsamplers.0.conv"),
        ("middle_block_2_emb_layers_1", "mid_block.resnets.1.time_emb_proj"),
        ("input_blocks_3_0_op", "down_blocks.0.downsamplers.0.conv"),
        ("label_emb_0_2", "add_embedding.linear_2"),
    ],
)
@pytest.mark.parametrize("prefix", ["lora_unet_", "diffusion_model."])
def test_ldms_names_are_read(tmp_path, prefix, ldm, module):
    """Keys as kohya's SDXL trainer and ComfyUI write them."""
    name = prefix + ldm
    save_file(
        {f"{name}.lora_down.weight": torch.ones(2, 6), f"{name}.lora_up.weight": torch.ones(5, 2)},
        tmp_path / "a.safetensors",
    )
    assert lora.load(tmp_path / "a.safetensors").pairs.keys() == {f"unet.{module}"}


UNETS = {
    "sd15 and sd2": ([2, 2, 2, 2], [1, 2, 4, 4], [1, 1, 1, 1, 1, 1, 0, 0], 1, [1] * 9 + [0] * 3),
    "sdxl": ([2, 2, 2], [1, 2, 4], [0, 0, 2, 2, 10, 10], 10, [0, 0, 0, 2, 2, 2, 10, 10, 10]),
}


@pytest.mark.parametrize("family", UNETS)
def test_every_module_that_comfyui_knows_by_ldms_name_is_read(comfy, family):
    import comfy.utils

    blocks, widths, down, middle, up = UNETS[family]
    ldm_of = comfy.utils.unet_to_diffusers(
        {
            "num_res_blocks": blocks,
            "channel_mult": widths,
            "transformer_depth": down,
            "transformer_depth_middle": middle,
            "transformer_depth_output": up,
        }
    )
    weights = {
        path.removesuffix(".weight"): ldm.removesuffix(".weight")
        for path, ldm in ldm_of.items()
        if path.endswith(".weight") and "norm" not in path and "class_embedding" not in path
    }
    assert len(weights) > 250
    for path, ldm in weights.items():
        assert module_of(f"lora_unet_{ldm.replace('.', '_')}") == f"unet.{path}"
        assert module_of(f"diffusion_model.{ldm}") == f"unet.{path}"
        assert module_of(f"lora_unet_{path.replace('.', '_')}") == f"unet.{path}"


def test_kohyas_text_encoders_are_read():
    for name in lora_names("text_model.encoder.layers.11"):
        flat = name.replace(".", "_")
        assert module_of(f"lora_te_{flat}") == module_of(f"lora_te1_{flat}") == f"text_encoder.{name}"
        assert module_of(f"lora_te2_{flat}") == f"text_encoder_2.{name}"


def lora_names(layer):
    attention = [f"{layer}.self_attn.{name}_proj" for name in ("q", "k", "v", "out")]
    return [*attention, f"{layer}.mlp.fc1", f"{layer}.mlp.fc2", "text_projection"]


def test_others_may_read_a_file_as_they_may_any(tmp_path):
    (tmp_path / "any").touch()
    lora.save(
        tmp_path / "a.safetensors",
        lora.Lora({"unet.mid_block.to_q": lora.LoraPair(torch.ones(2, 4), torch.ones(4, 2), 2.0)}),
    )
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode

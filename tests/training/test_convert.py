import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from unclutter.adapters import lora
from unclutter.training.cli import main

TO_Q = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture
def files(tmp_path):
    pair = lora.LoraPair(torch.randn(2, 32), torch.randn(32, 2), 2.0)
    lora.save(tmp_path / "peft.safetensors", lora.Lora({TO_Q: pair}), "diffusers")
    UNet2DConditionModel(
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        layers_per_block=1,
    ).save_pretrained(tmp_path / "base" / "unet")
    return tmp_path


def run(files, *options):
    return main(["convert", str(files / "peft.safetensors"), str(files / "out.safetensors"), *options])


def test_there_and_back_is_the_same_lora(files, capsys):
    assert run(files, "--to", "kohya", "--base", str(files / "base")) == 0
    assert "1 modules of rank up to 2" in capsys.readouterr().out
    there = lora.load(files / "out.safetensors")
    back = str(files / "back.safetensors")
    assert main(["convert", str(files / "out.safetensors"), back, "--to", "diffusers"]) == 0
    first, last = lora.load(files / "peft.safetensors"), lora.load(files / "back.safetensors")
    for adapter in (there, last):
        assert torch.equal(adapter.pairs[TO_Q].up, first.pairs[TO_Q].up)


def test_a_lora_for_another_network_is_refused(files, capsys):
    lora.save(files / "peft.safetensors", lora.Lora({TO_Q: lora.LoraPair(torch.ones(2, 9), torch.ones(32, 2), 2.0)}))
    assert run(files, "--base", str(files / "base")) == 1
    error = capsys.readouterr().err
    assert f"0 of the LoRA's 1 modules fit this network, expected all ({TO_Q.removeprefix('unet.')} does not)" in error
    assert not (files / "out.safetensors").exists()


def change(file, base):
    """The change that diffusers makes of a LoRA file, for every weight of the network."""
    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    state, alphas, metadata = StableDiffusionPipeline.lora_state_dict(file, return_lora_metadata=True)
    StableDiffusionPipeline.load_lora_into_unet(state, alphas, unet, metadata=metadata)
    unet.fuse_lora()
    unet.unload_lora()
    return {name: value - before[name] for name, value in unet.state_dict().items()}


@pytest.mark.parametrize("style", ["kohya", "diffusers"])
def test_a_lora_of_diffusers_keeps_its_strength(files, style):
    """diffusers keeps an alpha that is not the rank in the header alone."""
    unet = UNet2DConditionModel.from_pretrained(files / "base", subfolder="unet")
    torch.manual_seed(0)
    unet.add_adapter(
        LoraConfig(r=4, lora_alpha=12, target_modules=["to_q", "to_out.0", "conv1"], init_lora_weights=False)
    )
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    metadata = _collate_lora_metadata({"unet": unet})
    StableDiffusionPipeline.save_lora_weights(files, layers, weight_name="peft.safetensors", **metadata)
    assert run(files, "--to", style, "--base", str(files / "base")) == 0
    expected, converted = (change(files / name, files / "base") for name in ("peft.safetensors", "out.safetensors"))
    assert sum(bool(value.any()) for value in expected.values()) == len(layers) / 2 > 20
    for name, value in expected.items():
        torch.testing.assert_close(converted[name], value, msg=name)


def test_a_file_in_which_nothing_matches_is_an_error(files, capsys):
    block = "transformer.single_transformer_blocks.0.attn.to_q"
    save_file(
        {f"{block}.lora_A.weight": torch.ones(2, 8), f"{block}.lora_B.weight": torch.ones(8, 2)},
        files / "peft.safetensors",
    )
    assert run(files) == 1
    assert "0 of 2 tensors are LoRA factors" in capsys.readouterr().err and not (files / "out.safetensors").exists()

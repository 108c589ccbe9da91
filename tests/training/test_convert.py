import pytest
import torch
from diffusers import UNet2DConditionModel

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
    assert "0 of the LoRA's 1 modules fit" in capsys.readouterr().err and not (files / "out.safetensors").exists()

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from unclutter.adapters import mini
from unclutter.training.checkpoints import load_checkpoint
from unclutter.training.photo import remove_region
from unclutter.training.sampling import MASG, AttentiveEraser, SelfRectifying

BLOCKS = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")


def text_encoder(tokenizer, kind=CLIPTextModel):
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return kind(
        CLIPTextConfig(vocab_size=len(tokenizer), projection_dim=32, pad_token_id=tokenizer.pad_token_id, **size, **ids)
    )


def save(path, family):
    """A pipeline of the family with tiny random networks, as a diffusers folder."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(mini.FOLDER / "tokenizer")
    sdxl = family is StableDiffusionXLPipeline
    extra = (
        {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 80}
        if sdxl
        else {}
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=9 if family is StableDiffusionInpaintPipeline else 4,
        block_out_channels=(32, 64),
        down_block_types=BLOCKS[0],
        up_block_types=BLOCKS[1],
        layers_per_block=1,
        cross_attention_dim=64 if sdxl else 32,
        attention_head_dim=2,
        **extra,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32,) * 4,
        latent_channels=4,
    )
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    parts = {
        "unet": unet,
        "vae": vae,
        "scheduler": scheduler,
        "tokenizer": tokenizer,
        "text_encoder": text_encoder(tokenizer),
    }
    if sdxl:
        parts |= {"tokenizer_2": tokenizer, "text_encoder_2": text_encoder(tokenizer, CLIPTextModelWithProjection)}
    else:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    family(**parts).save_pretrained(path)


@pytest.mark.parametrize("family", [StableDiffusionPipeline, StableDiffusionInpaintPipeline, StableDiffusionXLPipeline])
def test_a_diffusers_folder_removes_from_a_photo(tmp_path, family):
    save(tmp_path, family)
    base = load_checkpoint(tmp_path, "cpu")
    assert base.native_size == 64 and base.multiple == 16
    assert base.inpaints == (family is StableDiffusionInpaintPipeline)
    picture, hole = torch.rand(1, 3, 150, 200), torch.zeros(1, 150, 200)
    hole[:, 60:90, 80:100] = 1
    for method in (MASG(), AttentiveEraser(), SelfRectifying()):
        out = remove_region(base, picture, hole, method, steps=2)
        assert out.shape == picture.shape and out.isfinite().all()
        assert torch.equal(out[..., :40, :], picture[..., :40, :])
        assert not torch.equal(out, picture)


def test_a_file_that_is_no_checkpoint_says_so(tmp_path):
    from safetensors.torch import save_file

    save_file({"lora_unet.weight": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=r"model\.diffusion_model"):
        load_checkpoint(tmp_path / "lora.safetensors", "cpu")

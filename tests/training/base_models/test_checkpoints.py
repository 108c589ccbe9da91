"""Checkpoints of the SD family on disk, with tiny random networks: sampled from, and trained."""

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from unclutter.adapters import lora, mini, prompt
from unclutter.training.base_models.checkpoints import load_checkpoint
from unclutter.training.cli import main
from unclutter.training.data.drawn import draw_pairs
from unclutter.training.data.settings import DrawnConfig
from unclutter.training.images.files import read_image, write_image
from unclutter.training.recipes.eradiff import EraDiff
from unclutter.training.recipes.eradiff_settings import EraDiffRecipe
from unclutter.training.recipes.loop import train
from unclutter.training.recipes.lrnr import LRNR
from unclutter.training.recipes.lrnr_settings import LRNRRecipe
from unclutter.training.sampling.adapters import with_adapters
from unclutter.training.sampling.methods import MASG, AttentiveEraser, SelfRectifying
from unclutter.training.sampling.removers import Sampling

BLOCKS = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")


def text_encoder(tokenizer, kind=CLIPTextModel, width=32):
    size = {"hidden_size": width, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return kind(
        CLIPTextConfig(vocab_size=len(tokenizer), projection_dim=32, pad_token_id=tokenizer.pad_token_id, **size, **ids)
    )


def save(path, family, text_width=32):
    """A pipeline of the family with tiny random networks, as a diffusers folder."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(mini.FOLDER / "tokenizer")
    sdxl = family in (StableDiffusionXLPipeline, StableDiffusionXLInpaintPipeline)
    extra = (
        {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 80}
        if sdxl
        else {}
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=9 if "Inpaint" in family.__name__ else 4,
        block_out_channels=(32, 64),
        down_block_types=BLOCKS[0],
        up_block_types=BLOCKS[1],
        layers_per_block=1,
        cross_attention_dim=64 if sdxl else text_width,
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
        "text_encoder": text_encoder(tokenizer, width=text_width),
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
        (out,) = Sampling(base, method, steps=2)([picture], [hole], [0])
        assert out.shape == picture.shape and out.isfinite().all()
        assert torch.equal(out[..., :40, :], picture[..., :40, :])
        assert not torch.equal(out, picture)


@pytest.mark.parametrize("start", ["draft", "picture", "noise"])
def test_a_folder_of_photos_goes_through_a_checkpoint_from_every_start(tmp_path, start):
    save(tmp_path / "base", StableDiffusionXLInpaintPipeline)
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    for name in ("one", "two"):
        mask = torch.zeros(1, 3, 96, 128)
        mask[..., 40:60, 50:80] = 1
        write_image(photos / f"{name}.png", torch.rand(1, 3, 96, 128))
        write_image(masks / f"{name}.png", mask)
    folders = [str(photos), str(masks), "-o", str(tmp_path / "out"), "--base", str(tmp_path / "base")]
    assert main(["remove", *folders, "--method", "sra", "--steps", "2", "--start", start, "--device", "cpu"]) == 0
    for name in ("one", "two"):
        before, after = read_image(photos / f"{name}.png"), read_image(tmp_path / "out" / f"{name}.png")
        assert torch.equal(before[..., :20, :], after[..., :20, :]) and not torch.equal(before, after)


@pytest.mark.parametrize(
    ("family", "text_width", "encoders"),
    [
        (StableDiffusionInpaintPipeline, 32, {"clip_l"}),
        (StableDiffusionInpaintPipeline, 1024, {"clip_h"}),
        (StableDiffusionXLInpaintPipeline, 32, {"clip_l", "clip_g"}),
    ],
    ids=["sd15", "sd2", "sdxl"],
)
def test_every_family_is_trained_and_removes_with_what_it_learned(tmp_path, family, text_width, encoders):
    save(tmp_path / "base", family, text_width)
    draw_pairs(DrawnConfig(tmp_path / "pairs", count=2))
    shared = {"base": tmp_path / "base", "steps": 2, "batch": 2, "lora_rank": 2, "workers": 0, "sample_every": 0}
    train(LRNRRecipe(tmp_path / "pairs", tmp_path / "lrnr", **shared, learning_rate=0.1, enhancers=("8K",)), LRNR)
    train(EraDiffRecipe(tmp_path / "pairs", tmp_path / "eradiff", **shared), EraDiff)
    assert prompt.load(tmp_path / "lrnr" / "prompt.safetensors").vectors.keys() == encoders
    pairs = lora.load(tmp_path / "eradiff" / "lora.safetensors").pairs
    assert len(pairs) == 3 * 2 * 4  # projections, self- and cross-attention, transformer blocks
    picture, hole = torch.rand(1, 3, 64, 64), torch.zeros(1, 64, 64)
    hole[:, 20:40, 20:40] = 1
    untrained = Sampling(load_checkpoint(tmp_path / "base", "cpu"), MASG(), steps=2)
    (before,) = untrained([picture], [hole], [0])
    base, text = with_adapters(load_checkpoint(tmp_path / "base", "cpu"), tmp_path / "lrnr")
    (after,) = Sampling(base, MASG(), positive=text, steps=2)([picture], [hole], [0])
    assert after.isfinite().all() and not torch.equal(before, after)


def test_a_file_that_is_no_checkpoint_says_so(tmp_path):
    save_file({"lora_unet.weight": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=r"model\.diffusion_model"):
        load_checkpoint(tmp_path / "lora.safetensors", "cpu")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 a pickle in a zip"])
def test_a_damaged_file_says_so(tmp_path, content):
    (tmp_path / "base.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"base\.safetensors is no whole safetensors file"):
        load_checkpoint(tmp_path / "base.safetensors", "cpu")


def test_a_damaged_part_of_a_folder_says_so(tmp_path):
    save(tmp_path / "base", StableDiffusionPipeline)
    part = tmp_path / "base" / "text_encoder" / "model.safetensors"
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(ValueError, match="or holds one that is not"):
        load_checkpoint(tmp_path / "base", "cpu")


def test_a_part_that_is_a_pickle_alone_is_not_opened(tmp_path):
    save(tmp_path / "base", StableDiffusionPipeline)
    part = tmp_path / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(part), part.with_suffix(".bin"))
    load_checkpoint(tmp_path / "base", "cpu")
    part.unlink()
    with pytest.raises(
        ValueError, match=r"unet/diffusion_pytorch_model\.bin in .* is a pickle.*put the \.safetensors file"
    ):
        load_checkpoint(tmp_path / "base", "cpu")


def test_a_folder_of_half_precision_files_alone_is_read(tmp_path):
    save(tmp_path / "base", StableDiffusionInpaintPipeline)
    whole = load_checkpoint(tmp_path / "base", "cpu").network.state_dict()
    for file in (tmp_path / "base").glob("*/*.safetensors"):
        file.rename(file.with_suffix(".fp16.safetensors"))
    half = load_checkpoint(tmp_path / "base", "cpu").network.state_dict()
    assert all(torch.equal(value, half[key]) for key, value in whole.items())

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from unclutter.adapters import layered
from unclutter.adapters.lora import LoraPair
from unclutter.kernels.lowrank import BACKGROUND, PERSON
from unclutter.kernels.morphology import HumanMorphology

MODULE = "mid_block.attentions.0.transformer_blocks.0.attn1"


@pytest.fixture
def eraser():
    torch.manual_seed(0)
    pairs = [
        {f"{MODULE}.{name}": LoraPair(torch.randn(4, 8), torch.randn(8, 4), alpha) for name in ("to_q", "to_k", "to_v")}
        for alpha in (4.0, 6.5)
    ]
    morphology = {key: torch.randn_like(value) for key, value in HumanMorphology(8).state_dict().items()}
    return layered.Layered(*pairs, {MODULE: torch.tensor([0.0, -2.0])}, morphology, {"unclutter.method": "mild"})


def test_an_eraser_reads_back_as_it_was(eraser, tmp_path):
    layered.save(tmp_path / "new" / "l.safetensors", eraser)
    again = layered.load(tmp_path / "new" / "l.safetensors")
    for before, after in ((eraser.foreground, again.foreground), (eraser.background, again.background)):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key].up, after[key].up) for key in before)
        assert all(before[key].alpha == after[key].alpha for key in before)
    assert torch.equal(again.sma[MODULE], eraser.sma[MODULE]) and again.rank == 4
    assert all(torch.equal(again.morphology[key], value) for key, value in eraser.morphology.items())
    assert again.metadata["unclutter.method"] == "mild" and again.metadata["unclutter.kind"] == "layered"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["l.safetensors"]


def test_the_file_names_its_parts(eraser, tmp_path):
    layered.save(tmp_path / "l.safetensors", eraser)
    with safe_open(tmp_path / "l.safetensors", framework="pt") as file:
        assert {key.partition(".")[0] for key in file.keys()} == {"fg", "bg", "sma", "hmg"}  # noqa: SIM118
        assert f"fg.{MODULE}.to_q.lora_down.weight" in file.keys()  # noqa: SIM118


def test_branches_come_with_their_learned_scales(eraser):
    branches = eraser.projections()[f"{MODULE}.to_q"]
    pair = eraser.background[f"{MODULE}.to_q"]
    torch.testing.assert_close(branches.up[BACKGROUND], 6.5 / 4 * pair.up)
    assert torch.equal(branches.up[PERSON], eraser.foreground[f"{MODULE}.to_q"].up)


def without(part):
    return lambda tensors: {key: value for key, value in tensors.items() if not key.startswith(part)}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without("bg."), "expected LoRAs under fg. and bg."),
        (without("fg.mid_block.attentions.0.transformer_blocks.0.attn1.to_k.lora_up"), "lacks fg.*to_k.lora_up"),
        (without("hmg.pose.project.bias"), "are no Human Morphology Guidance"),
        (lambda t: {**t, "lora_unet_x.alpha": torch.ones(())}, "lora_unet_x.alpha is not"),
        (lambda t: {**t, f"sma.{MODULE}": torch.zeros(2, 2)}, r"has \[2, 2\] for sma"),
        (lambda t: {**t, f"fg.{MODULE}.to_q.lora_up.weight": torch.ones(8, 5)}, r"factors of \[4, 8\] and \[8, 5\]"),
        (lambda t: {**t, "fg.x.bias": torch.ones(1)}, "has fg.x.bias"),
        (lambda t: {"weight": torch.ones(1)}, "0 of 1 tensors are those of a layered eraser, weight is not"),
    ],
)
def test_any_other_file_says_what_is_wrong_with_it(eraser, tmp_path, damage, words):
    path = tmp_path / "l.safetensors"
    layered.save(path, eraser)
    save_file(damage(load_file(path)), path)
    with pytest.raises(ValueError, match=words) as raised:
        layered.load(path)
    assert "l.safetensors" in str(raised.value) and "\n" not in str(raised.value)


def test_a_missing_or_cut_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        layered.load(tmp_path / "none.safetensors")
    (tmp_path / "l.safetensors").write_bytes(b"PK pickled")
    with pytest.raises(ValueError, match="no whole safetensors file"):
        layered.load(tmp_path / "l.safetensors")

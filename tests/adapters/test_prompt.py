import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from unclutter.adapters import prompt

TASKS = "text_model.embeddings.token_embedding.trainable_embeddings."


@pytest.fixture
def learned():
    vectors = {"clip_l": torch.randn(1, 768), "clip_g": torch.randn(1, 1280)}
    return prompt.RemovalPrompt(vectors, ("8K", "full dynamic range"), False, {"unclutter.method": "lrnr"})


def test_a_prompt_reads_back_as_it_was(learned, tmp_path):
    prompt.save(tmp_path / "new" / "p.safetensors", learned)
    again = prompt.load(tmp_path / "new" / "p.safetensors")
    assert again.enhancers == learned.enhancers and again.prompt_first is False and not again.negative
    assert again.vectors.keys() == learned.vectors.keys()
    assert all(torch.equal(again.vectors[name], learned.vectors[name]) for name in learned.vectors)


def test_the_file_holds_what_comfyui_looks_for_and_says_what_it_is(learned, tmp_path):
    prompt.save(tmp_path / "p.safetensors", learned)
    with safe_open(tmp_path / "p.safetensors", framework="pt") as file:
        assert set(file.keys()) == {"clip_l", "clip_g"}
        header = file.metadata()
    assert header["unclutter.kind"] == "prompt" and header["unclutter.method"] == "lrnr"
    assert header["modelspec.sai_model_spec"] == "1.0.0"


@pytest.mark.parametrize("key", ["emb_params", "<removal>"])
def test_the_one_tensor_of_other_trainers_is_read(tmp_path, key):
    save_file({key: torch.ones(3, 768)}, tmp_path / "p.safetensors")
    assert prompt.load(tmp_path / "p.safetensors").vectors["clip_l"].shape == (3, 768)


@pytest.mark.parametrize("prefix", ["", "text_encoder."])
def test_powerpaints_removal_is_its_context_token_against_its_object_token(tmp_path, prefix):
    tasks = {name: torch.randn(10, 768) for name in ("P_ctxt", "P_shape", "P_obj")}
    rest = {f"{prefix}text_model.final_layer_norm.bias": torch.zeros(768)}
    save_file({f"{prefix}{TASKS}{name}": value for name, value in tasks.items()} | rest, tmp_path / "p.safetensors")
    learned = prompt.load(tmp_path / "p.safetensors")
    assert torch.equal(learned.vectors["clip_l"], tasks["P_ctxt"]) and not learned.prompt_first
    assert torch.equal(learned.negative["clip_l"], tasks["P_obj"])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"clip_l": torch.zeros(768)}, r"holds 1 tensors \(clip_l \[768\]\), expected the vectors"),
        ({"a": torch.zeros(1, 8), "b": torch.zeros(2, 8)}, r"holds 2 tensors \(a \[1, 8\], b \[2, 8\]\)"),
        ({f"{TASKS}P_shape": torch.zeros(10, 8), "x": torch.zeros(2)}, "holds 2 tensors"),
    ],
)
def test_a_file_that_is_no_prompt_says_what_it_holds(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "p.safetensors")
    with pytest.raises(ValueError, match=message):
        prompt.load(tmp_path / "p.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*gone.safetensors"):
        prompt.load(tmp_path / "gone.safetensors")

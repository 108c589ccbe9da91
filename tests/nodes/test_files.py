"""The files that loaders offer: those of their kind, the user's before those of the mini model."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

MINI = {kind: f"unclutter-mini-{kind}.safetensors" for kind in ("eradiff", "lrnr", "mild", "osor")}
A_LORA = {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": torch.zeros(1, 1)}


@pytest.fixture
def models(comfy, tmp_path, monkeypatch):
    """ComfyUI's folders of LoRAs and of embeddings, empty."""
    import folder_paths

    for folder in ("loras", "embeddings"):
        (tmp_path / folder).mkdir()
        _, endings = folder_paths.folder_names_and_paths[folder]
        monkeypatch.setitem(folder_paths.folder_names_and_paths, folder, ([str(tmp_path / folder)], endings))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return tmp_path


def test_core_lists_nothing_of_the_mini_model_and_each_of_our_loaders_its_own(models):
    import folder_paths

    from unclutter.nodes import host

    assert folder_paths.get_filename_list("loras") == folder_paths.get_filename_list("embeddings") == []
    assert host.lora_files() == [MINI["eradiff"], MINI["lrnr"]]
    assert host.layered_files() == [MINI["mild"]]
    assert host.one_step_files() == [MINI["osor"]]
    assert host.embedding_files() == [MINI["lrnr"]]
    assert host.file_path("loras", MINI["osor"]).is_file()


def test_files_of_the_user_come_first_and_only_where_they_fit(models):
    """An older layered eraser, or OSOR's as safetensors, says no kind: the names of its tensors tell."""
    from unclutter.nodes import host

    loras = models / "loras"
    save_file(A_LORA, loras / "a style.safetensors")
    save_file(A_LORA, loras / "trained.safetensors", {"unclutter.kind": "lora"})
    save_file({"fg.mid.lora_down.weight": torch.zeros(1, 1)}, loras / "layers.safetensors")
    save_file({"unet.conv_out.weight": torch.zeros(1, 1)}, loras / "converted.safetensors")
    save_file(A_LORA, loras / "once.safetensors", {"unclutter.kind": "one_step"})
    (loras / "sdxlinpainting_phase2.pth").write_bytes(b"")
    (loras / "a stray.safetensors").write_bytes(b"")
    save_file({"clip_l": torch.zeros(1, 1)}, models / "embeddings" / "word.safetensors")
    assert host.lora_files() == [
        "trained.safetensors",
        "a stray.safetensors",
        "a style.safetensors",
        MINI["eradiff"],
        MINI["lrnr"],
    ]
    assert host.layered_files() == ["layers.safetensors", MINI["mild"]]
    assert host.one_step_files() == [
        "converted.safetensors",
        "once.safetensors",
        "sdxlinpainting_phase2.pth",
        MINI["osor"],
    ]
    assert host.embedding_files() == ["word.safetensors", MINI["lrnr"]]


def test_a_file_of_the_user_goes_before_the_mini_models_of_the_same_name(models):
    from unclutter.nodes import host

    save_file(A_LORA, models / "loras" / MINI["eradiff"], {"unclutter.kind": "lora"})
    assert host.file_path("loras", MINI["eradiff"]) == models / "loras" / MINI["eradiff"]
    assert host.lora_files() == [MINI["eradiff"], MINI["lrnr"]]


def test_a_file_is_read_again_once_it_has_changed(models):
    from unclutter.nodes import host

    path = models / "loras" / "mine.safetensors"
    save_file(A_LORA, path, {"unclutter.kind": "layered"})
    assert "mine.safetensors" not in host.lora_files()
    save_file(A_LORA, path, {"unclutter.kind": "lora"})
    assert "mine.safetensors" in host.lora_files()

"""Load Removal Prompt, and our files in ComfyUI's stock loaders."""

import pytest
import torch
from safetensors.torch import save_file

from unclutter.adapters import lora, mini, prompt
from unclutter.training.sampling import load_mini
from unclutter.training.text import REMOVAL


@pytest.fixture
def embeddings(comfy, tmp_path, monkeypatch):
    import folder_paths

    paths, extensions = folder_paths.folder_names_and_paths["embeddings"]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings", ([*paths, str(tmp_path)], extensions))
    return tmp_path


@pytest.fixture(scope="module")
def clip(comfy):
    from unclutter.nodes import host

    return host.load_mini(mini.load())[1]


def load(clip, name, enhancers=True, order="as trained", background="", negative=""):
    from unclutter.nodes.prompt import LoadRemovalPrompt

    return LoadRemovalPrompt.execute(clip, name, enhancers, order, background, negative).args


def vectors(count=2, width=64, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("first", [True, False])
def test_both_hosts_encode_a_learned_prompt_alike(embeddings, clip, first):
    learned = prompt.RemovalPrompt({"clip_l": vectors()}, ("8K", "nikon"), first)
    prompt.save(embeddings / "p.safetensors", learned)
    ((context, _),), ((negative, _),), _ = load(clip, "p.safetensors", background="red disc", negative="blue ring")
    texts = load_mini().texts
    texts.removal = learned.vectors
    text = f"{REMOVAL} 8K, nikon red disc" if first else f"8K, nikon {REMOVAL} red disc"
    torch.testing.assert_close(context, texts.encode([text], (64, 64)).context, atol=1e-4, rtol=0)
    torch.testing.assert_close(negative, texts.encode(["blue ring"], (64, 64)).context, atol=1e-4, rtol=0)


def test_core_reads_the_same_file_by_name(embeddings, clip):
    prompt.save(embeddings / "p.safetensors", prompt.RemovalPrompt({"clip_l": vectors()}))
    clip.tokenizer.clip_l.embedding_directory = [str(embeddings)]
    ((stock, _),) = clip.encode_from_tokens_scheduled(clip.tokenize("embedding:p"))
    ((ours, _),), ((empty, _),), _ = load(clip, "p.safetensors")
    torch.testing.assert_close(ours, stock)
    assert not torch.allclose(stock, empty, atol=1e-2)


def test_words_and_order_are_the_users_choice(embeddings, clip):
    learned = prompt.RemovalPrompt({"clip_l": vectors()}, ("8K", "nikon"), True)
    prompt.save(embeddings / "p.safetensors", learned)
    contexts = [
        load(clip, "p.safetensors", *choice)[0][0][0]
        for choice in ((True, "as trained"), (True, "prompt first"), (True, "words first"), (False, "as trained"))
    ]
    assert torch.equal(contexts[0], contexts[1])
    assert all(not torch.allclose(contexts[0], other, atol=1e-3) for other in contexts[2:])


def test_powerpaints_task_prompts_are_for_and_against(embeddings, clip):
    table = "text_model.embeddings.token_embedding.trainable_embeddings."
    tasks = {f"{table}{name}": vectors(10, 64, seed) for seed, name in enumerate(("P_ctxt", "P_shape", "P_obj"))}
    save_file(
        {"text_model.embeddings.token_embedding.wrapped.weight": torch.zeros(9, 64), **tasks},
        embeddings / "pp.safetensors",
    )
    ((positive, _),), ((negative, _),), info = load(clip, "pp.safetensors")
    texts = load_mini().texts
    texts.removal = {"clip_l": tasks[f"{table}P_ctxt"]}
    expected = texts.encode([f"empty scene blur {REMOVAL}"], (64, 64)).context
    torch.testing.assert_close(positive, expected, atol=1e-4, rtol=0)
    texts.removal = {"clip_l": tasks[f"{table}P_obj"]}
    torch.testing.assert_close(negative, texts.encode([REMOVAL], (64, 64)).context, atol=1e-4, rtol=0)
    assert "10 × 64" in info


def test_an_lrnr_prompt_says_what_not_to_combine_it_with(embeddings, clip):
    metadata = {"unclutter.method": "lrnr", "unclutter.condition_image": "full"}
    prompt.save(embeddings / "p.safetensors", prompt.RemovalPrompt({"clip_l": vectors()}, metadata=metadata))
    info = load(clip, "p.safetensors")[2]
    assert "condition image: full" in info and "leave Attentive Eraser" in info


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"clip_l": torch.zeros(1, 768)}, "768 wide and this text encoder's 64"),
        ({"clip_g": torch.zeros(1, 1280), "clip_h": torch.zeros(1, 64)}, "has vectors for clip_g, clip_h .* clip_l"),
        ({"clip_l": torch.zeros(76, 64)}, "takes 76 tokens, expected at most 75"),
        ({"a": torch.zeros(3, 3), "b": torch.zeros(3)}, "holds 2 tensors .* expected the vectors"),
        ({"clip_l": torch.zeros(64)}, r"clip_l \[64\]"),
    ],
)
def test_a_prompt_that_does_not_fit_says_so(embeddings, clip, tensors, message):
    save_file(tensors, embeddings / "bad.safetensors")
    with pytest.raises(ValueError, match=message):
        load(clip, "bad.safetensors")


def test_a_truncated_file_and_a_pickle_are_refused(embeddings, clip):
    save_file({"clip_l": vectors()}, embeddings / "p.safetensors")
    (embeddings / "cut.safetensors").write_bytes((embeddings / "p.safetensors").read_bytes()[:200])
    torch.save({"clip_l": vectors()}, embeddings / "pickle.safetensors")
    for name in ("cut.safetensors", "pickle.safetensors"):
        with pytest.raises(ValueError, match="no whole safetensors file"):
            load(clip, name)


def test_core_applies_every_pair_of_our_lora(comfy, tmp_path):
    """What LoraLoader does, counted: every module is patched, by alpha / rank · up @ down."""
    import comfy.sd
    import comfy.utils

    from unclutter.nodes import host

    model, clip, _ = host.load_mini(mini.load())
    network = load_mini().unet
    names = [name for name, _ in network.named_modules() if name.endswith(("to_q", "to_k", "to_v"))]
    generator = torch.Generator().manual_seed(0)
    pairs = {}
    for name in names:
        out, inner = network.get_submodule(name).weight.shape
        down, up = (torch.randn(*shape, generator=generator) for shape in ((3, inner), (out, 3)))
        pairs[f"unet.{name}"] = lora.LoraPair(down, up, 6.0)
    lora.save(tmp_path / "lora.safetensors", lora.Lora(pairs))
    patched, _ = comfy.sd.load_lora_for_models(
        model, clip, comfy.utils.load_torch_file(str(tmp_path / "lora.safetensors")), 1.0, 1.0
    )
    assert len(patched.patches) == len(names) > 20
    patched.patch_model()
    before, after = load_mini().unet.state_dict(), patched.model.diffusion_model.state_dict()
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    changed = after["middle_block.1.transformer_blocks.0.attn1.to_q.weight"]
    expected = before[f"{name}.weight"] + 2 * pairs[f"unet.{name}"].up @ pairs[f"unet.{name}"].down
    torch.testing.assert_close(changed, expected, atol=1e-4, rtol=1e-4)

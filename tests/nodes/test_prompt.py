"""Load Removal Prompt, and our files in ComfyUI's stock loaders."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from unclutter.adapters import lora, mini, prompt
from unclutter.tests.nodes.running import run_node
from unclutter.training.base_models.mini import load_mini
from unclutter.training.base_models.text import REMOVAL
from unclutter.training.cli import main
from unclutter.training.data.drawn import draw_pairs
from unclutter.training.data.settings import DrawnConfig


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

    return run_node(
        LoadRemovalPrompt,
        clip,
        file=name,
        enhancers=enhancers,
        order=order,
        background=background,
        negative_text=negative,
    )


def vectors(count=2, width=64, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("first", [True, False])
def test_both_hosts_encode_a_learned_prompt_alike(embeddings, clip, first):
    learned = prompt.RemovalPrompt({"clip_l": vectors()}, ("8K", "nikon"), first)
    prompt.save(embeddings / "p.safetensors", learned)
    ((context, _),), ((negative, _),), _ = load(clip, "p.safetensors", background="red disc", negative="blue ring")
    texts = load_mini().texts
    texts.removal = learned.vectors
    text = f"{REMOVAL} 8K, nikon red disc" if first else f"8K, nikon red disc {REMOVAL}"
    torch.testing.assert_close(context, texts.encode([text], (64, 64)).context, atol=1e-4, rtol=0)
    torch.testing.assert_close(negative, texts.encode(["blue ring"], (64, 64)).context, atol=1e-4, rtol=0)


def test_core_reads_the_same_file_by_name(embeddings, clip):
    prompt.save(embeddings / "p.safetensors", prompt.RemovalPrompt({"clip_l": vectors()}))
    clip.tokenizer.clip_l.embedding_directory = [str(embeddings)]
    ((stock, _),) = clip.encode_from_tokens_scheduled(clip.tokenize("embedding:p"))
    ((ours, _),), ((empty, _),), _ = load(clip, "p.safetensors")
    torch.testing.assert_close(ours, stock)
    assert not torch.allclose(stock, empty, atol=1e-2)


def tiny_clip(family, folder):
    """SD's text encoders and core's tokenizers for them, three layers of width 32 with random weights."""
    import comfy.sd
    import comfy.sd1_clip
    import comfy.sdxl_clip
    from comfy.supported_models_base import ClipTarget
    from comfy.text_encoders import sd2_clip

    from unclutter.tests.nodes import tiny

    target = {
        "SD1.5": (comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel),
        "SD2": (sd2_clip.SD2Tokenizer, sd2_clip.SD2ClipModel),
        "SDXL": (comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel),
    }[family]
    size = {"num_hidden_layers": 3, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    options = {f"{name}_model_config": size for name in ("clip_l", "clip_g", "clip_h")}
    clip = comfy.sd.CLIP(ClipTarget(*target), str(folder), model_options={"dtype": torch.float32, **options})
    tiny.fill(clip.cond_stage_model, 0)
    for name in clip.tokenize(""):
        getattr(clip.tokenizer, f"clip_{name}").embedding_size = 32
    return clip


@pytest.mark.parametrize(
    ("family", "encoders"), [("SD1.5", ["clip_l"]), ("SD2", ["clip_h"]), ("SDXL", ["clip_l", "clip_g"])]
)
def test_each_family_encodes_as_core_does(embeddings, family, encoders):
    clip = tiny_clip(family, embeddings)
    learned = prompt.RemovalPrompt({name: vectors(2, 32, seed) for seed, name in enumerate(encoders)}, ("8K", "nikon"))
    prompt.save(embeddings / "p.safetensors", learned)
    ours, negative, _ = load(clip, "p.safetensors", negative="red disc")
    for (context, more), text in ((ours[0], "embedding:p 8K, nikon"), (negative[0], "red disc")):
        ((expected, extra),) = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        torch.testing.assert_close(context, expected)
        torch.testing.assert_close(more["pooled_output"], extra["pooled_output"])
    ((without, _),) = clip.encode_from_tokens_scheduled(clip.tokenize("8K, nikon"))
    for with_prompt, without_it in zip(ours[0][0].split(32, -1), without.split(32, -1), strict=True):
        assert not torch.allclose(with_prompt, without_it, atol=1e-2)


@pytest.mark.parametrize("words", ["(red disc:1.4)", r"red (disc), \(blue\) ring", "((red)) disc"])
def test_words_weigh_as_in_core(embeddings, clip, words):
    prompt.save(embeddings / "p.safetensors", prompt.RemovalPrompt({"clip_l": vectors()}))
    clip.tokenizer.clip_l.embedding_directory = [str(embeddings)]
    ((ours, _),), ((negative, _),), _ = load(clip, "p.safetensors", background=words, negative=words)
    for context, text in ((ours, f"embedding:p {words}"), (negative, words)):
        ((stock, _),) = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        torch.testing.assert_close(context, stock)


def test_an_embedding_among_the_words_is_refused(embeddings, clip):
    prompt.save(embeddings / "p.safetensors", prompt.RemovalPrompt({"clip_l": vectors()}))
    for words in (("embedding:p", ""), ("", "a ring, embedding:p")):
        with pytest.raises(ValueError, match="embedding: does not work here"):
            load(clip, "p.safetensors", True, "as trained", *words)


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
    ((positive, _),), ((negative, _),), info = load(clip, "pp.safetensors", background="red disc", negative="ring")
    texts = load_mini().texts
    texts.removal = {"clip_l": tasks[f"{table}P_ctxt"]}
    expected = texts.encode([f"empty scene blur red disc {REMOVAL}"], (64, 64)).context
    torch.testing.assert_close(positive, expected, atol=1e-4, rtol=0)
    texts.removal = {"clip_l": tasks[f"{table}P_obj"]}
    torch.testing.assert_close(negative, texts.encode([f"ring {REMOVAL}"], (64, 64)).context, atol=1e-4, rtol=0)
    assert "10 × 64" in info


def test_powerpaints_merged_vocabulary_is_read_by_its_added_tokens(embeddings, clip):
    table = vectors(prompt.CLIP_WORDS + 30, 64)
    save_file({prompt.VOCABULARY: table}, embeddings / "merged.safetensors")
    with pytest.raises(
        ValueError, match="30 words more than CLIP's, and only added_tokens.json .*: put it beside the file"
    ):
        load(clip, "merged.safetensors")
    # P_obj first, as the development version has it.
    first = {"P_obj": prompt.CLIP_WORDS, "P_ctxt": prompt.CLIP_WORDS + 10, "P_shape": prompt.CLIP_WORDS + 20}
    added = {f"{word}_{index}": start + index for word, start in first.items() for index in range(10)}
    (embeddings / "added_tokens.json").write_text(json.dumps(added))
    learned = prompt.load(embeddings / "merged.safetensors")
    assert torch.equal(learned.vectors["clip_l"], table[prompt.CLIP_WORDS + 10 : prompt.CLIP_WORDS + 20])
    assert torch.equal(learned.negative["clip_l"], table[prompt.CLIP_WORDS : prompt.CLIP_WORDS + 10])
    info = load(clip, "merged.safetensors")[2]
    assert "condition image: masked grey" in info and "guidance: 10" in info and "v1" in info and "v2" in info


def test_powerpaint_v2_is_a_pickle_of_the_same(embeddings, clip):
    table = f"text_model.embeddings.{prompt.POWERPAINT}"
    tensors = {f"{table}{name}": vectors(10, 64, seed) for seed, name in enumerate(("P_ctxt", "P_shape", "P_obj"))}
    torch.save(tensors, embeddings / "pytorch_model.bin")
    save_file(tensors, embeddings / "v1.safetensors")
    ours, stock = (load(clip, name) for name in ("pytorch_model.bin", "v1.safetensors"))
    assert torch.equal(ours[0][0][0], stock[0][0][0]) and ours[2] == stock[2]


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
    (embeddings / "empty.safetensors").touch()
    for name in ("cut.safetensors", "pickle.safetensors", "empty.safetensors"):
        with pytest.raises(ValueError, match="no whole safetensors file"):
            load(clip, name)


def test_core_applies_every_pair_of_our_lora(comfy, tmp_path):
    """LoraLoader patches every module, by alpha / rank · up @ down."""
    import comfy.sd
    import comfy.utils

    from unclutter.nodes import host

    model, clip, _ = host.load_mini(mini.load())
    network = load_mini().network
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
    before, after = load_mini().network.state_dict(), patched.model.diffusion_model.state_dict()
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    changed = after["middle_block.1.transformer_blocks.0.attn1.to_q.weight"]
    expected = before[f"{name}.weight"] + 2 * pairs[f"unet.{name}"].up @ pairs[f"unet.{name}"].down
    torch.testing.assert_close(changed, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mixed", [True, False])
def test_remove_object_puts_all_of_diffusers_lora_on(comfy, tmp_path, monkeypatch, mixed):
    """As RORem's LCM LoRA mixes them: attention in diffusers' older keys, the rest in peft's."""
    import folder_paths

    from unclutter.nodes import host

    paths, extensions = folder_paths.folder_names_and_paths["loras"]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([*paths, str(tmp_path)], extensions))
    network, tensors = load_mini().network, {}
    for name, module in network.named_modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and name not in ("conv_in", "conv_out"):
            older = mixed and name.rpartition(".")[2] in ("to_q", "to_k", "to_v", "0")
            down, up = ("lora.down", "lora.up") if older else ("lora_A", "lora_B")
            out, inner, *kernel = module.weight.shape
            tensors |= {f"unet.{name}.{down}.weight": torch.ones(1, inner, *kernel)}
            tensors |= {f"unet.{name}.{up}.weight": torch.ones(out, 1, *[1] * len(kernel))}
    save_file(tensors, tmp_path / "lcm.safetensors")
    patched = host.with_lora(host.load_mini(mini.load())[0], "lcm.safetensors")
    assert sum(map(len, patched.patches.values())) == len(tensors) // 2


@pytest.fixture
def run(comfy_server):
    """Runs a graph {node: (class, inputs)} in a real server and reads what its node "save" wrote."""

    def run(name, **nodes):
        folder = comfy_server.base_directory / "output" / "test_prompt"
        for _, inputs in nodes.values():
            if "filename_prefix" in inputs:
                inputs["filename_prefix"] = f"test_prompt/{name}"
        comfy_server.post(
            {key: {"class_type": kind, "inputs": inputs, "_meta": {}} for key, (kind, inputs) in nodes.items()}
        )
        return load_file(max(folder.glob(f"{name}_0*"), key=lambda file: file.name))

    return run


def test_the_stock_loader_applies_every_pair_of_a_lora(comfy_server, run):
    """Counted in the weights that the stock ModelSave writes after LoraLoader, for every kind of module."""
    network = load_mini().network
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    pairs = {}
    for name, module in network.named_modules():
        if isinstance(module, kinds):
            out, inner, *kernel = module.weight.shape
            pairs[f"unet.{name}"] = lora.LoraPair(
                torch.ones(2, inner, *kernel), torch.ones(out, 2, *[1] * len(kernel)), 1.0
            )
    lora.save(comfy_server.base_directory / "models" / "loras" / "every.safetensors", lora.Lora(pairs))
    mini_model = ("UnclutterLoadMini", {})
    loader = {"model": ["mini", 0], "clip": ["mini", 1], "lora_name": "every.safetensors"}
    strengths = {"strength_model": 1.0, "strength_clip": 0.0}
    save = {"filename_prefix": ""}
    plain = run("plain", mini=mini_model, save=("ModelSave", {"model": ["mini", 0], **save}))
    patched = run(
        "patched",
        mini=mini_model,
        lora=("LoraLoader", loader | strengths),
        save=("ModelSave", {"model": ["lora", 0], **save}),
    )
    changed = {key for key in plain if not torch.equal(plain[key], patched[key])}
    assert len(changed) == len(pairs) > 100
    for key in changed:  # alpha / rank · up @ down = 1/2 · 2
        torch.testing.assert_close(patched[key] - plain[key], torch.ones_like(plain[key]), atol=1e-3, rtol=0)


def stock(text):
    return "CLIPTextEncode", {"clip": ["mini", 1], "text": text}


def sample(run, name, text, model=("mini", 0), **nodes):
    """The latent that two steps on the mini model make of the conditioning of the node `text`."""
    return run(
        name,
        mini=("UnclutterLoadMini", {}),
        **nodes,
        text=text,
        empty=stock(""),
        latent=("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
        sampler=(
            "KSampler",
            {"model": [*model], "positive": ["text", 0], "negative": ["empty", 0], "latent_image": ["latent", 0]}
            | {"seed": 1, "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0},
        ),
        save=("SaveLatent", {"samples": ["sampler", 0], "filename_prefix": ""}),
    )["latent_tensor"]


def test_the_stock_text_node_and_ours_sample_alike_and_a_new_file_is_read(comfy_server, run):
    folder = comfy_server.base_directory / "models" / "embeddings"
    choices = {"enhancers": True, "order": "as trained", "background": "", "negative_text": ""}
    ours = ("UnclutterLoadRemovalPrompt", {"clip": ["mini", 1], "file": "mine.safetensors", **choices})
    before, after = (prompt.RemovalPrompt({"clip_l": vectors(seed=seed)}, ("8K", "nikon")) for seed in (0, 9))
    prompt.save(folder / "mine.safetensors", before)
    first = sample(run, "first", ours)
    # The same graph at once: only the file's time of change can tell ComfyUI to run the node again.
    prompt.save(folder / "mine.safetensors", after)
    second = sample(run, "second", ours)
    assert not torch.allclose(first, second, atol=1e-2)
    torch.testing.assert_close(second, sample(run, "stock", stock("embedding:mine 8K, nikon")), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(second, sample(run, "words", stock("8K, nikon")), atol=1e-2)


def test_what_a_training_wrote_works_in_the_stock_nodes(comfy_server, run, tmp_path):
    """`unclutter train lrnr`, its two files copied: LoraLoader patches every pair, `embedding:` changes the picture."""
    draw_pairs(DrawnConfig(tmp_path / "pairs", count=2))
    folders = ["--data", str(tmp_path / "pairs"), "--output", str(tmp_path / "out")]
    short = ["--steps", "1", "--micro-batch", "2", "--batch", "2", "--workers", "0", "--learning-rate", "0.05"]
    assert main(["train", "lrnr", "mini", *folders, *short, "--sample-every", "0"]) == 0
    models = comfy_server.base_directory / "models"
    for file, folder in (("lora", "loras"), ("prompt", "embeddings")):
        shutil.copyfile(tmp_path / "out" / f"{file}.safetensors", models / folder / "trained.safetensors")
    loader = {"model": ["mini", 0], "clip": ["mini", 1], "lora_name": "trained.safetensors"}
    loading = ("LoraLoader", loader | {"strength_model": 1.0, "strength_clip": 0.0})
    mini_model = ("UnclutterLoadMini", {})
    plain, patched = (
        run(name, mini=mini_model, lora=loading, save=("ModelSave", {"model": [node, 0], "filename_prefix": ""}))
        for name, node in (("untrained", "mini"), ("trained", "lora"))
    )
    changed = {key for key in plain if not torch.equal(plain[key], patched[key])}
    assert len(changed) == len(lora.load(tmp_path / "out" / "lora.safetensors").pairs) > 20
    with_prompt, without = (
        sample(run, name, stock(text), model=("lora", 0), lora=loading)
        for name, text in (("learned", "embedding:trained 8K, nikon"), ("words_alone", "8K, nikon"))
    )
    assert not torch.allclose(with_prompt, without, atol=1e-2)

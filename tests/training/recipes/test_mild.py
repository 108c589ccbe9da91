"""Layers with the mini model: rows against their LoRAs merged, training from a folder, and what a row is shown."""

import functools
import re
from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel

from unclutter.adapters import layered, lora
from unclutter.kernels.attention import region_attention_reference, sma
from unclutter.kernels.lowrank import BACKGROUND, PERSON
from unclutter.training.base_models.base import masked_grey
from unclutter.training.base_models.mini import load_mini
from unclutter.training.cli import main
from unclutter.training.data.drawn import draw_pairs
from unclutter.training.data.loader import batches
from unclutter.training.data.settings import DrawnConfig
from unclutter.training.recipes import loop, mild
from unclutter.training.recipes.mild import MILD, occluder
from unclutter.training.recipes.mild_settings import MILDRecipe, choose
from unclutter.training.sampling.layered import erase_backgrounds, erase_layers, fresh_adapter
from unclutter.training.sampling.layered_network import LayeredNetwork
from unclutter.training.sampling.lora import put_on
from unclutter.training.sampling.methods import Plain
from unclutter.training.sampling.sampler import remove


@pytest.fixture
def base():
    return load_mini()


@pytest.fixture
def learned(base):
    """An adapter in which everything has learned something."""
    torch.manual_seed(0)
    fresh = fresh_adapter(base.network, rank=4)
    branches = [
        {module: lora.LoraPair(pair.down, 0.05 * torch.randn_like(pair.up), alpha) for module, pair in pairs.items()}
        for pairs, alpha in ((fresh.foreground, 4.0), (fresh.background, 3.0))
    ]
    biases = {layer: torch.randn(2) for layer in fresh.sma}
    state = {key: 0.3 * torch.randn_like(value) for key, value in fresh.morphology.items()}
    return layered.Layered(*branches, biases, state)


@pytest.fixture
def scene():
    torch.manual_seed(1)
    masks = torch.zeros(3, 64, 64)
    masks[0, 8:30, 4:24], masks[1, 20:44, 20:40], masks[2, 46:62, 44:60] = 1, 1, 1
    return torch.rand(3, 64, 64), masks


def inputs(rows):
    torch.manual_seed(2)
    masks = torch.zeros(len(rows), 16, 16)
    for row in range(len(rows)):
        masks[row, 2 + row : 8 + row, 3:9] = 1
    x, context = torch.randn(len(rows), 25, 16, 16), torch.randn(1, 77, 64).expand(len(rows), -1, -1)
    return x, torch.tensor(500), context, torch.tensor(rows), masks


@torch.no_grad()
def test_every_row_is_what_its_lora_gives_when_merged(base, learned):
    rows = [PERSON, PERSON, BACKGROUND]
    plain = replace(learned, sma={}, morphology={})
    x, t, context, branch, masks = inputs(rows)
    out = LayeredNetwork(base.network, plain)(x, t, context, branch, masks)
    for row, kind in enumerate(rows):
        alone = load_mini().network
        pairs = plain.foreground if kind == PERSON else plain.background
        put_on(alone, pairs, merged=True)
        expected = alone(x[row : row + 1], t, context[:1]).sample[0]
        assert not torch.allclose(out[row], base_output(x[row : row + 1], t, context)[0], atol=1e-2)
        torch.testing.assert_close(out[row], expected, atol=1e-5, rtol=1e-5)


def base_output(x, t, context):
    return load_mini().network(x, t, context[: len(x)]).sample


@torch.no_grad()
def test_rows_do_not_depend_on_their_company(base, learned):
    network = LayeredNetwork(base.network, learned)
    x, t, context, branch, masks = inputs([PERSON, PERSON, BACKGROUND])
    tokens = torch.randn(3, 144, 64)
    together = network(x, t, context, branch, masks, tokens)
    for row in range(3):
        one = slice(row, row + 1)
        alone = network(x[one], t, context[one], branch[one], masks[one], tokens[one])
        torch.testing.assert_close(together[one], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_each_layer_attends_by_its_own_biases(base, learned):
    network = LayeredNetwork(base.network, replace(learned, morphology={}))
    x, t, context, branch, masks = inputs([PERSON])
    path = "mid_block.attentions.0.transformer_blocks.0.attn1"
    seen = {}
    attention = base.network.get_submodule(path)
    attention.register_forward_hook(lambda _m, args, kwargs, out: seen.update(x=args[0], out=out), with_kwargs=True)
    network(x, t, context, branch, masks)
    q, k, v = (
        projected.unflatten(2, (2, 32)).transpose(1, 2)
        for projected in network.layers[path].project(attention, ("to_q", "to_k", "to_v"), seen["x"])
    )
    objects = torch.nn.functional.adaptive_max_pool2d(masks[:, None], 8).flatten(1) > 0
    plain = region_attention_reference(q, k, v, objects, sma(0, 0))
    out = region_attention_reference(q, k, v, objects, sma(*learned.sma[path].tolist()))
    expected = attention.to_out[0](out.transpose(1, 2).flatten(2))
    assert not torch.allclose(attention.to_out[0](plain.transpose(1, 2).flatten(2)), expected, atol=1e-3)
    torch.testing.assert_close(seen["out"], expected, atol=1e-5, rtol=1e-4)


def test_a_fresh_adapter_is_the_base_and_leaves_it_as_it_was(base, scene):
    image, masks = scene
    before = base.network.attn_processors
    settings = {"prompts": ("a person", ""), "guidance": (1.0, 1.0), "steps": 2}
    _, background = erase_layers(
        base, fresh_adapter(base.network), image, masks, pose=torch.rand(3, 64, 64), **settings
    )
    assert base.network.attn_processors == before
    union = masks.amax(dim=0)
    # What the hole begins with is grey, as what the network is shown.
    plain = remove(base, masked_grey(image[None], union[None]), union[None], Plain(), steps=2)[0]
    torch.testing.assert_close(background, plain, atol=1e-5, rtol=0)


def test_the_background_alone_is_that_of_all_layers(base, learned, scene):
    image, masks = scene
    layers, background = erase_layers(base, learned, image, masks, steps=2)
    assert layers.shape == (3, 3, 64, 64) and background.shape == (3, 64, 64)
    untouched, alone = erase_layers(base, learned, image, masks, steps=2, wanted=[])
    torch.testing.assert_close(alone, background, atol=1e-4, rtol=0)
    assert torch.equal(untouched, image.expand(3, -1, -1, -1))
    some, _ = erase_layers(base, learned, image, masks, steps=2, wanted=[1])
    torch.testing.assert_close(some[1], layers[1], atol=1e-4, rtol=0)
    assert torch.equal(some[0], image)


def test_the_sheets_backgrounds_come_in_one_batch_as_they_come_alone(base, learned, scene):
    image, masks = scene
    learned = replace(learned, metadata={"unclutter.background_morphology": "true"})
    pictures, calls = torch.stack([image, image.flip(0), image.flip(1)]), []
    watch = base.network.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    together = erase_backgrounds(base, learned, pictures, masks, steps=2)
    watch.remove()
    assert calls == [3] * 4  # two steps, each with and without the prompt
    for picture, mask, made in zip(pictures, masks, together, strict=True):
        _, alone = erase_layers(base, learned, picture, mask[None], wanted=[], steps=2)
        torch.testing.assert_close(made, alone, atol=1e-4, rtol=0)


def test_an_instance_is_shown_itself_and_not_the_others(base, learned, scene):
    image, masks = scene
    masks[1] *= 1 - masks[0]
    layers, background = erase_layers(base, learned, image, masks, steps=1)
    other = torch.where(masks[1] > 0, 1 - image, image)
    # Whoever is replaced changes only its own layer: nobody else, nor the background, learns of it.
    changed, behind = erase_layers(base, learned, other, masks, steps=1)
    assert ((layers[1] - changed[1]).abs() * masks[1]).sum() / masks[1].sum() > 0.5
    assert torch.equal(layers[0], changed[0]) and torch.equal(layers[2], changed[2])
    assert torch.equal(background, behind)


def test_pose_and_parsing_reach_the_people_and_not_the_background(base, learned, scene):
    image, masks = scene
    given = {"pose": torch.rand(3, 64, 64), "parsing": torch.randint(20, (64, 64))}
    layers, background = erase_layers(base, learned, image, masks, steps=1)
    for name, value in given.items():
        other, behind = erase_layers(base, learned, image, masks, steps=1, **{name: value})
        assert torch.equal(background, behind)
        assert all(((other[k] - layers[k]).abs() * masks[k]).max() > 1e-3 for k in range(3))


def test_what_does_not_fit_says_so(base, learned, scene):
    image, masks = scene
    with pytest.raises(ValueError, match="wanted names layer 3"):
        erase_layers(base, learned, image, masks, wanted=[3])
    with pytest.raises(ValueError, match=r"The masks are \[3, 32, 64\]"):
        erase_layers(base, learned, image, masks[:, :32], steps=1)
    module = next(iter(learned.foreground))
    wide = replace(learned, foreground={module: lora.LoraPair(torch.ones(4, 9), torch.ones(9, 4), 4.0)})
    with pytest.raises(ValueError, match="of the layered eraser's .* expected all: it was made for another model"):
        erase_layers(base, wide, image, masks)


def test_parameters_of_an_sdxl_adapter():
    """17.90 M a branch at rank 16, on Q, K and V of self- and cross-attention (MILD, resolution E.6)."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            in_channels=9,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        adapter = fresh_adapter(unet, rank=16)
    for branch in (adapter.foreground, adapter.background):
        assert sum(pair.down.numel() + pair.up.numel() for pair in branch.values()) == pytest.approx(17.90e6, rel=1e-3)
    assert len(adapter.sma) == 70 and len(adapter.foreground) == 420


# --- training


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    draw_pairs(DrawnConfig(folder, count=4))
    return folder


@pytest.fixture
def recipe(pairs, tmp_path):
    settings = {"size": 64, "steps": 10, "ramp": (4, 6), "batch": 2, "lora_rank": 2, "empty_prompt": 0.0}
    return MILDRecipe(pairs, tmp_path / "out", **settings)


@pytest.fixture
def batch(recipe):
    torch.manual_seed(0)
    found = next(batches(recipe.data, batch=2, size=64, people=True, flip=False))
    # Both pictures get a second instance, a pose and a parsing.
    found["instances"][:, :20, :20] = 2
    found["pose"], found["parsing"] = torch.rand(2, 3, 64, 64), torch.randint(20, (2, 64, 64)).float()
    return found


def losses(objective, batch, step):
    batch["number"][:] = step
    return objective(batch, [torch.Generator().manual_seed(row) for row in range(2)])


def test_the_background_learns_first_and_the_people_from_the_ramp_on(base, recipe, batch):
    torch.manual_seed(0)
    objective = MILD(base, recipe)
    weights = []
    for step in (0, 4, 5, 6, 9):
        loss = losses(objective, batch, step)
        assert loss.shape == (2,) and torch.isfinite(loss).all()
        background = float(objective.terms["background"])
        share = float(loss.detach().mean()) - background
        people = float(objective.terms["foreground"])
        weights.append(share / (2 * people) if people else 0.0)
    # Two people in each picture: their sum, weighed by λ_t, which rises from 0 at step 4 to 1 at step 6.
    assert weights == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-4)


def test_all_parts_learn_and_the_network_does_not(base, recipe, batch):
    torch.manual_seed(0)
    objective = MILD(base, recipe)
    before = {name: value.clone() for name, value in base.network.named_parameters() if "processor" not in name}
    start = {name: value.detach().clone() for name, value in objective.trained().items()}
    optimizer = torch.optim.AdamW(objective.parameter_groups())
    for _ in range(2):  # the encoders move once their last layers, which start at zero, have
        optimizer.zero_grad()
        losses(objective, batch, 9).mean().backward()
        optimizer.step()
    moved = {name for name, value in objective.trained().items() if not torch.equal(value, start[name])}
    assert len(objective.parameter_groups()) == 3
    for part in ("foreground.up", "background.up", "foreground.alpha", "to_v.background.down", ".sma"):
        assert any(part in name for name in moved), part
    for part in ("pose", "parsing", "others"):
        assert any(f"morphology.{part}.layers.0" in name for name in moved), part
    after = dict(base.network.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_gradient_checkpointing_changes_no_gradient(base, recipe, batch):
    torch.manual_seed(0)
    objective = MILD(base, recipe)
    gradients = []
    for checkpointed in (False, True):
        if checkpointed:
            base.network.enable_gradient_checkpointing()
            base.network.train()
        objective.zero_grad()
        losses(objective, batch, 9).mean().backward()
        gradients.append({name: value.grad.clone() for name, value in objective.trained().items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)


def test_what_is_not_trained_stays_bit_for_bit(base, recipe, batch):
    """AdamW goes on with momentum and weight decay where a gradient is zero, so there must be none."""
    torch.manual_seed(0)
    objective = MILD(base, replace(recipe, freeze_background=True))
    optimizer = torch.optim.AdamW(objective.parameter_groups())

    def moved(*steps):
        before = {name: value.detach().clone() for name, value in objective.trained().items()}
        for step in steps:
            optimizer.zero_grad()
            losses(objective, batch, step).mean().backward()
            optimizer.step()
        return {name for name, value in objective.trained().items() if not torch.equal(value, before[name])}

    before, within, after = moved(0, 1), moved(5), moved(6, 7)
    assert any(".background." in name for name in before)
    assert not any(".foreground." in name or ".morphology." in name for name in before)
    assert any(".background." in name for name in within) and any(".foreground." in name for name in within)
    assert not any(".background." in name for name in after) and any(".foreground." in name for name in after)
    assert any(".morphology." in name for name in after)
    batch["instances"].zero_()
    assert not moved(6)  # nobody there, and nothing to do


@pytest.mark.parametrize(("sma", "morphology"), [(True, False), (False, True), (False, False)])
def test_the_ablations_of_table_2_save_what_they_trained(base, recipe, batch, sma, morphology, tmp_path):
    torch.manual_seed(0)
    objective = MILD(base, replace(recipe, sma=sma, morphology=morphology))
    with torch.no_grad():
        assert torch.isfinite(losses(objective, batch, 9)).all()
    objective.save(tmp_path, 9)
    saved = layered.load(tmp_path / "layered.safetensors")
    assert bool(saved.sma) == sma and bool(saved.morphology) == morphology
    assert saved.metadata["unclutter.method"] == "mild" and saved.rank == 2


def test_saved_layers_are_what_training_had(base, recipe, batch, tmp_path, monkeypatch):
    few = functools.partial(erase_backgrounds, steps=2)
    monkeypatch.setattr(mild, "erase_backgrounds", few)
    torch.manual_seed(0)
    objective = MILD(base, recipe)
    with torch.no_grad():
        for parameter in objective.trained().values():
            parameter.add_(0.02 * torch.randn_like(parameter))
    objective.save(tmp_path, 1)
    erased = objective.erase(batch["source"][:1], batch["mask"][:1])[0]
    saved = layered.load(tmp_path / "layered.safetensors")
    _, again = erase_layers(load_mini(), saved, batch["source"][0], batch["mask"][:1], wanted=[], steps=2)
    torch.testing.assert_close(again, erased, atol=1e-5, rtol=0)
    # And training goes on with its own network.
    assert torch.isfinite(losses(objective, batch, 9)).all()


def test_a_training_stopped_within_the_ramp_ends_with_the_same_weights(recipe):
    whole = replace(recipe, steps=3, batch=1, ramp=(1, 4), workers=0, sample_every=0, morphology=False)
    loop.train(whole, MILD)
    stopped = replace(whole, output=recipe.output.with_name("stopped"), steps=2)
    loop.train(stopped, MILD)
    loop.train(replace(stopped, steps=3, resume=True), MILD)
    one, two = (layered.load(folder / "layered.safetensors") for folder in (whole.output, stopped.output))
    assert any(pair.up.any() for pair in one.foreground.values())
    for module, pair in one.foreground.items():
        assert torch.equal(pair.up, two.foreground[module].up)
    written = [(folder / "layered.safetensors").read_bytes() for folder in (whole.output, stopped.output)]
    assert written[0] == written[1]


def test_an_occluder_covers_a_part_and_wraps_around_no_edge():
    masks = torch.zeros(2, 32, 32)
    masks[0, 10:20, 0:6], masks[1, 2:12, 20:32] = 1, 1
    for seed in range(20):
        cover = occluder(masks, 0, torch.Generator().manual_seed(seed))
        assert (cover * masks[0]).any() and cover.max() == 1
        assert cover.sum() <= masks[1].sum() and not cover[:, 25:].any()


def test_presets_and_bad_values(recipe, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"ramp is \(6, 4\) in 10 steps"):
        replace(recipe, ramp=(6, 4))
    with pytest.raises(ValueError, match="in 2000 steps: give the step .* below 2000, and the one"):
        MILDRecipe(tmp_path, tmp_path, steps=2000)
    with pytest.raises(ValueError, match="lora_alpha is 64.0, and MILD learns the scale of its LoRAs"):
        replace(recipe, lora_alpha=64.0)
    with pytest.raises(ValueError, match="occlusion is 1.5, expected 0 to 1"):
        replace(recipe, occlusion=1.5)
    with pytest.raises(SystemExit):
        choose(["paper", "--help"], "unclutter train mild")
    assert "1e-06" in capsys.readouterr().out
    assert main(["train", "mild", "paper", "--data", str(tmp_path / "none"), "--output", str(tmp_path / "o")]) == 1
    assert "none" in capsys.readouterr().err


def test_the_papers_background_has_pose_and_parsing_and_the_file_says_so(base, recipe, batch, tmp_path):
    needed = ["--data", str(tmp_path), "--output", str(tmp_path), "--base", "base"]
    assert choose(["paper", *needed], "unclutter train mild").background_morphology
    assert not choose(needed, "unclutter train mild").background_morphology
    assert choose([*needed, "--background-morphology"], "unclutter train mild").background_morphology
    for given in (True, False):
        objective = MILD(base, replace(recipe, background_morphology=given))
        objective.save(tmp_path, 1)
        header = layered.load(tmp_path / "layered.safetensors").header
        assert header.background_morphology == given and header.resolution == 64


def test_without_a_base_the_settings_are_the_minis():
    folders = ["--data", "pairs", "--output", "out"]
    for arguments in ([], ["mini"]):
        found = choose([*arguments, *folders], "")
        assert (found.size, found.steps, found.batch, found.micro_batch, found.ramp) == (64, 1400, 4, 4, (200, 400))
        assert (found.learning_rate, found.sma_learning_rate) == (1e-3, 1e-2)
        assert (found.mask_pooling, found.occlusion) == ("max", 1.0)
    for arguments in (["--base", "sdxl"], ["--base=sdxl"], ["recommended"]):
        assert (found := choose([*arguments, *folders], "")).size == 512
    assert choose([*folders, "--steps", "500"], "").steps == 500


def test_a_training_tells_what_its_pairs_lack(recipe, tmp_path, capsys):
    quick = replace(recipe, steps=1, ramp=(0, 0), batch=1, workers=0, sample_every=0)
    person, body = "4 of 4 pairs in .* have no instance_masks: the mask of each", "--no-morphology leaves"
    loop.train(quick, MILD)
    assert re.search(person, told := capsys.readouterr().out) and body in told
    loop.train(replace(quick, output=tmp_path / "plain", morphology=False), MILD)
    assert re.search(person, told := capsys.readouterr().out) and body not in told
    draw_pairs(DrawnConfig(tmp_path / "crowd", count=2, crowd=True))
    capsys.readouterr()
    loop.train(replace(quick, data=tmp_path / "crowd", output=tmp_path / "bodies"), MILD)
    told = capsys.readouterr().out
    assert "instance_masks" not in told and body not in told and "Wrote layered.safetensors" in told

"""OSOR: its losses by hand, what each loss changes, both phases, and one-step erasing in diffusers."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from unclutter.adapters import one_step
from unclutter.adapters.families import UNET
from unclutter.adapters.lora import LoraPair
from unclutter.kernels.onestep import noise_level
from unclutter.kernels.regions import latent_mask
from unclutter.training.base_models.checkpoints import load_checkpoint
from unclutter.training.base_models.mini import load_mini
from unclutter.training.images.files import read_image, read_mask, write_image
from unclutter.training.recipes.loop import train
from unclutter.training.recipes.osor.objective import (
    DISCRIMINATOR,
    GENERATOR,
    OSOR,
    alpha_losses,
    last_layer,
    reconstruction_loss,
)
from unclutter.training.recipes.osor.settings import PRESETS, IncompleteMasks, OSORRecipe, choose
from unclutter.training.sampling.lora import put_on
from unclutter.training.sampling.one_step import erase_once, run_once

LN2 = math.log(2)


@pytest.fixture
def quick(pairs, tmp_path):
    """Settings of a training of a few seconds."""
    values = {"steps": 2, "batch": 2, "micro_batch": 1, "lora_rank": 2, "workers": 0, "sample_every": 0}
    _, mini = PRESETS["mini-phase-1"]
    return replace(mini, data=pairs, output=tmp_path / "one", trunk="test_convnext", **values)


@pytest.fixture(scope="module")
def first_phase(pairs, tmp_path_factory):
    """The output of a phase 1."""
    _, mini = PRESETS["mini-phase-1"]
    values = {"steps": 2, "batch": 2, "micro_batch": 2, "lora_rank": 2, "workers": 0, "sample_every": 2}
    recipe = replace(mini, data=pairs, output=tmp_path_factory.mktemp("first"), trunk="test_convnext", **values)
    train(recipe, OSOR)
    return recipe


def second(first, output, **values):
    return replace(first, phase=2, start=first.output, output=output, sample_every=0, **values)


def weights(folder):
    return torch.load(folder / "state.pt", weights_only=True)["parameters"]


def scene(pairs):
    return read_image(pairs / "source/000000.png"), (read_mask(pairs / "mask/000000.png") > 0.5).float()


def a_batch(pairs, rows=2):
    read = {"source": read_image, "target": read_image, "mask": read_mask, "effect_mask": read_mask}
    return {
        key: torch.cat([function(pairs / key / f"{row:06}.png") for row in range(rows)]).round()
        if "mask" in key
        else torch.cat([function(pairs / key / f"{row:06}.png") for row in range(rows)])
        for key, function in read.items()
    }


def generators(rows=2):
    return [torch.Generator().manual_seed(row) for row in range(rows)]


def test_reconstruction_by_hand():
    mask = torch.zeros(2, 4, 4)
    mask[0, :2, :2] = 1
    error = torch.full((2, 3, 4, 4), 0.5)
    error[:, :, 3] = 9  # outside
    # Three channels of 0.5 in each masked pixel; an empty mask costs nothing.
    assert reconstruction_loss(error, torch.zeros_like(error), mask).tolist() == pytest.approx([1.5, 0])


def test_the_alphas_losses_by_hand():
    mask = torch.zeros(1, 8, 8)
    mask[:, 0, 0] = mask[:, 5, 6] = 1  # of two cells out of four a pixel is touched
    logits = torch.tensor([[[[math.log(3), 0.0], [0.0, 0.0]]]])
    bce, dice = alpha_losses(logits, mask)
    assert bce.item() == pytest.approx((math.log(4 / 3) + 3 * LN2) / 4)
    # α = 0.75, 0.5, 0.5, 0.5 against 1, 0, 0, 1.
    assert dice.item() == pytest.approx(1 - (2 * 1.25 + 1) / (2.25 + 2 + 1))
    perfect = torch.tensor([[[[99.0, -99.0], [-99.0, 99.0]]]])
    assert alpha_losses(perfect, mask)[1].item() == pytest.approx(0, abs=1e-6)


def test_the_last_layer_gets_one_row_more():
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(320, 4, 3, padding=1)
    made = last_layer(layer, UNET.alpha_rows)
    assert torch.equal(made.weight[:4], layer.weight) and torch.equal(made.bias[:4], layer.bias)
    assert made.bias[4] == 0 and made.weight[4].std().item() == pytest.approx(0.02635, rel=0.05)
    assert sum(p.numel() for p in made.parameters()) - sum(p.numel() for p in layer.parameters()) == 2881
    assert torch.equal(last_layer(layer, 0).weight, layer.weight)


def test_sizes_on_sdxl_are_those_of_the_paper():
    """771 adapted modules and 777.9 M trained parameters at rank 256 (OSOR's release)."""
    from peft import LoraConfig

    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=128,
            in_channels=9,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(320, 640, 1280),
            transformer_layers_per_block=(1, 2, 10),
            cross_attention_dim=2048,
            attention_head_dim=(5, 10, 20),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ).requires_grad_(False)
        unet.add_adapter(LoraConfig(r=256, lora_alpha=256, target_modules=list(UNET.lora_targets)))
    trained = [(name, p) for name, p in unet.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 771 and not any("conv_in" in name or "conv_out" in name for name, _ in trained)
    assert round(sum(p.numel() for _, p in trained) / 1e6, 1) == 777.9


def test_each_loss_trains_its_own(pairs, quick):
    objective = OSOR(load_mini(), quick)
    trained = objective.trained()
    heads = {name for name in trained if name.startswith("discriminator.heads.")}
    for alternating, own in ((GENERATOR, trained.keys() - heads), (DISCRIMINATOR, heads)):
        objective.zero_grad()
        objective.begin(alternating)
        loss = objective(a_batch(pairs), generators())
        assert loss.shape == (2,) and loss.isfinite().all()
        loss.mean().backward()
        # A LoRA starts at up = 0, so that its lower half gets no gradient yet.
        assert {name for name, p in trained.items() if p.grad is not None} == own
        assert all(p.grad.abs().sum() > 0 for name, p in trained.items() if name in own and ".lora_A." not in name)
    assert any("conv_out" in name for name in trained)
    objective.begin(GENERATOR)
    first = objective(a_batch(pairs), generators())
    torch.testing.assert_close(objective(a_batch(pairs), generators()), first)


def test_a_picture_costs_the_same_in_every_batch(pairs, quick, tmp_path, first_phase):
    shrunk = IncompleteMasks(shrink=1.0, core=0.0, expand=0.0, holes=0.0, shift=0.0)
    for recipe in (quick, second(first_phase, tmp_path / "two", dice_weight=0.0, incomplete=shrunk)):
        objective = OSOR(load_mini(), recipe)
        batch = a_batch(pairs)
        for alternating in objective.losses:
            objective.begin(alternating)
            together = objective(batch, generators())
            alone = [
                objective({key: value[row : row + 1] for key, value in batch.items()}, [generators()[row]])
                for row in range(2)
            ]
            torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("guidance", ["hard", "gaussian"])
def test_other_guidance_and_random_lpips_are_settings(pairs, quick, guidance):
    def terms(recipe):
        torch.manual_seed(0)
        objective = OSOR(load_mini(), recipe)
        objective(a_batch(pairs), generators())
        return objective.terms

    plain, other = terms(quick), terms(replace(quick, guidance=guidance, lpips_network="alex", lpips_weight=1.0))
    assert other["lpips"] > 0 and "lpips" not in plain
    assert plain["adversarial"] != other["adversarial"] and plain["reconstruction"] == other["reconstruction"]


def test_the_size_is_the_shorter_side(pairs, quick, tmp_path):
    """As One-Step Erase reads the resolution in the file; other recipes keep the area."""
    for kind in ("source", "target", "mask", "effect_mask"):
        (tmp_path / kind).mkdir()
        for file in sorted((pairs / kind).iterdir()):
            picture = read_image(file)
            write_image(tmp_path / kind / file.name, torch.cat([picture, picture], dim=3))
    shapes = []

    class Watched(OSOR):
        def forward(self, batch, generators):
            shapes.append(tuple(batch["source"].shape[-2:]))
            return super().forward(batch, generators)

    train(replace(quick, data=tmp_path, steps=1, size=64), Watched)
    assert set(shapes) == {(64, 128)}


def test_lpips_takes_torchvisions_weights_from_a_file(quick, tmp_path, pairs):
    from torchvision.models import alexnet

    torch.manual_seed(3)
    torch.save(alexnet().state_dict(), tmp_path / "alex.pth")
    recipe = replace(quick, lpips_network="alex", lpips_weight=1.0, lpips_weights=tmp_path / "alex.pth")
    perceptual = OSOR(load_mini(), recipe).perceptual
    a, b = torch.rand(2, 1, 3, 64, 64)
    assert perceptual(a, a).item() == 0 and perceptual(a, b).item() > 0
    assert perceptual.lin0.model[1].weight.min() >= 0  # LPIPS' own, which come with its package
    torch.save({"features.0.weight": torch.ones(2)}, tmp_path / "alex.pth")
    with pytest.raises(ValueError, match="alex.pth holds 0 of the 10 tensors of alex"):
        OSOR(load_mini(), recipe)
    (tmp_path / "alex.pth").write_bytes(b"junk")
    with pytest.raises(ValueError, match="alex.pth is no whole file of tensors"):
        OSOR(load_mini(), recipe)


def test_the_two_phases(first_phase, tmp_path):
    one = one_step.load(first_phase.output / "one_step.safetensors")
    assert one.phase == 1 and one.terminal["weight"].shape[0] == 12 and one.rank == 2
    assert one.metadata["unclutter.timestep"] == "400" and one.metadata["unclutter.condition_image"] == "full"
    assert one.metadata["unclutter.mask_pooling"] == "max" and len(one.lora) > 60
    assert all(pair.up.abs().sum() > 0 for pair in one.lora.values())
    (encoder,) = load_mini().texts.encoders
    assert one.prompt["prompt_embeds"].shape == (1, encoder.tokenizer.model_max_length, 64)
    assert len(list((first_phase.output / "samples").glob("*.png"))) == 1

    recipe = second(first_phase, tmp_path / "two")
    begun = OSOR(load_mini(), recipe)
    learned = weights(first_phase.output)
    for name, value in begun.state().items():
        rows = slice(0, 12) if "conv_out" in name else slice(None)
        assert torch.equal(value[rows].cpu(), learned[name]) if value.ndim else torch.equal(value, learned[name]), name
    train(recipe, OSOR)
    two = one_step.load(recipe.output / "one_step.safetensors")
    assert two.phase == 2 and two.alpha_rows == 1 and two.terminal["weight"].shape[0] == 13
    train(replace(recipe, start=recipe.output, output=tmp_path / "refined", steps=1), OSOR)
    without = replace(recipe, alpha=False, output=tmp_path / "without", steps=1)
    train(without, OSOR)
    assert one_step.load(without.output / "one_step.safetensors").phase == 1


def test_sdxl_is_trained_by_the_papers_preset(quick, tmp_path, pairs):
    from diffusers import StableDiffusionXLInpaintPipeline

    from unclutter.tests.training.base_models.test_checkpoints import save

    save(tmp_path / "base", StableDiffusionXLInpaintPipeline)
    _, paper = PRESETS["sdxl-phase-1"]
    small = {"size": 64, "steps": 1, "discriminator_width": 8, "discriminator_scale": 1.5, "lpips_network": "alex"}
    small |= {key: getattr(quick, key) for key in ("data", "output", "batch", "lora_rank", "workers", "trunk")}
    recipe = replace(paper, **small, base=tmp_path / "base", sample_every=1, missing_weights="random")
    assert recipe.mixed_precision == "bf16" and recipe.gradient_checkpointing and recipe.lpips_weight == 5
    train(recipe, OSOR)
    adapter = one_step.load(recipe.output / "one_step.safetensors")
    # The gradient came through the VAE's decoder to every layer.
    assert all(pair.up.abs().sum() > 0 for pair in adapter.lora.values())
    assert adapter.phase == 1 and adapter.terminal["weight"].dtype == torch.float32
    assert adapter.prompt["pooled_prompt_embeds"].shape == (1, 32)
    made = erase_once(load_checkpoint(recipe.base, "cpu"), adapter, *scene(pairs))
    assert made.picture.isfinite().all() and made.latent.shape == (1, 4, 8, 8)


def test_the_file_erases_as_the_training_did(first_phase, tmp_path, pairs):
    recipe = second(first_phase, tmp_path / "two", lora_alpha=6.0)
    kept = {}

    def build(base, settings):
        kept["objective"] = OSOR(base, settings)
        return kept["objective"]

    train(recipe, build)
    image, mask = scene(pairs)
    base = load_mini()
    before = {name: value.clone() for name, value in base.network.state_dict().items()}
    made = erase_once(base, one_step.load(recipe.output / "one_step.safetensors"), image, mask)
    torch.testing.assert_close(made.picture, kept["objective"].erase(image, mask), atol=1e-4, rtol=0)
    assert made.alpha.shape == (1, 16, 16) and made.alpha.min() > 0 and made.alpha.max() < 1
    after = base.network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(value, after[name]) for name, value in before.items())
    again = erase_once(base, one_step.load(recipe.output / "one_step.safetensors"), image, mask, seed=1)
    assert not torch.equal(made.picture, again.picture)


def test_corrections_start_from_the_shown_picture_and_go_on_in_phase_2(quick, tmp_path, pairs):
    recipe = replace(quick, prediction="correction")
    untrained, mask = OSOR(load_mini(), recipe), torch.ones(1, 64, 64)
    picture = scene(pairs)[0]
    kept = (untrained.base.decode(untrained.base.encode(2 * picture - 1)) + 1) / 2
    torch.testing.assert_close(untrained.erase(picture, mask), kept.clamp(0, 1), atol=1e-4, rtol=0)
    train(recipe, OSOR)
    with pytest.raises(ValueError, match="predicts correction and prediction is noise: give --prediction correction"):
        train(second(replace(recipe, prediction="noise"), tmp_path / "two"), OSOR)
    train(second(recipe, tmp_path / "two"), OSOR)
    file = one_step.load(tmp_path / "two" / "one_step.safetensors")
    assert file.corrects and file.phase == 2
    made = erase_once(load_mini(), file, picture, mask).picture
    assert made.isfinite().all() and not torch.allclose(made, kept, atol=1e-4)


@pytest.mark.parametrize("pooling", ["nearest", "max"])
def test_training_and_file_pool_the_mask_alike(quick, pairs, pooling):
    objective = OSOR(load_mini(), replace(quick, mask_pooling=pooling))
    objective.save(quick.output, 1)
    image, mask = scene(pairs)
    made = erase_once(load_mini(), one_step.load(quick.output / "one_step.safetensors"), image, mask)
    assert torch.equal(made.alpha, latent_mask(mask, 16, 16, pooling=pooling)[:, 0])
    torch.testing.assert_close(made.picture, objective.erase(image, mask), atol=1e-4, rtol=0)


def test_beside_the_weights_is_as_merged_into_them(pairs):
    base, generator = load_mini(), torch.Generator().manual_seed(5)
    layers = {name: module for name, module in base.network.named_modules() if name.endswith(UNET.lora_targets)}
    lora = {}
    for name, module in layers.items():
        out, inside, *kernel = module.weight.shape
        down = torch.randn(3, inside, *kernel, generator=generator) * 0.05
        lora[name] = LoraPair(down, torch.randn(out, 3, *[1] * len(kernel), generator=generator) * 0.05, 6.0)
    own = {name: value.clone() for name, value in base.network.conv_out.named_parameters()}
    adapter = one_step.OneStep("unet", lora, own, {"unclutter.phase": "1"})
    image, mask = scene(pairs)
    beside = erase_once(base, adapter, image, mask)
    plain = run_once(base, image, mask)
    assert (beside.picture - plain.picture).abs().max() > 0.01
    put_on(base.network, lora, merged=True)
    torch.testing.assert_close(beside.picture, run_once(base, image, mask).picture, atol=1e-4, rtol=0)
    # The hard blend of phase 1: what the mask does not touch is the picture, through the autoencoder.
    hole = torch.nn.functional.max_pool2d(mask[:, None], 4)
    assert torch.equal(beside.alpha, hole[:, 0])
    kept = (hole == 0).expand_as(beside.latent)
    assert torch.equal(beside.latent[kept], base.encode(2 * image - 1)[kept])


def test_a_network_that_finds_the_noise_gives_the_picture_back(pairs):
    base = load_mini()
    image, mask = scene(pairs)
    noise = torch.randn(1, 12, 16, 16, generator=torch.Generator().manual_seed(7))
    shot, seen = base.encode(2 * image - 1), {}

    class Oracle(torch.nn.Module):
        device, dtype, config = base.network.device, base.network.dtype, base.network.config

        def forward(self, x, timestep, context, added_cond_kwargs=None):
            seen.update(x=x, timestep=timestep)
            alpha = torch.full_like(x[:, :1], 40.0)
            return type("Output", (), {"sample": torch.cat([noise, alpha], dim=1)})

    made = run_once(replace(base, network=Oracle()), image, mask, timestep=600, seed=7)
    level = noise_level(600, "epsilon")
    torch.testing.assert_close(seen["x"][:, :12], level.signal * shot + level.noise * noise)
    assert torch.equal(seen["x"][:, 12:13], torch.nn.functional.max_pool2d(mask[:, None], 4))
    assert torch.equal(seen["x"][:, 13:], shot) and int(seen["timestep"]) == 600
    torch.testing.assert_close(made.latent, shot, atol=1e-4, rtol=1e-4)
    assert made.alpha.min() == 1


def test_a_resumed_training_ends_with_the_same_weights(quick, tmp_path):
    train(replace(quick, steps=3), OSOR)
    train(replace(quick, steps=1, output=tmp_path / "half"), OSOR)
    train(replace(quick, steps=3, output=tmp_path / "half", resume=True), OSOR)
    whole, resumed = weights(quick.output), weights(tmp_path / "half")
    assert any(name.endswith("._u") for name in whole)
    assert whole.keys() == resumed.keys() and all(torch.equal(value, resumed[name]) for name, value in whole.items())
    written = [(folder / "one_step.safetensors").read_bytes() for folder in (quick.output, tmp_path / "half")]
    assert written[0] == written[1]


def test_two_processes_reach_the_weights_of_one(quick, tmp_path):
    train(quick, OSOR)
    script = tmp_path / "both.py"
    script.write_text(
        "import sys\n"
        "from unclutter.training.recipes.loop import train\n"
        "from unclutter.training.recipes.osor.objective import OSOR\n"
        "from unclutter.training.recipes.osor.settings import choose\n"
        "train(choose(sys.argv[1:], 'osor'), OSOR)\n"
    )
    values = {"data": quick.data, "output": tmp_path / "both", "steps": 2, "batch": 2, "micro-batch": 1}
    values |= {"lora-rank": 2, "workers": 0, "sample-every": 0, "trunk": "test_convnext"}
    options = [str(text) for key, value in values.items() for text in (f"--{key}", value)]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    run = [*launch, "--num_machines", "1", "--mixed_precision", "no", str(script), "mini-phase-1", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(run, check=True, capture_output=True, env=environment, timeout=500)
    one, two = weights(quick.output), weights(tmp_path / "both")
    for name, value in one.items():
        # AdamW divides by the gradient's size, so that the order of a sum shows more in weights than in the loss.
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=1e-3)


def test_a_loss_that_is_not_finite_stops(quick):
    class Broken(OSOR):
        def discriminate(self, erased, batch):
            return super().discriminate(erased, batch) * torch.nan

    with pytest.raises(FloatingPointError, match=r"nan .* at step 1, on 00000\d, 00000\d: there is none yet"):
        train(quick, Broken)
    assert not (quick.output / "state.pt").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phase": 2}, "phase is 2 and start is not given"),
        ({"timestep": 0}, "timestep is 0, expected 1 to 999"),
        (
            {"backbone": "flux", "base": Path("flux"), "mask_pooling": "nearest"},
            "FLUX.1 Fill is shown every pixel of the mask",
        ),
        ({"discriminator_scale": 0.0}, "discriminator_scale is 0.0, expected a positive number"),
    ],
)
def test_absurd_settings_say_what_is_wrong(quick, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(quick, **changes)


def test_what_is_missing_or_does_not_fit_is_one_sentence(quick, first_phase, tmp_path, pairs):
    asked = replace(quick, missing_weights="stop")
    with pytest.raises(ValueError, match="discriminator's test_convnext has no weights"):
        OSOR(load_mini(), asked)
    with pytest.raises(ValueError, match="LPIPS' vgg has no weights: .* or lpips_weight to 0"):
        OSOR(load_mini(), replace(quick, lpips_weight=5.0, missing_weights="stop", trunk_weights=trunk_file(tmp_path)))
    with pytest.raises(ValueError, match="fits .* of this LoRA's .* of rank 3 .it has 2."):
        OSOR(load_mini(), replace(second(first_phase, tmp_path), lora_rank=3))
    with pytest.raises(ValueError, match="discriminator on another network"):
        OSOR(load_mini(), replace(second(first_phase, tmp_path), trunk="test_convnext2"))
    adapter = one_step.load(first_phase.output / "one_step.safetensors")
    other = replace(adapter, lora={"nowhere.to_q": next(iter(adapter.lora.values()))})
    with pytest.raises(ValueError, match="0 of the one-step eraser's 1 modules fit this network"):
        erase_once(load_mini(), other, *scene(pairs))


def trunk_file(folder):
    import timm

    torch.save(timm.create_model("test_convnext").state_dict(), folder / "trunk.pt")
    return folder / "trunk.pt"


def test_presets_are_the_papers(tmp_path):
    folders = ["--data", str(tmp_path), "--output", str(tmp_path)]
    sdxl = choose(["--phase", "2", "--base", "sdxl", "--start", "one", *folders], "osor")
    expected = OSORRecipe(tmp_path, tmp_path, phase=2, start=sdxl.start, steps=5000, base=sdxl.base)
    assert sdxl == replace(expected, mixed_precision="bf16", gradient_checkpointing=True)
    assert choose(["sdxl-refinement", "--base", "sdxl", "--start", "two", *folders], "osor").steps == 1000
    assert choose(folders, "osor").trunk == "convnext_atto"


@pytest.mark.parametrize("chosen", [["--phase", "1", "--backbone", "sdxl"], ["sdxl-phase-1"]])
def test_sdxl_is_not_trained_without_one(tmp_path, capsys, chosen):
    with pytest.raises(SystemExit):
        choose([*chosen, "--data", str(tmp_path), "--output", str(tmp_path)], "osor")
    assert "--base" in capsys.readouterr().err

"""Trained adapters make the same picture in diffusers and in ComfyUI."""

import json
from dataclasses import replace

import pytest
import torch

from unclutter.adapters import files, lora, mini, prompt
from unclutter.adapters.names import ldm_keys
from unclutter.kernels.scenes import draw_scenes
from unclutter.tests.nodes.running import run_node
from unclutter.training.base_models.mini import load_mini
from unclutter.training.data.drawn import draw_pairs
from unclutter.training.data.settings import DrawnConfig
from unclutter.training.evaluation.mini_removers import PAINT
from unclutter.training.evaluation.removal import evaluate
from unclutter.training.evaluation.settings import EvaluateConfig
from unclutter.training.recipes.eradiff import EraDiff
from unclutter.training.recipes.eradiff_settings import EraDiffRecipe
from unclutter.training.recipes.loop import train
from unclutter.training.recipes.lrnr import LRNR
from unclutter.training.recipes.lrnr_settings import LRNRRecipe
from unclutter.training.sampling.adapters import with_adapters
from unclutter.training.sampling.methods import MASG, Plain
from unclutter.training.sampling.sampler import remove

STEPS, SEED = 6, 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training long enough to change the picture; its LoRA is made stronger still."""
    folder = tmp_path_factory.mktemp("trained")
    draw_pairs(DrawnConfig(folder / "pairs", count=4))
    shared = {"steps": 4, "batch": 2, "lora_rank": 4, "workers": 0, "sample_every": 0, "learning_rate": 0.02}
    train(LRNRRecipe(folder / "pairs", folder / "lrnr", **shared, enhancers=("8K", "nikon")), LRNR)
    train(EraDiffRecipe(folder / "pairs", folder / "eradiff", **shared), EraDiff)
    train(EraDiffRecipe(folder / "pairs", folder / "full", **{**shared, "learning_rate": 1e-3}, full=True), EraDiff)
    return folder


@pytest.fixture(scope="module")
def scene():
    generator = torch.Generator().manual_seed(5)
    drawn = draw_scenes(1, 64, generator)
    return drawn.picture(), drawn.effect_mask(drawn.pick_object(generator))


def test_adapters_change_the_picture_and_strength_0_does_not(trained, scene):
    plain = remove(replace(load_mini(), mask_pooling="nearest"), *scene, Plain(), steps=STEPS, seed=SEED)
    for name in ("lrnr", "eradiff", "full"):
        base, text = with_adapters(load_mini(), trained / name)
        assert base.condition_image == ("full" if name == "lrnr" else "masked grey")
        assert ("8K, nikon" in text) == (name == "lrnr")
        assert not torch.allclose(
            remove(base, *scene, Plain(), positive=text, steps=STEPS, seed=SEED), plain, atol=0.01
        )
    for name in ("eradiff", "full"):
        weak, _ = with_adapters(load_mini(), trained / name, strength=0.0)
        torch.testing.assert_close(remove(weak, *scene, Plain(), steps=STEPS, seed=SEED), plain)


def test_a_full_network_comes_back_as_it_was_written(trained):
    tensors, metadata = files.read_safetensors(trained / "full" / "unet.safetensors")
    assert metadata["unclutter.method"] == "eradiff" and metadata["unclutter.steps"] == "4"
    base, _ = with_adapters(load_mini(), trained / "full")
    assert base.mask_pooling == "nearest"
    weights = base.network.state_dict()
    assert all(torch.equal(weights[name], tensors[key]) for name, key in ldm_keys(weights).items())


@pytest.mark.parametrize("change", ["missing", "narrower"])
def test_a_full_network_of_another_model_is_refused(trained, tmp_path, change):
    tensors, metadata = files.read_safetensors(trained / "full" / "unet.safetensors")
    count = len(tensors)
    key = "model.diffusion_model.input_blocks.0.0.weight"
    first = tensors.pop(key)
    if change == "narrower":
        tensors[key] = first[:, 1:]
    files.write_safetensors(tmp_path / "unet.safetensors", tensors, metadata)
    before = load_mini()
    with pytest.raises(
        ValueError, match=rf"{count - 1} of the {len(tensors)} tensors .* fit the {count} of this network"
    ):
        with_adapters(before, tmp_path)
    assert all(
        torch.equal(value, before.network.state_dict()[key]) for key, value in load_mini().network.state_dict().items()
    )


def test_both_hosts_make_the_same_picture_with_lora_prompt_and_masg(comfy, trained, scene):
    import comfy.sample
    import comfy.samplers
    import comfy.sd
    import comfy.utils

    from unclutter.nodes import host
    from unclutter.nodes.conditioning import RemovalConditioning
    from unclutter.nodes.guidance import MASGGuider

    base, text = with_adapters(load_mini(), trained / "lrnr")
    method = MASG(guidance=4.0)
    in_diffusers = remove(base, *scene, method, positive=text, steps=STEPS, seed=SEED)

    model, clip, vae = host.load_mini(mini.load())
    file = comfy.utils.load_torch_file(str(trained / "lrnr" / "lora.safetensors"))
    model, clip = comfy.sd.load_lora_for_models(model, clip, file, 1.0, 1.0)
    learned = prompt.load(trained / "lrnr" / "prompt.safetensors")
    positive = host.encode_with_vectors(clip, learned.vectors, "", ", ".join(learned.enhancers))
    negative = host.encode_with_vectors(clip, {}, "", "")
    picture, mask = scene[0].movedim(1, -1), scene[1]
    positive, negative, latent = run_node(
        RemovalConditioning, positive, negative, vae, picture, mask, condition_image="full", mask_pooling="nearest"
    )
    values = {"mask_scale": method.guidance, "background_scale": method.background}
    values |= {"schedule": method.schedule, "cutoff": method.cutoff}
    guider = run_node(MASGGuider, model, positive, negative, mask, **values)[0]
    samples = guider.sample(
        comfy.sample.prepare_noise(latent["samples"], SEED),
        latent["samples"],
        comfy.samplers.sampler_object("euler"),
        comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS),
        denoise_mask=latent["noise_mask"],
        disable_pbar=True,
        seed=SEED,
    )
    in_comfyui = vae.decode(samples).movedim(-1, 1)
    parity = -10 * (in_comfyui - in_diffusers).square().mean().log10()
    print(f"ComfyUI against diffusers: {parity:.1f} dB")
    assert parity >= 40


def test_evaluation_holds_every_method_against_paint_on_the_same_scenes(trained, tmp_path, capsys):
    folders = (trained / "lrnr", trained / "eradiff")
    written = {"sheet": tmp_path / "sheet.png", "json": tmp_path / "rows.jsonl"}
    results = evaluate(EvaluateConfig(folders, scenes=4, steps=2, masks=("object", "holed"), markdown=True, **written))
    names = [*PAINT, "mini", "mini + CFG", "mini + MASG", "mini + SRA", "lrnr (lrnr)", "lrnr (lrnr) + MASG"]
    names += ["eradiff (eradiff)", "eradiff (eradiff) + SRA"]
    assert [(result.name, result.mask) for result in results] == [
        (name, mask) for mask in ("object", "holed") for name in names
    ]
    assert all(len(result.removed) == len(result.hole) == 4 and result.outside == 0 for result in results)
    # Nothing marks the shadow, so it stays but for the feathered border: every method has the same error there.
    shadows = [result.shadow.mean() for result in results[:11]]
    assert max(shadows) - min(shadows) < 0.5
    assert not torch.equal(results[11].hole, results[0].hole)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["method"] for row in rows] == [result.name for result in results]
    ring, last = rows[0], rows[10]
    assert ring["gain_over_ring_db"] == ring["gain_low"] == ring["gain_high"] == 0
    gains = results[10].hole - results[0].hole
    assert last["gain_over_ring_db"] == pytest.approx(gains.mean().item(), abs=1e-5)
    assert gains.min() <= last["gain_low"] <= last["gain_over_ring_db"] <= last["gain_high"] <= gains.max()
    assert all(0 <= row["removed"] <= 1 and 0 <= row["judge_error"] <= 1 and row["scenes"] == 4 for row in rows)
    printed = " ".join(capsys.readouterr().out.split())
    assert "The judge misses" in printed and "within noise" in printed and "McNemar" in printed
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_an_eraser_is_evaluated_from_its_file():
    *paint, result = evaluate(
        EvaluateConfig((mini.FOLDER / "loras" / "unclutter-mini-osor.safetensors",), scenes=4, baselines=False)
    )
    assert result.name == "unclutter-mini-osor.safetensors (osor)" and result.removed.float().mean() > 0.5
    assert [each.name for each in paint] == list(PAINT)


def test_adapters_for_another_model_are_refused(trained, tmp_path):
    foreign = lora.Lora({"unet.mid_block.to_q": lora.LoraPair(torch.ones(2, 9), torch.ones(9, 2), 2.0)})
    lora.save(tmp_path / "lora.safetensors", foreign)
    with pytest.raises(ValueError, match=r"0 of the LoRA's 1 modules fit .*mid_block\.to_q does not"):
        with_adapters(load_mini(), tmp_path)
    (tmp_path / "lora.safetensors").write_bytes((trained / "lrnr" / "lora.safetensors").read_bytes())
    prompt.save(tmp_path / "prompt.safetensors", prompt.RemovalPrompt({"clip_l": torch.zeros(1, 768)}))
    with pytest.raises(ValueError, match="vectors of width .*768.*, expected 64 for clip_l"):
        with_adapters(load_mini(), tmp_path)

import io
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from unclutter.adapters import one_step

MODULES = {
    "unet": {
        "down_blocks.0.resnets.0.conv1": (8, 6, 3, 3),
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_q": (6, 6),
    },
    "flux": {"transformer_blocks.0.attn.to_out.0": (6, 6), "single_transformer_blocks.1.proj_mlp": (24, 6)},
}
LAST = {"unet": ("conv_out", (6, 3, 3)), "flux": ("proj_out", (6,))}
PREFIX = {"unet": "unet.", "flux": "transformer.base_model.model."}


def release(backbone, rows, wrap=lambda key: key, rank=2):
    """The tensors of a file as OSOR's scripts save it."""
    generator = torch.Generator().manual_seed(rows)
    prefix, (last, shape) = PREFIX[backbone], LAST[backbone]
    tensors = {}
    for module, (out, inner, *kernel) in MODULES[backbone].items():
        down = torch.randn(rank, inner, *kernel, generator=generator)
        up = torch.randn(out, rank, *[1] * len(kernel), generator=generator)
        tensors |= {f"{prefix}{module}.lora_A.default.weight": down, f"{prefix}{module}.lora_B.default.weight": up}
    tensors[f"{prefix}{last}.weight"] = torch.randn(rows, *shape, generator=generator)
    tensors[f"{prefix}{last}.bias"] = torch.randn(rows, generator=generator)
    return {wrap(key): value for key, value in tensors.items()}


@pytest.mark.parametrize(
    ("backbone", "rows", "phase", "alpha_rows"),
    [("unet", 4, 1, 0), ("unet", 5, 2, 1), ("flux", 64, 1, 0), ("flux", 68, 2, 4)],
)
def test_the_releases_files_say_what_they_are_and_come_back_bit_for_bit(tmp_path, backbone, rows, phase, alpha_rows):
    tensors = release(backbone, rows)
    torch.save(tensors, tmp_path / "a.pth")
    loaded = one_step.load(tmp_path / "a.pth")
    assert (loaded.backbone, loaded.phase, loaded.alpha_rows, loaded.rank) == (backbone, phase, alpha_rows, 2)
    assert loaded.lora.keys() == MODULES[backbone].keys()
    assert all(pair.alpha == 2 for pair in loaded.lora.values()), "no alpha stored: a scale of 1"
    one_step.save(tmp_path / "a.safetensors", loaded)
    back = one_step.to_release(one_step.load(tmp_path / "a.safetensors"))
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[key], value) for key, value in tensors.items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda key: f"module.{key}",
        lambda key: f"module._orig_mod.{key}",
        lambda key: key.replace("base_model.model.", "base_model.model._orig_mod."),
        lambda key: key.replace(".default", ""),
    ],
)
@pytest.mark.parametrize(("backbone", "rows"), [("unet", 5), ("flux", 68)])
def test_prefixes_of_trainers_fall_off(tmp_path, wrap, backbone, rows):
    torch.save(release(backbone, rows, wrap), tmp_path / "a.pth")
    loaded = one_step.load(tmp_path / "a.pth")
    assert loaded.backbone == backbone and loaded.lora.keys() == MODULES[backbone].keys()


def test_what_a_saved_file_says(tmp_path):
    torch.save(release("unet", 5), tmp_path / "a.pth")
    loaded = one_step.load(tmp_path / "a.pth")
    prompt = {"prompt_embeds": torch.ones(1, 3, 8)}
    one_step.save(
        tmp_path / "a.safetensors",
        one_step.OneStep("unet", loaded.lora, loaded.terminal, {"unclutter.base": "mini"}, prompt),
    )
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        header = file.metadata()
    expected = {"kind": "one_step", "method": "osor", "base": "mini", "backbone": "unet", "phase": "2", "rank": "2"}
    expected |= {"timestep": "400", "condition_image": "full", "prompt": "Remove the instance of object"}
    assert {key: header[f"unclutter.{key}"] for key in expected} == expected
    again = one_step.load(tmp_path / "a.safetensors")
    assert torch.equal(again.prompt["prompt_embeds"], prompt["prompt_embeds"]) and again.metadata == header


@pytest.mark.parametrize(("rows", "phase", "alpha_rows"), [(12, 1, 0), (13, 2, 1)])
def test_other_latents_say_their_phase_in_the_header(tmp_path, rows, phase, alpha_rows):
    tensors = release("unet", rows)
    save_file(tensors, tmp_path / "a.safetensors", {"unclutter.phase": str(phase)})
    loaded = one_step.load(tmp_path / "a.safetensors")
    assert (loaded.phase, loaded.alpha_rows) == (phase, alpha_rows)
    save_file(tensors, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match=f"b.safetensors.*conv_out has {rows} rows"):
        one_step.load(tmp_path / "b.safetensors")


def test_a_scale_other_than_one_survives_the_release(tmp_path):
    tensors = release("unet", 4)
    alphas = {f"unet.{module}.alpha": torch.tensor(1.0) for module in MODULES["unet"]}
    save_file(tensors | alphas, tmp_path / "a.safetensors")
    back = one_step.to_release(one_step.load(tmp_path / "a.safetensors"))
    key = "unet.down_blocks.0.resnets.0.conv1.lora_B.default.weight"
    torch.testing.assert_close(back[key], tensors[key] / 2)


def test_the_encoded_prompt_that_lies_beside_the_release(tmp_path):
    torch.save(release("flux", 64), tmp_path / "a.pth")
    assert one_step.load(tmp_path / "a.pth").prompt == {}
    cached = {"prompt_embeds": torch.ones(1, 3, 8), "pooled_prompt_embeds": torch.zeros(1, 4), "prompt": "Remove"}
    torch.save(cached, tmp_path / "fixed_prompt_embeds.pt")
    prompt = one_step.load(tmp_path / "a.pth").prompt
    assert prompt.keys() == {"prompt_embeds", "pooled_prompt_embeds"} and prompt["prompt_embeds"].shape == (1, 3, 8)


class Hostile:
    def __reduce__(self):
        return (open, ("was-run", "w"))


def pickled(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def without(tensors, end):
    return {key: value for key, value in tensors.items() if not key.endswith(end)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Hostile(), protocol=2), "code"),
        (pickled({"unet.conv_out.weight": Hostile()}), "code"),
        (pickled(release("unet", 5))[:-2000], "truncated"),
        (pickled(release("unet", 5))[:100], "truncated"),
        (b"", "truncated"),
        (b"<html>404</html>", "truncated"),
        (pickled({"state_dict": release("unet", 5)}), "state_dict.*expected tensors by name"),
        (pickled([1, 2]), "list.*expected tensors by name"),
        (pickled({}), "0 tensors"),
        (
            pickled(without(without(release("unet", 5), "conv_out.weight"), "conv_out.bias")),
            "4 tensors.*a LoRA without",
        ),
        (pickled({"conv_in.weight": torch.ones(3)}), "something else"),
        (pickled(without(release("unet", 5), "to_q.lora_B.default.weight")), "5 of 5.*half of mid_block"),
        (pickled(without(release("unet", 5), "conv_out.bias")), "5 of 5 tensors"),
        (pickled(release("unet", 5) | {"unet.time_embedding.linear_1.weight": torch.ones(2)}), "6 of 7.*unet.time_emb"),
        (pickled({"unet.conv_out.weight": torch.ones(5, 6, 3, 3), "unet.conv_out.bias": torch.ones(5)}), "2 of 2"),
        (pickled(release("unet", 5) | {"unet.conv_out.bias": torch.ones(4)}), "bias of \\[4\\]"),
        (
            pickled(release("unet", 5) | {"unet.conv_out.bias": torch.full((5,), float("nan"))}),
            "NaN or infinite values, .* in unet.conv_out.bias",
        ),
        (
            pickled(
                release("unet", 5)
                | {"unet.down_blocks.0.resnets.0.conv1.lora_B.default.weight": torch.ones(8, 3, 1, 1)}
            ),
            "\\[8, 3, 1, 1\\] in down_blocks",
        ),
    ],
)
def test_files_that_are_no_one_step_eraser(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(ValueError, match=f"(?s)^bad.pth.*{message}"):
        one_step.load(tmp_path / "bad.pth")
    assert not (tmp_path / "was-run").exists()


def test_a_truncated_safetensors_and_no_file(tmp_path):
    torch.save(release("unet", 5), tmp_path / "a.pth")
    one_step.save(tmp_path / "a.safetensors", one_step.load(tmp_path / "a.pth"))
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match="half.safetensors"):
        one_step.load(tmp_path / "half.safetensors")
    for name in ("none.pth", "none.safetensors"):
        with pytest.raises(FileNotFoundError, match=name):
            one_step.load(tmp_path / name)

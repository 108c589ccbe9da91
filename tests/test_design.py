"""DESIGN.md is true: its examples run where it says that they belong, and the files that it names are there."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "DESIGN.md").read_text(encoding="utf-8")


def blocks(path: str) -> str:
    """All examples for one file, in their order."""
    found = re.findall(rf"^```python\n# {re.escape(path)}\n(.*?)^```", TEXT, re.M | re.S)
    assert found, f"DESIGN.md has no example for {path}"
    return "\n".join(found)


@pytest.fixture
def write(monkeypatch, tmp_path):
    """A function that imports a file with its examples at its end, in place of the module; `more` are names it imports."""

    def run(path: str, **more):
        name, source = "unclutter." + path.removesuffix(".py").replace("/", "."), ""
        if (ROOT / path).is_file():
            source = (ROOT / path).read_text(encoding="utf-8")
            importlib.import_module(name)  # and with it all that imports it
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source + blocks(path), encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        vars(module).update(more)
        parent, _, leaf = name.rpartition(".")
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(importlib.import_module(parent), leaf, module, raising=False)
        spec.loader.exec_module(module)
        return module

    return run


@pytest.fixture
def scene():
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(1, 64, 64)
    mask[:, 20:40, 20:40] = 1
    return torch.rand(1, 3, 64, 64, generator=generator), mask


def test_every_file_that_is_named_is_there():
    named = set(re.findall(r"`((?:kernels|adapters|nodes|training|tests)/[\w/.]+?)`", TEXT))
    assert len(named) > 15
    made = {"training/recipes/finetune.py", "training/recipes/finetune_settings.py", "training/base_models/edit.py"}
    assert [path for path in named - made if not (ROOT / path).exists()] == []


def test_every_room_of_training_is_in_the_tree():
    rooms = {path.parent.name for path in (ROOT / "training").glob("*/__init__.py")}
    assert rooms <= set(re.findall(r"^  (\w+)/ ", TEXT, re.M))


def test_every_function_that_is_named_stands_where_it_is_said_to():
    table, checked = TEXT[TEXT.index("### Where things are") : TEXT.index("## Non-goals")], 0
    for line in table.splitlines():
        files = re.findall(r"`((?:kernels|adapters|nodes|training)/[\w/.]+\.py)`", line)
        source = "".join((ROOT / file).read_text(encoding="utf-8") for file in files)
        for name in re.findall(r"`(\w+)`", line):
            assert re.search(rf"^\s*(def|class) {name}\b", source, re.M), f"{name} is not in {files}"
            checked += 1
    assert checked > 8


def test_the_attention_method_removes_in_diffusers(write, scene):
    from unclutter.kernels.attention import RegionSettings
    from unclutter.training.base_models.mini import load_mini
    from unclutter.training.sampling.methods import Plain
    from unclutter.training.sampling.sampler import remove

    facts = write("adapters/methods.py")
    methods = write("training/sampling/methods.py", RegionSettings=RegionSettings)
    faint, plain = (remove(load_mini(), *scene, method, steps=1) for method in (methods.METHODS["faint"], Plain()))
    assert faint.isfinite().all() and not torch.equal(faint, plain)
    assert facts.METHODS["faint"].title == "Faint object"


def test_the_attention_method_removes_in_comfyui(write, comfy):
    from unclutter.tests.nodes import tiny

    module = write("nodes/attention.py", methods=write("adapters/methods.py"))
    model, mask = tiny.sdxl(), torch.zeros(1, 32, 32)
    mask[:, 8:24, 8:24] = 1
    node = module.NODES[-1]
    assert node.GET_SCHEMA().node_id == "UnclutterFaintObject"
    patched = node.execute(model, mask, 0.0, 1.0).args[0]
    assert not torch.equal(tiny.sample(tiny.guider(patched)), tiny.sample(tiny.guider(model)))


def test_the_guider_guides_by_its_own_scale(write, comfy):
    from unclutter.tests.nodes import tiny

    kernel = write("kernels/guidance.py")
    assert kernel.hill_scale(5.0, 9, 10.0, 1.0) == pytest.approx(10.0) and kernel.hill_scale(1.0, 9, 10.0, 1.0) == 1.0
    module, mask = write("nodes/guidance.py"), torch.zeros(1, 32, 32)
    mask[:, 8:24, 8:24] = 1
    model = tiny.sdxl()
    hill, flat = (
        module.hill_guider(model, tiny.conditioning(1), tiny.conditioning(2), mask, scale) for scale in (12.0, 1.0)
    )
    assert not torch.equal(tiny.sample(hill), tiny.sample(flat))


def test_the_recipe_trains(write, tmp_path):
    from unclutter.training.cli import Command
    from unclutter.training.data.drawn import draw_pairs
    from unclutter.training.data.settings import DrawnConfig

    write("training/recipes/finetune_settings.py")
    write("training/recipes/finetune.py")
    entry = write("training/recipes/registry.py").RECIPES["finetune"]
    draw_pairs(DrawnConfig(tmp_path / "pairs", count=2, size=64))
    command = Command(
        entry.summary,
        f"recipes.{entry.settings}:choose",
        "recipes.loop:train",
        objective=f"recipes.{entry.objective}",
    )
    folders = ["--data", str(tmp_path / "pairs"), "--output", str(tmp_path / "out")]
    command.run([*folders, "--steps", "1", "--batch", "1", "--workers", "0", "--sample-every", "0"], "unclutter train")
    assert (tmp_path / "out" / "lora.safetensors").is_file()


def test_the_family_is_called_by_a_base_of_its_own(write, scene, monkeypatch):
    from unclutter.training.base_models.mini import load_mini
    from unclutter.training.sampling.one_step import run_once

    families = write("adapters/families.py", replace=replace)
    mini = load_mini()
    config, channels = mini.network.config, mini.network.config["out_channels"]
    network = type(mini.network).from_config({**config, "in_channels": 2 * channels}).eval()
    base = write("training/base_models/edit.py").EditBase(
        **{name: getattr(mini, name) for name in ("encode", "decode", "schedule", "texts", "multiple", "native_size")},
        network=network,
    )
    assert base.inpaints and base.family is families.EDIT and families.FAMILIES["edit"].title == "InstructPix2Pix"
    assert run_once(base, *scene).picture.isfinite().all()


def test_the_family_is_known_in_comfyui(write, comfy):
    from unclutter.tests.nodes import tiny

    edit = write("adapters/families.py", replace=replace).EDIT
    module = write("nodes/host/families.py", replace=replace, EDIT=edit)
    families = module.HOST_FAMILIES
    assert families[0].facts is edit and families[0].owns(tiny.sdxl(8).model.diffusion_model)
    assert not families[0].owns(tiny.sdxl(4).model.diffusion_model)

"""Training from a folder of pairs: what is learned, what stays, and what a stop in the middle leaves behind."""

import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unclutter.adapters import lora, prompt
from unclutter.training.base_models.checkpoints import Base
from unclutter.training.base_models.mini import load_mini
from unclutter.training.base_models.random_sdxl import random_sdxl
from unclutter.training.cli import main
from unclutter.training.data.drawn import draw_pairs
from unclutter.training.data.settings import DrawnConfig
from unclutter.training.recipes import samples
from unclutter.training.recipes.eradiff import EraDiff
from unclutter.training.recipes.eradiff_settings import EraDiffRecipe
from unclutter.training.recipes.latent_cache import LatentCache
from unclutter.training.recipes.loop import train
from unclutter.training.recipes.lrnr import LRNR
from unclutter.training.recipes.lrnr_settings import LRNRRecipe
from unclutter.training.recipes.objective import Objective
from unclutter.training.recipes.run_folder import only_training_in, write_state

RECIPES = {"lrnr": (LRNRRecipe, LRNR), "eradiff": (EraDiffRecipe, EraDiff)}


@pytest.fixture
def quick(pairs, tmp_path):
    """Settings of a training of a few seconds."""
    shared = {"steps": 3, "batch": 2, "lora_rank": 4, "workers": 0, "sample_every": 0, "enhancers": ("8K", "nikon")}
    return LRNRRecipe(pairs, tmp_path / "out", **shared)


def command(recipe, *more):
    """The command line that runs the training of this recipe in another process."""
    values = {key: str(getattr(recipe, key)) for key in ("data", "output", "steps", "batch", "workers", "sample_every")}
    values |= {"lora_rank": str(recipe.lora_rank), "save_every": str(recipe.save_every)}
    options = [text for key, value in values.items() for text in (f"--{key.replace('_', '-')}", value)]
    return ["train", "lrnr", *options, "--enhancers", *recipe.enhancers, *more]


def weights(folder):
    state = torch.load(folder / "state.pt", weights_only=True)
    return {name: value for name, value in state["parameters"].items()}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("extra", [{}, {"gradient_checkpointing": True}], ids=["", "checkpointed"])
def test_only_the_adapters_change(quick, name, extra):
    recipe_class, objective = RECIPES[name]
    values = {key: getattr(quick, key) for key in ("steps", "batch", "lora_rank", "workers", "sample_every")}
    words = {"enhancers": quick.enhancers} if name == "lrnr" else {}
    recipe = recipe_class(quick.data, quick.output, **values, **words, **extra)
    kept = {}

    def build(base: Base, settings) -> Objective:
        kept["before"] = {key: value.clone() for key, value in base.network.state_dict().items()}
        kept["text"] = {key: value.clone() for key, value in base.texts.encoders[0].module.state_dict().items()}
        kept["objective"] = objective(base, settings)
        return kept["objective"]

    train(recipe, build)
    after = {key.replace(".base_layer", ""): value for key, value in kept["objective"].unet.state_dict().items()}
    assert all(torch.equal(value, after[key]) for key, value in kept["before"].items())
    text = kept["objective"].base.texts.encoders[0].module.state_dict()
    assert all(torch.equal(value, text[key]) for key, value in kept["text"].items())
    learned = lora.load(quick.output / "lora.safetensors")
    assert learned.rank == 4 and all(pair.up.abs().sum() > 0 for pair in learned.pairs.values())
    assert {module.rpartition(".")[2] for module in learned.pairs} == {"to_q", "to_k", "to_v"}
    assert learned.metadata["unclutter.method"] == name
    assert learned.metadata["unclutter.condition_image"] == ("full" if name == "lrnr" else "masked grey")


def test_the_prompt_is_learned_and_says_how_to_use_it(quick):
    train(quick, LRNR)
    learned = prompt.load(quick.output / "prompt.safetensors")
    (encoder,) = load_mini().texts.encoders
    start = encoder.module.get_input_embeddings().weight[encoder.tokenizer("remove").input_ids[1]]
    assert learned.vectors["clip_l"].shape == (1, 64) and learned.enhancers == ("8K", "nikon")
    assert 0 < (learned.vectors["clip_l"] - start).abs().max() < 0.01
    assert json.loads((quick.output / "recipe.json").read_text())["prompt_learning_rate"] == 2.5e-4


def test_a_resumed_training_ends_with_the_same_weights(quick, tmp_path):
    train(replace(quick, steps=5), LRNR)
    train(replace(quick, steps=2, output=tmp_path / "half"), LRNR)
    train(replace(quick, steps=5, output=tmp_path / "half", resume=True), LRNR)
    whole, resumed = weights(quick.output), weights(tmp_path / "half")
    assert whole and all(torch.equal(value, resumed[name]) for name, value in whole.items())
    for name in ("lora.safetensors", "prompt.safetensors"):
        assert (quick.output / name).read_bytes() == (tmp_path / "half" / name).read_bytes()


@pytest.mark.parametrize("name", ["state.pt", "recipe.json"])
@pytest.mark.parametrize("content", [b"", b"[" * 10_000, b'{"recipe": 5}', None])
def test_a_damaged_training_cannot_be_resumed_and_says_which_file(quick, name, content):
    from unclutter.training.recipes.run_folder import check_output, read_state

    quick.output.mkdir(parents=True)
    torch.save({"step": 1, "parameters": {}, "optimizer": {}, "scaler": None}, quick.output / "state.pt")
    (quick.output / "recipe.json").write_text('{"recipe": "lrnr"}')
    path = quick.output / name
    path.write_bytes(path.read_bytes()[:-9] if content is None else content)
    with pytest.raises(
        ValueError, match=rf"{name} (is damaged|is no state|names no recipe).*begin anew in another folder"
    ):
        check_output(replace(quick, resume=True), {})
        read_state(quick.output, ("step",))


def test_a_killed_process_that_loads_pictures_saves_the_step_in_hand(quick):
    def kill_one():
        while not (children := multiprocessing.active_children()) or not (quick.output / "samples").exists():
            time.sleep(0.05)
        children[0].kill()

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    with pytest.raises(ChildProcessError, match="was killed, .* fewer --workers. Saved at step") as told:
        train(replace(quick, steps=1_000_000, workers=1, save_every=1_000_000, sample_every=1), LRNR)
    step = int(str(told.value).partition("Saved at step ")[2].partition(":")[0])
    assert step > 0 and torch.load(quick.output / "state.pt", weights_only=True)["step"] == step


@pytest.mark.parametrize(
    ("number", "send"), [(signal.SIGTERM, os.killpg), (signal.SIGINT, os.killpg), (signal.SIGKILL, os.kill)]
)
def test_a_killed_training_resumes_to_the_same_weights(quick, tmp_path, number, send):
    """`timeout` and a terminal's Ctrl-C tell the process that loads pictures, too."""
    killed = replace(quick, output=tmp_path / "killed", steps=100_000, save_every=1, workers=1)
    run = [sys.executable, "-m", "unclutter.training", *command(killed)]
    # The bits of a sum depend on the number of threads: one, as in this process.
    settings = {"env": {**os.environ, "OMP_NUM_THREADS": "1"}, "start_new_session": True}
    process = subprocess.Popen(run, stderr=subprocess.PIPE, text=True, **settings)
    while not (killed.output / "state.pt").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    send(process.pid, number)
    _, errors = process.communicate(timeout=60)  # which waits for all that have its stderr: no worker outlives it
    assert process.returncode == (-9 if number == signal.SIGKILL else 1)
    assert ("--resume continues" in errors) == (number != signal.SIGKILL)
    # After SIGKILL the process that loads pictures may complain that the other end of its pipe is gone.
    assert number == signal.SIGKILL or "Traceback" not in errors
    done = torch.load(killed.output / "state.pt", weights_only=True)["step"]
    train(replace(killed, steps=done + 2, workers=0, resume=True), LRNR)
    train(replace(quick, steps=done + 2), LRNR)
    whole, resumed = weights(quick.output), weights(killed.output)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    saved = [lora.load(folder / "lora.safetensors").pairs for folder in (quick.output, killed.output)]
    assert all(torch.equal(pair.up, saved[1][module].up) for module, pair in saved[0].items())
    prompts = [prompt.load(folder / "prompt.safetensors").vectors["clip_l"] for folder in (quick.output, killed.output)]
    assert torch.equal(*prompts)


def test_other_pairs_are_not_mixed_into_a_training(quick, tmp_path):
    train(quick, LRNR)
    draw_pairs(DrawnConfig(tmp_path / "others", count=3))
    with pytest.raises(ValueError, match="had other settings .data 6 pairs, .* -> 3 pairs"):
        train(replace(quick, data=tmp_path / "others", resume=True, steps=5), LRNR)


def test_kept_latents_change_nothing_and_the_vae_stays_in_fp32(quick, tmp_path):
    alone = {"micro_batch": 1, "mixed_precision": "no"}
    train(replace(quick, **alone, latent_cache=0.0), LRNR)
    train(replace(quick, **alone, output=tmp_path / "kept"), LRNR)
    assert all(torch.equal(value, weights(tmp_path / "kept")[name]) for name, value in weights(quick.output).items())
    objective = LRNR(load_mini(), quick)
    picture = torch.rand(2, 3, 64, 64)
    expected = objective.encode_once(picture)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(objective.encode_once(picture), expected)
        torch.testing.assert_close(objective.encode(picture), expected)
    calls = []
    cache = LatentCache(lambda one: calls.append(1) or one * 2, gigabytes=2 * 4 * 3 * 64 * 64 / 1e9)
    pictures = torch.rand(3, 3, 64, 64)
    for _ in range(2):
        assert torch.equal(cache(pictures), 2 * pictures)
    assert len(calls) == 4  # two fit, the third is encoded each time


def test_two_processes_reach_the_weights_of_one(quick, tmp_path):
    train(quick, LRNR)
    both = replace(quick, output=tmp_path / "both")
    # `accelerate launch` for two GPUs, which the environment makes two processes on the CPU: for these it wants MPI.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    launch += ["-m", "unclutter.training"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    run = {"capture_output": True, "text": True, "env": environment, "timeout": 300}
    subprocess.run([*launch, *command(both)], check=True, **run)
    # They are two: a batch of two cannot be split into parts of two.
    refused = subprocess.run([*launch, *command(replace(both, resume=True), "--micro-batch", "2", "--resume")], **run)
    assert "micro_batch × processes = 2 × 2" in refused.stderr
    one, two = weights(quick.output), weights(both.output)
    for name, value in one.items():
        # AdamW divides by the gradient's size, so that the order of a sum shows more in weights than in the loss.
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=1e-3)


def test_a_full_disk_leaves_the_last_checkpoint_whole(quick):
    train(replace(quick, steps=1), LRNR)
    before = weights(quick.output)

    def full_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    run = [sys.executable, "-m", "unclutter.training", *command(replace(quick, save_every=1), "--resume")]
    failed = subprocess.run(run, capture_output=True, text=True, preexec_fn=full_disk, timeout=120)
    assert failed.returncode == 1 and "could not be" in failed.stderr and "Traceback" not in failed.stderr
    after = weights(quick.output)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not list(quick.output.glob(".*part*"))


def test_a_disk_that_is_full_at_the_first_save_promises_no_checkpoint(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(
            OSError, match=r"Step 7 could not be saved to .*state\.pt .*: make room, and begin anew"
        ) as told:
            write_state(tmp_path, {"step": 7, "parameters": {"a": torch.zeros(10_000)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "resume" not in str(told.value) and not list(tmp_path.iterdir())


def test_a_training_whose_first_save_fails_promises_nothing(quick):
    def full_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    run = [sys.executable, "-m", "unclutter.training", *command(quick)]
    failed = subprocess.run(run, capture_output=True, text=True, preexec_fn=full_disk, timeout=120)
    (last,) = [line for line in failed.stderr.splitlines() if line.startswith("unclutter train lrnr:")]
    assert failed.returncode == 1 and "could not be written" in last and "make room" in last
    assert "resume" not in last and "checkpoint" not in last and not list(quick.output.glob("*.safetensors"))


def test_a_loss_that_is_not_finite_stops_and_names_the_files(quick):
    class Broken(LRNR):
        def forward(self, batch, generators):
            return super().forward(batch, generators) * (torch.nan if len(steps) == 2 else 1)

    steps: list[int] = []

    def build(base: Base, recipe) -> Objective:
        objective = Broken(base, recipe)
        objective.register_forward_pre_hook(lambda *_: steps.append(1) if objective.training else None)
        return objective

    with pytest.raises(FloatingPointError, match=r"nan .* at step 2, on 00000\d, 00000\d: the last good .* step 1's"):
        train(replace(quick, save_every=1, micro_batch=2), build)
    assert torch.load(quick.output / "state.pt", weights_only=True)["step"] == 1


def test_weights_that_are_not_finite_are_not_saved(quick):
    """After the last step, which no later loss would tell of."""

    class Broken(LRNR):
        def state(self):
            return {**super().state(), "spoiled": torch.tensor(torch.inf)}

    with pytest.raises(FloatingPointError, match="spoiled is no longer finite after step 3: there is none yet in"):
        train(quick, Broken)
    assert not (quick.output / "state.pt").exists() and not list(quick.output.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resume": True}, "holds no state.pt to resume from"),
        ({"data": "nowhere"}, "no folder"),
        ({"batch": 3, "micro_batch": 2}, "batch is 3, expected a multiple of micro_batch"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
    ],
)
def test_bad_settings_are_one_sentence(quick, capsys, changes, message):
    options = [text for key, value in changes.items() for text in (f"--{key.replace('_', '-')}", str(value))]
    options = [text for text in options if text != "True"]
    try:
        assert main([*command(quick), *options]) == 1
    except SystemExit as stopped:  # tyro, on a value that the recipe refuses
        assert stopped.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error and "Traceback" not in error


@pytest.mark.parametrize("kind", ["source", "target"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_picture_is_named_in_one_sentence(quick, tmp_path, capfd, kind, workers):
    """In a worker process, too, whose exceptions would come with their traceback."""
    shutil.copytree(quick.data, tmp_path / "pairs")
    for file in (tmp_path / "pairs" / kind).iterdir():
        file.write_bytes(file.read_bytes()[:-60])
    assert main(command(replace(quick, data=tmp_path / "pairs", workers=workers))) == 1
    error = capfd.readouterr().err
    told = rf"unclutter train lrnr: \S+/pairs/{kind}/00000\d\.png is damaged \(.*\): get it again, .*"
    assert re.fullmatch(told, error.splitlines()[-1]) and "Traceback" not in error


def test_a_training_shows_what_it_does_and_what_it_wrote(quick, capsys):
    train(replace(quick, steps=1, sample_every=1), LRNR)
    assert f"Wrote lora.safetensors, prompt.safetensors to {quick.output}" in capsys.readouterr().out
    board = EventAccumulator(str(quick.output))
    board.Reload()
    assert "loss" in board.Tags()["scalars"] and "samples" in board.Tags()["images"]
    assert (quick.output / "samples" / "step_000001.png").stat().st_size > 10_000


def test_a_sheet_for_which_there_is_no_time_is_left_out_and_told(quick, capsys, monkeypatch):
    monkeypatch.setattr(samples, "LEAST", 0.0)
    train(replace(quick, steps=1, sample_every=1), LRNR)
    told = capsys.readouterr()
    assert "No samples of step 1: one alone would take more than a tenth of the training." in told.out
    assert "samples: " in told.err and not (quick.output / "samples").exists()


def test_a_wrong_base_or_set_leaves_no_folder(quick, tmp_path):
    for changes in ({"base": tmp_path / "nowhere"}, {"data": tmp_path / "nowhere"}):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            train(replace(quick, **changes), LRNR)
        assert not quick.output.exists()


def test_a_folder_holds_one_training(quick):
    train(quick, LRNR)
    with pytest.raises(ValueError, match="add --resume to continue it"):
        train(quick, LRNR)
    with pytest.raises(ValueError, match="had other settings .lora_rank 4 -> 8."):
        train(replace(quick, resume=True, lora_rank=8), LRNR)


def test_two_trainings_at_once_do_not_share_a_folder(quick):
    run = [sys.executable, "-m", "unclutter.training", *command(quick)]
    quick.output.mkdir()
    with only_training_in(quick.output):
        second = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert second.returncode == 1 and "Another training writes into" in second.stderr
    assert "Traceback" not in second.stderr and not (quick.output / "state.pt").exists()


def test_a_base_without_inpainting_channels_is_refused(quick):
    base = load_mini()
    plain = UNet2DConditionModel.from_config({**base.network.config, "in_channels": 12})
    with pytest.raises(ValueError, match="takes 12 channels, expected an inpainting model with 25"):
        LRNR(replace(base, network=plain), quick)


def test_sizes_on_sdxl_are_those_of_the_paper(quick):
    """35.80 M trained parameters at rank 32, 71.7 times fewer than the network (LRNR, Appendix G)."""
    base = random_sdxl("meta", torch.float32)
    whole = sum(parameter.numel() for parameter in base.network.parameters())
    with torch.device("meta"):
        objective = LRNR(base, replace(quick, lora_rank=32))
    trained = sum(parameter.numel() for parameter in objective.lora_parameters())
    assert trained == 35_799_040 and round(whole / trained, 1) == 71.7

"""Help, a wrong option and a missing file are told before anything heavy is imported."""

import json
import subprocess
import sys

import pytest

from unclutter.training.cli import COMMANDS, main

HEAVY = {"torch", "torchvision", "diffusers", "transformers", "accelerate", "peft", "kornia", "scipy", "numpy"}
RUN = """
import json, sys
from unclutter.training.cli import main
codes = []
for arguments in json.loads(sys.argv[1]):
    try:
        codes.append(main(arguments))
    except SystemExit as stop:
        codes.append(stop.code)
print(json.dumps([codes, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def run(*commands):
    """The exit code of each command, the heavy packages that they imported together, and what they told."""
    split = json.dumps([command.split() for command in commands])
    done = subprocess.run([sys.executable, "-c", RUN, split], capture_output=True, text=True, check=True)
    codes, imported = json.loads(done.stdout.splitlines()[-1])
    return codes, set(imported) & HEAVY, done.stderr


def test_help_of_a_command_imports_nothing_heavy():
    codes, imported, _ = run(*(f"{command} --help" for command in COMMANDS))
    assert codes == [0] * len(COMMANDS) and not imported


def test_a_wrong_option_imports_nothing_heavy():
    codes, imported, _ = run("remove --nonsense", "train lrnr --nonsense", "train mini --nonsense", "evaluate -x")
    assert codes == [2] * 4 and not imported


MISSING = {
    "remove {0}/photo.png {0}/mask.png -o {0}/out.png": "no picture at",
    "train lrnr --data {0}/pairs --output {0}/out": "no folder",
    "train osor mini-phase-2 --data {0} --output {0}/out --start {0}/phase1": "nothing at",
    "evaluate --adapters {0}/lrnr": "no training in",
    "data check {0}/pairs": "no folder",
    "data verify {0}/edits --output {0}/out": "nothing at",
    "bench layers --base {0}/base": "no checkpoint at",
    "bench guider --comfyui {0}": "no ComfyUI in",
    "convert {0}/lora.safetensors {0}/out.safetensors": "no file",
    "demo --out {0}/nowhere/page.png": "no folder",
}


def test_a_missing_file_is_told_in_one_sentence_and_imports_nothing_heavy(tmp_path):
    codes, imported, errors = run(*(command.format(tmp_path) for command in MISSING))
    assert codes == [1] * len(MISSING) and not imported
    lines = errors.splitlines()
    assert len(lines) == len(MISSING)
    assert all(told in line for told, line in zip(MISSING.values(), lines, strict=True))


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("unclutter 0.")


@pytest.mark.parametrize(
    ("command", "positionals"),
    [("remove", "IMAGE MASK"), ("data shard", "FOLDER OUTPUT"), ("convert", "LORA OUT"), ("data verify", "EDITS")],
)
def test_what_a_command_takes_is_called_by_what_it_is(command, positionals, capsys):
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    usage = capsys.readouterr().out.partition("\n\n")[0].replace("[OPTIONS] ", "")
    assert usage.startswith(f"usage: unclutter {command} [-h] {positionals}")

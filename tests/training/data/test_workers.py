"""Worker processes end with their parent, also where that is killed: whole commands, and real signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

COMMANDS = {
    "store": "data store --backgrounds backgrounds --cutouts cutouts --count 100000 --size 256 --output out",
    "verify": "data verify edits --output out",
}


@pytest.fixture
def folder(tmp_path):
    """Pictures for both commands, so many that neither is done before it is stopped."""
    for name in ("backgrounds", "cutouts", "edits/shot", "edits/bg"):
        (tmp_path / name).mkdir(parents=True)
    background = Image.effect_noise((512, 512), 20).convert("RGB")
    background.save(tmp_path / "backgrounds" / "a.png")
    cutout = Image.new("RGBA", (200, 200))
    ImageDraw.Draw(cutout).ellipse((20, 20, 180, 180), fill=(250, 20, 20, 255))
    cutout.save(tmp_path / "cutouts" / "a.png")
    background.save(tmp_path / "edits" / "bg" / "0000.png")
    ImageDraw.Draw(background).rectangle((100, 100, 200, 200), fill=(250, 20, 20))
    background.save(tmp_path / "edits" / "shot" / "0000.png")
    for number in range(1, 400):
        for kind in ("shot", "bg"):
            os.link(tmp_path / "edits" / kind / "0000.png", tmp_path / "edits" / kind / f"{number:04}.png")
    named = ", ".join(f'"{number:04}": "the square"' for number in range(400))
    (tmp_path / "edits" / "prompts.json").write_text(f"{{{named}}}")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_no_worker_outlives_a_command_that_is_killed(folder, command, number):
    line = [sys.executable, "-m", "unclutter.training", *COMMANDS[command].split(), "--workers", "2"]
    with (folder / "log").open("wb") as log:
        parent = subprocess.Popen(line, cwd=folder, stdout=log, stderr=log)
    seen: set[int] = set()
    try:
        assert wait_for(lambda: parent.poll() is not None or is_working(folder / "out")), (folder / "log").read_text()
        seen = descendants(parent.pid)
        assert parent.poll() is None and len(seen) >= 2, (folder / "log").read_text()
        parent.send_signal(number)
        assert parent.wait(30) == -number
        assert wait_for(lambda: not any(runs(pid) for pid in seen), 20)
    finally:
        for pid in {parent.pid, *seen}:
            if runs(pid):
                os.kill(pid, signal.SIGKILL)


def is_working(out):
    """Whether a worker has written a picture, so that the next is under way."""
    return any(out.glob("*/*.png"))


def descendants(pid):
    """The processes that a process began, and those that these began."""
    try:
        children = {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except FileNotFoundError:
        return set()
    return children.union(*(descendants(child) for child in children)) if children else children


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def runs(pid):
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"  # killed, and not yet fetched by whoever adopted it

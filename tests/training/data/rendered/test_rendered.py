"""Physically rendered pairs: the same bytes from any number of workers, after a kill too, and true masks."""

import json
import os
import signal
import subprocess
import sys
import time
from math import pi

import numpy as np
import pytest

pytest.importorskip("mitsuba", reason="Mitsuba is not installed: pip install -e '.[render]'.")

from unclutter.training.cli import main  # noqa: E402
from unclutter.training.data.manifest import read_manifest  # noqa: E402
from unclutter.training.data.rendered import render, views  # noqa: E402
from unclutter.training.data.rendered.geometry import lathe, plane, rounded_box, tube  # noqa: E402
from unclutter.training.data.rendered.make import RAYS, TOUCHED, changed, develop  # noqa: E402
from unclutter.training.data.rendered.scene import Camera, Scene, Setting, View  # noqa: E402
from unclutter.training.data.rendered.surroundings import sun  # noqa: E402
from unclutter.training.data.rendered.things import Material, Thing  # noqa: E402
from unclutter.training.images.files import read_image, read_mask  # noqa: E402

SIDE = 64


def command(output, *more):
    size = ["--size", "48", "--samples", "16", "--renderer", "scalar"]
    return ["data", "rendered", str(output), "-n", "2", *size, *more]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_workers_and_a_kill_change_no_byte(tmp_path):
    assert main(command(tmp_path / "one", "--workers", "1")) == 0
    killed = tmp_path / "killed"
    arguments = [sys.executable, "-m", "unclutter.training", *command(killed, "--workers", "1")]
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    masks = killed / "instance_masks"
    while process.poll() is None and not list(masks.glob("*.png")):
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "manifest.jsonl").exists()
    assert list(masks.glob("0*.png"))
    assert main(command(killed, "--workers", "2")) == 0
    # A kill may leave a file that was being written, under another name.
    whole = contents(tmp_path / "one")
    assert {path: content for path, content in contents(killed).items() if path in whole} == whole
    for sample in read_manifest(killed):
        assert sample.prompt and sample.prompt.startswith("a")
        source, target = read_image(sample.source)[0], read_image(sample.target)[0]
        mask, effect = read_mask(sample.mask)[0] > 0.5, read_mask(sample.effect_mask)[0] > 0.5
        assert 0.01 < mask.float().mean() < 0.3 and not (mask & ~effect).any()
        difference = (source - target).abs().amax(dim=0)
        assert difference[mask].mean() > 4 * difference[~effect].mean()
    assert main(["data", "check", str(killed)]) == 0


def test_another_set_is_not_written_over(tmp_path, capsys):
    (tmp_path / "settings.json").write_text(json.dumps({"command": "drawn"}))
    assert main(command(tmp_path)) == 1
    assert "made with other settings" in capsys.readouterr().err


@pytest.fixture(scope="module")
def box_in_the_sun():
    """A black cube of half a metre, which throws no light around, on a plane; the sun stands over -x, at 45 degrees."""
    render.start("scalar_rgb")
    cube = Thing("cube", ((rounded_box(0.5, 0.5, 0.5, 0.005), Material((0, 0, 0))),))
    floor = (plane(20, 20), Material((0.5, 0.5, 0.5)))
    setting = Setting((cube,), (floor, sun((-1, 0, 1))), (0.02, 0.02, 0.02), View(), "")
    # 4 metres across the floor: a pixel is 4 / SIDE metres there; right is +x, up is +y.
    camera = Camera((0, -0.001, 20), (0, 0, 0), 2 * np.degrees(np.arctan(2 / 20)))
    return Scene(setting, camera, 0, "")


def masks_of(scene, side=SIDE, samples=64):
    light = render.render(scene, side, samples, 5)
    exposure = 0.4 / float(np.exp(np.log(light.mean(axis=-1) + 1e-3).mean()))
    pictures = [develop(each, exposure) for each in (light, render.render(scene, side, samples, 5, without=0))]
    mask = render.Sight(scene.setting).shares(scene.camera, side, RAYS)[0] >= TOUCHED
    return mask, changed(*pictures, mask)


def test_the_shadow_of_a_box_lies_where_the_sun_says(box_in_the_sun):
    mask, effect = masks_of(box_in_the_sun)
    metre = SIDE / 4
    # The top, half a metre nearer to the camera 20 metres away, appears 2.5 % larger than the half metre that it is.
    share = render.Sight(box_in_the_sun.setting).shares(box_in_the_sun.camera, SIDE, RAYS)[0]
    assert share.sum() == pytest.approx((0.5 * metre * 20 / 19.5) ** 2, rel=0.03)
    assert (share[mask].sum() == share.sum()) or share[~mask].max() < TOUCHED
    rows, columns = np.nonzero(effect)
    # Light that falls at 45 degrees makes the shadow of the top edge as long as the cube is high: from x = 0.25 to 0.75.
    x = (columns + 0.5 - SIDE / 2) / metre
    y = (SIDE / 2 - rows - 0.5) / metre
    shadow = np.zeros((SIDE, SIDE), bool)
    shadow[
        int(SIDE / 2 - 0.25 * metre) : int(SIDE / 2 + 0.25 * metre),
        int(SIDE / 2 + 0.25 * metre) : int(SIDE / 2 + 0.75 * metre),
    ] = True
    shadow &= ~mask
    assert (effect & shadow).sum() > 0.9 * shadow.sum()
    # Some pixels of the cube's edge are effect and not mask: it covers less than TOUCHED of them.
    assert x.min() > -0.3 and x.max() < 0.95 and np.abs(y).max() < 0.45
    assert np.median(x) == pytest.approx(0.5, abs=0.1)


def test_a_mirror_shows_the_thing_and_the_effect_mask_has_it():
    render.start("scalar_rgb")
    ball = Thing(
        "ball",
        (
            (
                lathe([(0.3 * np.cos(a), 0.3 * (1 + np.sin(a))) for a in np.linspace(-pi / 2, pi / 2, 17)]),
                Material((0.8, 0.1, 0.1)),
            ),
        ),
    )
    wall = (plane(6, 4).moved((0, 1.0, 0.5), tilt=pi / 2), Material((0.95, 0.95, 0.95), metal=True))
    setting = Setting((ball,), (wall,), (0.8, 0.8, 0.8), View(), "")
    mask, effect = masks_of(Scene(setting, Camera((-1.5, -3, 1.0), (0, 0.5, 0.5), 45), 0, ""), samples=16)
    # The camera looks 23.2 degrees to the right of straight ahead; the ball is at 26.6 degrees, and its mirror image, a metre
    # behind the mirror, at 16.7. Half of the picture is tan(22.5 degrees) wide.
    assert np.nonzero(mask)[1].mean() + 0.5 == pytest.approx(32 + 32 * 0.0594 / 0.4142, abs=1)
    assert np.nonzero(effect)[1].mean() + 0.5 == pytest.approx(32 - 32 * 0.1139 / 0.4142, abs=1)
    assert 0.3 < effect.sum() / mask.sum() < 1.2


def test_both_renderers_see_the_same_things(box_in_the_sun):
    by_scalar = render.Sight(box_in_the_sun.setting).shares(box_in_the_sun.camera, 32, 4)
    if render.choose("auto") != render.VARIANTS["llvm"]:
        pytest.skip("LLVM does not render here: install libllvm19 or set DRJIT_LIBLLVM_PATH.")
    try:
        render.start(render.VARIANTS["llvm"])
        by_llvm = render.Sight(box_in_the_sun.setting).shares(box_in_the_sun.camera, 32, 4)
    finally:
        render.start("scalar_rgb")
    assert np.abs(by_scalar - by_llvm).mean() < 0.01


@pytest.mark.parametrize("mesh", [rounded_box(1, 2, 3, 0.1), lathe([(0, 0), (1, 0), (1, 2), (0, 2)], smooth=0)])
def test_meshes_are_closed_and_face_outwards(mesh):
    corners = mesh.vertices[mesh.faces]
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    # 1 x 2 x 3 less its rounded edges; a cylinder of 56 sides.
    assert volume == pytest.approx(6 if len(mesh.faces) > 200 and mesh.vertices[:, 0].max() < 0.6 else 2 * pi, rel=0.02)
    outward = np.einsum(
        "fi,fi->f",
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]),
        mesh.normals[mesh.faces].mean(1),
    )
    assert (outward >= -1e-9).all()


def test_tubes_have_their_radius():
    path = np.array([(0, 0, 0), (0, 0, 1), (0, 0, 2)])
    mesh = tube(path, 0.1, smooth=0)
    assert np.hypot(mesh.vertices[:, 0], mesh.vertices[:, 1]) == pytest.approx(0.1)


def test_a_caption_names_what_stays():
    def thing(name):
        return Thing(name, ((rounded_box(1, 1, 1), Material()),))

    setting = Setting((thing("vase"), thing("vase"), thing("apple"), thing("bench")), (), (0, 0, 0), View(), "a table")
    assert views.caption(setting, 0, np.array([0.1, 0.1, 0.1, 0.0])) == "a table, with a vase and an apple"
    assert views.caption(setting, 3, np.array([0.1, 0.1, 0.0, 0.1])) == "a table, with two vases"


def test_samples_that_do_not_fit_are_told(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["data", "rendered", str(tmp_path), "--samples", "20"])
    assert "multiple of 16" in capsys.readouterr().err

"""Scenes through Mitsuba 3: pictures in linear light, and which thing each pixel shows."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import replace
from math import pi
from types import ModuleType
from typing import Any

import numpy as np
from numpy.random import default_rng

from .geometry import Array, Mesh, plane, rounded_box
from .scene import Camera, Scene, Setting, View
from .textures import Texture, plaster
from .things import Material, Thing

VARIANTS = {"llvm": "llvm_ad_rgb", "scalar": "scalar_rgb"}
TRIAL = "import importlib, sys; importlib.import_module(sys.argv[1]).try_out('llvm_ad_rgb')"
DEPTH = 5
"""Longest path of light, in segments."""
PASS = 16
"""Samples a pixel that are drawn at once."""
NUMBERS = 64
"""Things of a setting, and more."""


def choose(renderer: str) -> str:
    """The variant of Mitsuba for "llvm", "scalar" or "auto": the faster one where it works.

    It is tried in another process, as an LLVM that is too old for the processor ends the process that compiles with it.

    Raises:
        ModuleNotFoundError: Mitsuba is not installed.
    """
    importlib.import_module("mitsuba")
    if renderer == "auto":
        trial = subprocess.run([sys.executable, "-c", TRIAL, __name__], capture_output=True, check=False)
        renderer = "scalar" if trial.returncode else "llvm"
    return VARIANTS[renderer]


def start(variant: str) -> None:
    """Load Mitsuba in a variant, on one thread."""
    import drjit
    import mitsuba

    mitsuba.set_variant(variant)
    if variant.startswith("llvm"):
        drjit.set_thread_count(1)


def try_out(variant: str) -> None:
    """Render a few pixels with a surface of each kind; raises, or ends the process, where the variant does not work."""
    start(variant)
    gold = Material((0.8, 0.6, 0.3), metal=True)
    surfaces = [
        Material(),
        Material(gloss=0.1),
        gold,
        replace(gold, gloss=0.2),
        Material(texture=plaster(default_rng(0))),
    ]
    things = tuple(
        Thing("box", ((rounded_box(0.5, 0.5, 0.5).moved((x, 0, 0)), each),)) for x, each in enumerate(surfaces)
    )
    lamp = (plane(1, 1).moved((0, 0, 3), tilt=pi), Material(light=5))
    setting = Setting(things, (lamp,), (0.5, 0.5, 0.5), View(), "")
    scene = Scene(setting, Camera((0, -5, 2), (0, 0, 0), 60, 0.01), 0, "")
    render(scene, 16, PASS, 0)
    Sight(setting).shares(scene.camera, 16, 1)


def render(scene: Scene, side: int, samples: int, seed: int, without: int | None = None) -> Array:
    """The picture [side, side, 3] in linear light, from 0 up.

    Args:
        samples: paths of light a pixel; the same seed follows the same paths with and without a thing, until they meet it.
        without: the number of a thing that is left out.
    """
    mi = _mitsuba()
    setting, textures = scene.setting, {}
    shapes = {
        f"thing_{number}_{part}": _shape(mi, mesh, material, textures)
        for number, thing in enumerate(setting.things)
        for part, (mesh, material) in enumerate(thing.parts)
        if number != without
    }
    shapes |= {
        f"around_{part}": _shape(mi, mesh, material, textures)
        for part, (mesh, material) in enumerate(setting.surroundings)
    }
    loaded = mi.load_dict(
        {
            "type": "scene",
            "integrator": {"type": "path", "max_depth": DEPTH, "rr_depth": DEPTH},
            "sky": {"type": "constant", "radiance": {"type": "rgb", "value": list(setting.sky)}},
            **shapes,
        }
    )
    sensor = mi.load_dict(_camera(mi, scene.camera, side, samples=PASS))
    passes = max(1, round(samples / PASS))
    total = np.zeros((side, side, 3))
    # A few passes instead of one keep the memory small.
    for number in range(passes):
        total += np.array(mi.render(loaded, sensor=sensor, spp=PASS, seed=seed * passes + number))[..., :3]
    return total / passes


class Sight:
    """Tells which thing of a setting each pixel shows: shapes without their materials, loaded once for many cameras.

    Args:
        alone: only the thing of this number is there, and nothing that could stand before it.
    """

    def __init__(self, setting: Setting, alone: int | None = None) -> None:
        mi = _mitsuba()
        numbers = range(len(setting.things)) if alone is None else [alone]
        shapes = {
            f"thing_{number}_{part}": _shape(mi, mesh, _numbered(number + 1))
            for number in numbers
            for part, (mesh, _) in enumerate(setting.things[number].parts)
        }
        around = setting.surroundings if alone is None else ()
        shapes |= {f"around_{part}": _shape(mi, mesh, _numbered(0)) for part, (mesh, _) in enumerate(around)}
        self.scene = mi.load_dict({"type": "scene", "integrator": {"type": "aov", "aovs": "number:albedo"}, **shapes})
        self.count = len(setting.things)

    def shares(self, camera: Camera, side: int, rays: int, seed: int = 0) -> Array:
        """The share of each pixel that shows each thing, [things, side, side], by so many rays a pixel."""
        mi = _mitsuba()
        sensor = mi.load_dict(_camera(mi, camera, side, samples=1))
        total = np.zeros((self.count, side, side))
        for number in range(rays):
            channels = np.array(mi.render(self.scene, sensor=sensor, spp=1, seed=seed * rays + number))
            shown = (channels[..., -1] * NUMBERS).round().astype(int)
            total += shown[None] == np.arange(1, self.count + 1)[:, None, None]
        return total / rays


def _numbered(number: int) -> Material:
    """A surface whose linear grey tells a number below NUMBERS. What Mitsuba calls a shape's index means another thing in
    each variant, and this does not."""
    grey = number / NUMBERS
    value = grey * 12.92 if grey <= 0.0031308 else 1.055 * grey ** (1 / 2.4) - 0.055
    return Material((value, value, value))


def _mitsuba() -> ModuleType:
    import mitsuba

    return mitsuba


def _camera(mi: Any, camera: Camera, side: int, samples: int) -> dict[str, Any]:
    place = mi.ScalarTransform4f().look_at(
        origin=list(camera.position), target=list(camera.towards), up=[0.0, 0.0, 1.0]
    )
    distance = float(np.linalg.norm(np.subtract(camera.towards, camera.position)))
    lens = {"aperture_radius": camera.aperture, "focus_distance": distance} if camera.aperture else {}
    return {
        "type": "thinlens" if camera.aperture else "perspective",
        "fov": camera.angle,
        "to_world": place,
        "film": {"type": "hdrfilm", "width": side, "height": side, "rfilter": {"type": "box"}, "pixel_format": "rgb"},
        "sampler": {"type": "multijitter" if samples > 1 else "independent", "sample_count": samples},
        **lens,
    }


def _shape(mi: Any, mesh: Mesh, material: Material, textures: dict[int, Any] | None = None) -> Any:
    properties, uv = mi.Properties(), mesh.uv
    properties["bsdf"] = mi.load_dict(_surface(mi, material, {} if textures is None else textures))
    if material.light:
        radiance = [material.light * value for value in _linear(material.colour)]
        properties["emitter"] = mi.load_dict({"type": "area", "radiance": {"type": "rgb", "value": radiance}})
    if material.texture is not None:
        cosine, sine = np.cos(material.turn), np.sin(material.turn)
        uv = uv @ np.array([[cosine, sine], [-sine, cosine]]) / material.texture.metres
    shape = mi.Mesh(
        "mesh",
        vertex_count=len(mesh.vertices),
        face_count=len(mesh.faces),
        has_vertex_normals=True,
        has_vertex_texcoords=True,
        props=properties,
    )
    values = mi.traverse(shape)
    values["vertex_positions"] = np.ascontiguousarray(mesh.vertices, dtype=np.float32).ravel()
    values["vertex_normals"] = np.ascontiguousarray(mesh.normals, dtype=np.float32).ravel()
    values["vertex_texcoords"] = np.ascontiguousarray(uv, dtype=np.float32).ravel()
    values["faces"] = np.ascontiguousarray(mesh.faces, dtype=np.uint32).ravel()
    values.update()
    return shape


def _surface(mi: Any, material: Material, textures: dict[int, Any]) -> dict[str, Any]:
    colour: Any = {"type": "rgb", "value": _linear(material.colour)}
    if material.texture is not None:
        colour = _bitmap(mi, material.texture, textures)
    if material.metal:
        roughness = {"alpha": material.gloss} if material.gloss else {}
        kind = "roughconductor" if material.gloss else "conductor"
        return {
            "type": "twosided",
            "bsdf": {"type": kind, "material": "none", "specular_reflectance": colour, **roughness},
        }
    if material.gloss is None:
        return {"type": "twosided", "bsdf": {"type": "diffuse", "reflectance": colour}}
    coat = {"type": "roughplastic", "alpha": material.gloss, "diffuse_reflectance": colour, "int_ior": 1.5}
    return {"type": "twosided", "bsdf": coat}


def _bitmap(mi: Any, texture: Texture, known: dict[int, Any]) -> Any:
    if id(texture) not in known:
        pixels = mi.Bitmap(np.ascontiguousarray(_linear(texture.pixels), dtype=np.float32))
        known[id(texture)] = mi.load_dict({"type": "bitmap", "bitmap": pixels, "raw": True, "wrap_mode": "repeat"})
    return known[id(texture)]


def _linear(colour: Any) -> Any:
    """sRGB as linear light; of a single colour a list."""
    values = np.asarray(colour, dtype=np.float64)
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return light.tolist() if light.ndim == 1 else light

"""A scene before it is rendered: things on a ground, what is around them, the light, and the camera."""

from __future__ import annotations

from dataclasses import dataclass

from .geometry import Mesh
from .things import Material, Thing

Range = tuple[float, float]


@dataclass(frozen=True)
class View:
    """From where a setting may be looked at; angles in degrees.

    Attributes:
        angle: of view.
        elevation: of the camera, seen from what it looks at.
        azimuth: to the left and right of straight ahead.
        extent: longer side of the target in the picture, as a share of the picture's.
        nearest, farthest: distance of the camera in metres.
        aperture: radius of the lens in metres; 0 has everything sharp.
    """

    angle: Range = (38.0, 50.0)
    elevation: Range = (10.0, 36.0)
    azimuth: float = 24.0
    extent: Range = (0.24, 0.46)
    nearest: float = 1.3
    farthest: float = 3.6
    aperture: Range = (0.0, 0.0)


@dataclass(frozen=True)
class Setting:
    """Things with numbers, in order from 0, and what is around them.

    Attributes:
        things: what may be removed; each stands where it is.
        surroundings: meshes that stay, lights among them.
        sky: radiance from all around, linear RGB.
        words: the setting without its things, such as "a room with parquet on the floor".
    """

    things: tuple[Thing, ...]
    surroundings: tuple[tuple[Mesh, Material], ...]
    sky: tuple[float, float, float]
    view: View
    words: str


@dataclass(frozen=True)
class Camera:
    """position and the point that it looks at and focuses on, in metres; angle of view in degrees; radius of the lens."""

    position: tuple[float, float, float]
    towards: tuple[float, float, float]
    angle: float
    aperture: float = 0.0


@dataclass(frozen=True)
class Scene:
    """A setting with a camera, and the number of the thing that is removed.

    Attributes:
        caption: what is seen without the target.
    """

    setting: Setting
    camera: Camera
    target: int
    caption: str

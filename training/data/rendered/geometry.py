"""Meshes of everyday things: rounded boxes, turned shapes and bent tubes. Metres; z points up."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Mesh:
    """vertices and normals [V, 3]; uv [V, 2], in metres along the surface; faces [F, 3], indices of vertices."""

    vertices: Array
    normals: Array
    uv: Array
    faces: NDArray[np.integer]

    def moved(self, offset: tuple[float, float, float] = (0, 0, 0), turn: float = 0.0, tilt: float = 0.0) -> Mesh:
        """The mesh tilted about the x axis, turned about the z axis (both in radians), and then shifted."""
        turned, tilted = _rotation(turn, 2), _rotation(tilt, 0)
        matrix = turned @ tilted
        return Mesh(self.vertices @ matrix.T + np.asarray(offset), self.normals @ matrix.T, self.uv, self.faces)


def rounded_box(width: float, depth: float, height: float, radius: float = 0.01, steps: int = 2) -> Mesh:
    """A box that stands on z = 0 with its middle on the z axis, its edges rounded."""
    half = np.array([width, depth, height]) / 2
    radius = min(radius, *(half * 0.98))
    parts = [_box_face(half, radius, steps, axis, sign) for axis in range(3) for sign in (-1, 1)]
    return joined(parts).moved((0, 0, height / 2))


def _box_face(half: Array, radius: float, steps: int, axis: int, sign: int) -> Mesh:
    first, second = [other for other in range(3) if other != axis]
    ramp = np.linspace(0, radius, steps + 1)
    lines = [np.concatenate([-half[each] + ramp, half[each] - ramp[::-1]]) for each in (first, second)]
    u, v = np.meshgrid(*lines, indexing="ij")
    points = np.zeros((*u.shape, 3))
    points[..., first], points[..., second], points[..., axis] = u, v, sign * half[axis]
    inner = np.clip(points, -(half - radius), half - radius)
    direction = points - inner
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    # Seen from outside, the first and the second axis turn anticlockwise on two of the three positive faces.
    outward = sign * (-1 if axis == 1 else 1) > 0
    # Textures stand upright on the sides of a box.
    uv = np.stack([u, v], axis=-1)
    return _grid(inner + radius * direction, direction, uv, outward)


def lathe(profile: list[tuple[float, float]], segments: int = 56, smooth: int = 8) -> Mesh:
    """A profile of (radius, height) points turned about the z axis, from the bottom outside upwards.

    Args:
        smooth: points that a spline puts between two of the profile; 0 keeps its corners.
    """
    points = np.asarray(profile, dtype=float)
    if smooth:
        points = _spline(points, smooth)
        points[:, 0] = points[:, 0].clip(min=0)
        tangent = np.gradient(points, axis=0)
        normals = np.stack([tangent[:, 1], -tangent[:, 0]], axis=1)
    else:
        # Each straight piece has its own normals, so that corners stay sharp.
        edges = np.diff(points, axis=0)
        points = np.stack([points[:-1], points[1:]], axis=1).reshape(-1, 2)
        normals = np.repeat(np.stack([edges[:, 1], -edges[:, 0]], axis=1), 2, axis=0)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(min=1e-9)
    angle = np.linspace(0, 2 * pi, segments + 1)
    around = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])

    def turned(pairs: Array) -> Array:
        flat = pairs[:, None, :1] * around[None]
        return np.concatenate([flat, np.broadcast_to(pairs[:, None, 1:], (*flat.shape[:2], 1))], axis=-1)

    u = np.broadcast_to(angle * points[:, 0].max(), (len(points), segments + 1))
    uv = np.stack([u, np.broadcast_to(length[:, None], u.shape)], axis=-1)
    return _grid(turned(points), turned(normals), uv, outward=False)


def tube(path: Array, radius: float | Array, segments: int = 12, smooth: int = 6) -> Mesh:
    """A round tube along a path of points [P, 3]; its radius may change along it."""
    points = np.asarray(path, dtype=float)
    radii = np.broadcast_to(np.asarray(radius, dtype=float), (len(points),))
    both = _spline(np.concatenate([points, radii[:, None]], axis=1), smooth) if smooth else None
    points, radii = (both[:, :3], both[:, 3]) if both is not None else (points, radii)
    tangent = np.gradient(points, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.cross(tangent, np.array([0.31, 0.52, 0.79]))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    other = np.cross(tangent, side)
    angle = np.linspace(0, 2 * pi, segments + 1)
    normals = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * other[:, None]
    uv = np.stack(np.meshgrid(np.arange(len(points)), angle, indexing="ij"), axis=-1) * 0.02
    return _grid(points[:, None] + normals * radii[:, None, None], normals, uv, outward=False)


def plane(width: float, depth: float) -> Mesh:
    """A rectangle on z = 0 that faces upwards; its uv are its x and y."""
    corners = np.array([[-width, -depth, 0], [width, -depth, 0], [width, depth, 0], [-width, depth, 0]]) / 2
    return Mesh(corners, np.tile([0.0, 0.0, 1.0], (4, 1)), corners[:, :2].copy(), np.array([[0, 1, 2], [0, 2, 3]]))


def joined(meshes: list[Mesh]) -> Mesh:
    """Several meshes as one."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.uv for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]),
    )


def _grid(points: Array, normals: Array, uv: Array, outward: bool) -> Mesh:
    """A sheet of quadrilaterals [rows, columns, 3] as triangles, turned so that their front is outside."""
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]))
    triangles = [np.stack([a, b, c], 1), np.stack([a, c, d], 1)]
    faces = np.concatenate(triangles if outward else [triangle[:, ::-1] for triangle in triangles])
    return Mesh(points.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), faces)


def _spline(points: Array, steps: int) -> Array:
    """A Catmull-Rom spline through points [P, D]."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.arange(steps)[None, :, None] / steps
    before, start, end, after = (padded[shift : shift + len(points) - 1, None] for shift in range(4))
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    return np.concatenate([curve.reshape(-1, points.shape[1]), points[-1:]])


def _rotation(angle: float, axis: int) -> Array:
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[second, first], matrix[first, second] = np.sin(angle), -np.sin(angle)
    return matrix

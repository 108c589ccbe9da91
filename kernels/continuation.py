"""Carries the surroundings of a hole into it: the shifts that continue a bench or a horizon on both sides are cheap between them too.

The costs of pixels in `shift_map` know only the few pixels beside the hole. In a large hole they leave its middle to the length
of the shifts alone, and then a piece of hedge from above is as good as the rest of the bench.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .regions import around
from .seamless import pull_push
from .shift_map import Level, at, known_at

BAND = 4
"""Reach in pixels of the surroundings that are carried into the hole."""
EDGE, RISE = 4.0, 8.0
"""Pixels from the edge of the hole at which this begins to count, and over which it comes to count in full. Nearer to the edge
the pixels beside the hole judge better: what surrounds a look-alike of the object agrees best with what surrounds the object."""


def continuation_costs(level: Level, shifts: Tensor) -> Tensor:
    """How badly each shift continues what surrounds the hole: by how much the known pixels around it differ from theirs
    under that shift, from the nearest of them to the mean of all in the middle of a large hole. Near the edge it costs nothing.

    Args:
        shifts: int [K, 2].

    Returns:
        [K, pixels of the hole]. A shift under which no pixel around the hole has a known one costs what is the mean of all.
    """
    from scipy.ndimage import distance_transform_edt

    rows, columns = around(level.hole.float(), BAND)
    hole, image = level.hole[rows, columns], level.image[:, rows, columns]
    places = level.hole.new_ones(level.hole.shape).nonzero().view(*level.hole.shape, 2)[rows, columns]
    near = (F.max_pool2d(hole.float()[None], 2 * BAND + 1, 1, BAND)[0] > 0) & level.known[rows, columns]
    judged = torch.stack([known_at(level, places + shift) & near for shift in shifts])
    if not judged.any():
        return level.image.new_zeros(len(shifts), int(level.hole.sum()))
    differences = torch.stack([(image - at(level.image, places + shift)).norm(dim=0) for shift in shifts]) * judged
    share = F.avg_pool2d(judged.to(differences), 3, 1, 1)
    mean = F.avg_pool2d(differences, 3, 1, 1) / share.clamp(min=1 / 9)
    carried = pull_push(torch.where(judged, mean, mean[judged].mean()), judged)
    depth = torch.from_numpy(distance_transform_edt(F.pad(hole, (1,) * 4, value=True).cpu().numpy()))[1:-1, 1:-1]
    return carried[:, hole] * ((depth.to(carried)[hole] - EDGE) / RISE).clamp(0, 1)

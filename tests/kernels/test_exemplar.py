import itertools
from pathlib import Path

import numpy
import pytest
import skimage.data
import torch
from PIL import Image

from unclutter.kernels.continuation import continuation_costs
from unclutter.kernels.exemplar import STAGES, exemplar_fill
from unclutter.kernels.expansion import GRADIENT_WEIGHT, expand
from unclutter.kernels.patch_offsets import dominant_shifts
from unclutter.kernels.regions import grow
from unclutter.kernels.seamless import blend_seams, pull_push, solve
from unclutter.kernels.shift_map import IMPOSSIBLE, RING, Level, align, compose, cover_all, unary_costs


def checks(height: int, width: int, period: int) -> torch.Tensor:
    rows, columns = torch.arange(height)[:, None] // period, torch.arange(width) // period
    return ((rows + columns) % 2).float().expand(1, 3, -1, -1).clone()


def disc(height: int, width: int, center: tuple[int, int], radius: int) -> torch.Tensor:
    rows, columns = torch.arange(height)[:, None] - center[0], torch.arange(width) - center[1]
    return (rows**2 + columns**2 <= radius**2).float()[None]


def small_level(seed: int = 0, side: int = 40) -> Level:
    generator = torch.Generator().manual_seed(seed)
    hole = disc(side, side, (side // 2, side // 2), side // 6)[0] > 0
    return Level(torch.rand(3, side, side, generator=generator), hole, ~hole)


def test_a_pattern_goes_on_through_the_hole_exactly():
    picture = checks(200, 240, 10)
    spoiled, mask = picture.clone(), disc(200, 240, (100, 130), 31)
    spoiled[:, :, mask[0] > 0] = torch.rand(3, 1)
    assert torch.equal(exemplar_fill(spoiled, mask), picture)


@pytest.mark.parametrize("seed", [3, 8, 10, 11])  # of pictures where it was used once
def test_what_lies_in_the_hole_is_never_used_and_nothing_else_changes(seed):
    picture = torch.rand(1, 3, 90, 120, generator=torch.Generator().manual_seed(seed))
    mask = disc(90, 120, (40, 60), 15)
    other = torch.where(mask[:, None] > 0, 1 - picture, picture)
    filled = exemplar_fill(picture, mask)
    assert torch.equal(filled, exemplar_fill(other, mask))
    outside = mask[0] == 0
    assert torch.equal(filled[:, :, outside], picture[:, :, outside])


def test_each_picture_of_a_batch_is_filled_as_it_would_be_alone():
    pictures, masks = torch.rand(2, 3, 80, 80), torch.cat([disc(80, 80, (30, 30), 9), disc(80, 80, (50, 45), 14)])
    together = exemplar_fill(pictures, masks)
    for one, picture, mask in zip(together, pictures, masks, strict=True):
        assert torch.equal(one, exemplar_fill(picture[None], mask[None])[0])
    assert torch.equal(exemplar_fill(pictures, torch.zeros_like(masks)), pictures)


def test_nothing_is_copied_from_what_is_to_be_avoided():
    picture = torch.rand(1, 3, 100, 160) * 0.2
    coins = disc(100, 160, (50, 30), 14) + disc(100, 160, (50, 80), 14) + disc(100, 160, (50, 130), 14)
    picture[:, :, coins[0] > 0] += 0.8
    mask = disc(100, 160, (50, 80), 17)
    avoid = torch.maximum(disc(100, 160, (50, 30), 17), disc(100, 160, (50, 130), 17))
    assert exemplar_fill(picture, mask, avoid)[:, :, mask[0] > 0].max() < 0.4


@pytest.mark.parametrize(("height", "width"), [(37, 53), (24, 200), (9, 9)])
def test_small_and_narrow_pictures_with_a_hole_at_the_border(height, width):
    picture, mask = torch.rand(1, 3, height, width), torch.zeros(1, height, width)
    mask[:, : height // 3, : width // 3] = 1
    filled = exemplar_fill(picture, mask)
    assert torch.isfinite(filled).all() and filled.min() >= 0 and filled.max() <= 1
    assert not torch.equal(filled, picture)


def test_a_hole_far_from_all_that_may_be_copied_is_filled_from_afar():
    picture, mask = torch.full((1, 3, 60, 400), 0.9), torch.zeros(1, 60, 400)
    picture[..., 350:] = 0.3
    mask[:, 20:40, 20:40] = 1
    avoid = torch.zeros_like(mask)
    avoid[..., :350] = 1
    assert torch.allclose(exemplar_fill(picture, mask, avoid)[:, :, 30, 30], torch.tensor(0.3), atol=1e-3)


def test_a_picture_without_background_is_refused():
    picture, mask = torch.rand(1, 3, 40, 40), disc(40, 40, (20, 20), 8)
    with pytest.raises(ValueError, match="no background to copy from"):
        exemplar_fill(picture, mask, avoid=torch.ones_like(mask))


def test_half_precision_is_filled_in_its_own_precision():
    picture = checks(64, 64, 4).half()
    filled = exemplar_fill(picture, disc(64, 64, (30, 30), 9))
    assert filled.dtype == torch.float16 and torch.equal(filled, picture)


def test_progress_sees_every_step_and_may_cancel():
    picture, mask = torch.rand(2, 3, 48, 48), disc(48, 48, (24, 24), 8).expand(2, -1, -1)
    seen = []

    def count(steps):
        for step in steps:
            seen.append(step)
            yield step

    exemplar_fill(picture, mask, progress=count)
    assert len(seen) == 2 * STAGES

    def stop(steps):
        for step in steps:
            if step == 3:
                raise InterruptedError
            yield step

    before = picture.clone()
    with pytest.raises(InterruptedError):
        exemplar_fill(picture, mask, progress=stop)
    assert torch.equal(picture, before)


def test_the_shift_of_a_pattern_is_among_the_dominant_ones():
    generator = torch.Generator().manual_seed(0)
    tile = torch.rand(3, 16, 12, generator=generator)
    hole = disc(96, 96, (48, 48), 10)[0] > 0
    shifts = dominant_shifts(Level(tile.repeat(1, 6, 8), hole, ~hole), 4, 0)
    assert len(shifts) and all(down % 16 == 0 and right % 12 == 0 for down, right in shifts.tolist())


def test_costs_of_pixels_equal_the_plain_sum():
    level = small_level()
    shifts = torch.tensor([[9, 3], [-14, 8], [0, 0]])
    costs = unary_costs(level, shifts)
    side = 40
    for (down, right), cost in zip(shifts.tolist(), costs, strict=True):
        for row, column in level.hole.nonzero().tolist():
            source = (row + down, column + right)
            pixel = int(level.hole[:row].sum() + level.hole[row, :column].sum())
            if not level.known[source]:
                assert cost[pixel] == IMPOSSIBLE
                continue
            total = 0.0
            for i, j in itertools.product(range(-RING, RING + 1), repeat=2):
                y, x = row + i, column + j
                if (
                    0 <= y + down < side
                    and 0 <= x + right < side
                    and level.known[y, x]
                    and level.known[y + down, x + right]
                ):
                    total += float((level.image[:, y, x] - level.image[:, y + down, x + right]).norm())
            expected = total / (2 * RING + 1) + 0.5 * (down**2 + right**2) ** 0.5 / side
            assert float(cost[pixel]) == pytest.approx(expected, rel=1e-4)


def test_what_surrounds_a_hole_is_carried_to_its_middle():
    """A red beam across a grey wall: between its two ends a shift along the beam is free, and one across it costs what
    red and grey differ by, and at the edge of the hole, where its neighbours judge, nothing."""
    picture = torch.full((3, 96, 96), 0.5)
    picture[:, 40:56] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    hole = torch.zeros(96, 96, dtype=torch.bool)
    hole[20:76, 30:66] = True
    level = Level(torch.where(hole, 0.0, picture), hole, ~hole)
    along, above, away = continuation_costs(level, torch.tensor([[0, -36], [-24, 0], [200, 0]]))
    middle = (hole.nonzero() == torch.tensor([48, 48])).all(1)
    beside = (hole.nonzero() == torch.tensor([48, 31])).all(1)
    assert float(along[middle]) == pytest.approx(0.0, abs=0.01)
    assert float(above[beside]) == 0
    assert float(above[middle]) > 0.1
    # Nothing says anything of a shift that leads out of the picture: it costs the mean of all.
    assert float(away[middle]) == pytest.approx(float(away.max())) and float(away[middle]) > 0


def test_each_channel_may_know_other_pixels():
    picture = torch.rand(3, 13, 10, generator=torch.Generator().manual_seed(1))
    known = torch.rand(3, 13, 10, generator=torch.Generator().manual_seed(2)) > 0.7
    known[2] = False
    together = pull_push(picture, known)
    assert torch.equal(together[2], picture[2])
    for channel in range(2):
        alone = pull_push(picture[channel : channel + 1], known[channel])
        assert torch.equal(together[channel : channel + 1], alone)


def plain_energy(level: Level, shifts: torch.Tensor, costs: torch.Tensor, labels: torch.Tensor) -> float:
    """The energy of shift maps, pixel by pixel."""
    image, hole = level.image, level.hole
    right = torch.zeros_like(image)
    down = torch.zeros_like(image)
    right[:, :, :-1] = (image[:, :, 1:] - image[:, :, :-1]) * (~hole[:, 1:] & ~hole[:, :-1])
    down[:, :-1] = (image[:, 1:] - image[:, :-1]) * (~hole[1:] & ~hole[:-1])
    features = torch.cat([image, GRADIENT_WEIGHT * right, GRADIENT_WEIGHT * down])

    def feature(place, label):
        place = (torch.tensor(place) + shifts[label]).clamp(0, len(hole) - 1)
        return features[:, place[0], place[1]]

    number = hole.flatten().cumsum(0).view_as(hole) - 1
    energy = 0.0
    for row, column in hole.nonzero().tolist():
        label = int(labels[row, column])
        energy += float(costs[label, number[row, column]])
        for other in ((row + 1, column), (row, column + 1)):
            if hole[other] and (beside := int(labels[other])) != label:
                for place in ((row, column), other):
                    energy += float((feature(place, label) - feature(place, beside)).norm())
    return energy


def cheapest(level: Level, costs: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(level.hole, dtype=torch.long).masked_scatter(level.hole, costs.argmin(0))


@pytest.mark.parametrize("reach", [None, 1])
def test_an_expansion_move_finds_the_best_of_all_moves(reach):
    level = small_level(1, side=30)
    hole = torch.zeros(30, 30, dtype=torch.bool)
    hole[14:17, 14:18] = True
    level = Level(level.image, hole, ~hole)
    shifts = torch.tensor([[6, 0], [0, 7]])
    costs = unary_costs(level, shifts)
    start = torch.zeros(30, 30, dtype=torch.long)
    if reach:
        start[14:17, 16:18] = 1
    found = expand(level, shifts, costs, start, [1], reach)
    choices = [
        start.masked_scatter(hole, torch.tensor(choice))
        for choice in itertools.product((0, 1), repeat=12)
        if not reach or not any(choice[place] for place in (0, 4, 8)) and all(choice[i] for i in (2, 3, 6, 7, 10, 11))
    ]
    best = min(plain_energy(level, shifts, costs, choice) for choice in choices)
    assert plain_energy(level, shifts, costs, found) == pytest.approx(best, abs=0.02)
    assert len(choices) == (8 if reach else 4096)


def test_a_seam_moves_to_where_the_pieces_meet_unseen():
    """Two pieces whose sources agree along a slanted line: a straight border between them becomes that line."""
    generator = torch.Generator().manual_seed(8)
    picture = torch.rand(3, 40, 120, generator=generator)
    rows, columns = torch.arange(40)[:, None], torch.arange(40)
    line = 16 + rows // 8
    picture[:, :, 80:] = torch.where((columns - line).abs() < 2, picture[:, :, :40], picture[:, :, 80:])
    hole = disc(40, 120, (20, 60), 10)[0] > 0
    level, shifts = Level(picture, hole, ~hole), torch.tensor([[0, -40], [0, 40]])
    labels = (torch.arange(120) >= 60).long().expand(40, -1)
    moved = expand(level, shifts, torch.zeros(2, int(hole.sum())), labels, [0, 1], reach=4)
    left, right = compose(level, shifts, torch.zeros_like(labels)), compose(level, shifts, torch.ones_like(labels))
    border = hole[:, 1:] & hole[:, :-1] & (moved[:, 1:] != moved[:, :-1])
    assert border.any()
    assert torch.equal(left[:, :, 1:][:, border], right[:, :, 1:][:, border])
    assert torch.equal(left[:, :, :-1][:, border], right[:, :, :-1][:, border])


def test_expansion_moves_never_raise_the_energy():
    level = small_level(2)
    shifts = cover_all(level, dominant_shifts(level, 8, 4), seed=0)
    costs = unary_costs(level, shifts)
    labels = cheapest(level, costs)
    before = plain_energy(level, shifts, costs, labels)
    for label in range(len(shifts)):
        labels = expand(level, shifts, costs, labels, [label])
        after = plain_energy(level, shifts, costs, labels)
        assert after <= before + 1e-3
        before = after


def test_every_pixel_gets_a_shift_that_it_can_use():
    level = small_level(3)
    shifts = cover_all(level, torch.zeros(0, 2, dtype=torch.long), seed=0)
    labels = cheapest(level, unary_costs(level, shifts))
    sources = level.hole.nonzero() + shifts[labels[level.hole]]
    assert (sources >= 0).all() and (sources < 40).all() and level.known[sources[:, 0], sources[:, 1]].all()


def test_pieces_move_to_where_they_fit():
    generator = torch.Generator().manual_seed(4)
    picture = torch.rand(3, 20, 24, generator=generator).repeat(1, 3, 3)
    hole = disc(60, 72, (30, 36), 8)[0] > 0
    level = Level(picture, hole, ~hole)
    labels = torch.zeros(60, 72, dtype=torch.long)
    assert align(level, torch.tensor([[21, 1]]), labels).tolist() == [[20, 0]]
    assert torch.equal(compose(level, torch.tensor([[20, 0]]), labels), picture)


def test_unknown_pixels_get_the_mean_of_the_nearest_known_ones():
    square = torch.tensor([[[0.9, 0.3], [0.6, 7.0]]])
    assert torch.allclose(pull_push(square, square[0] < 1)[0, 1, 1], torch.tensor(0.6))
    ramp = torch.linspace(0, 1, 33).expand(3, 21, 33).clone()
    known = disc(21, 33, (10, 16), 7)[0] == 0
    guess = pull_push(torch.where(known, ramp, 5.0), known)
    assert torch.equal(guess[:, known], ramp[:, known])
    assert (guess - ramp).abs().max() < 0.2 and guess[0, 10, 11] < guess[0, 10, 21]
    assert torch.equal(pull_push(ramp, torch.zeros_like(known)), ramp)


def test_the_smooth_field_equals_a_dense_solution():
    generator = torch.Generator().manual_seed(5)
    hole = disc(14, 15, (7, 7), 5)[0] > 0
    down, right = torch.rand(2, 1, 14, 15, generator=generator) - 0.5
    free_down, free_right = (torch.rand(2, 14, 15, generator=generator) > 0.3).float()
    free_down[-1], free_right[:, -1] = 0, 0
    number = torch.full((14, 15), -1)
    number[hole] = torch.arange(int(hole.sum()))
    rows, wanted = [], []
    for row, column in itertools.product(range(14), range(15)):
        for other, difference, free in (
            ((row + 1, column), down, free_down),
            ((row, column + 1), right, free_right),
        ):
            if free[row, column]:
                equation = torch.zeros(int(hole.sum()))
                if hole[row, column]:
                    equation[number[row, column]] -= 1
                if hole[other]:
                    equation[number[other]] += 1
                rows.append(equation)
                wanted.append(difference[0, row, column])
    expected = torch.linalg.lstsq(torch.stack(rows), torch.stack(wanted)[:, None], driver="gelsd").solution[:, 0]
    field = solve(hole, down, free_down, right, free_right, torch.zeros(1, 14, 15), 300)
    assert torch.allclose(field[0][hole], expected, atol=1e-4)
    assert not field[0][~hole].any()


def test_a_copy_from_a_darker_place_is_brightened_and_an_edge_stays():
    light = torch.linspace(0.3, 0.4, 64).expand(3, 64, 64).clone()
    hole = disc(64, 64, (32, 40), 9)[0] > 0
    level, labels = Level(light, hole, ~hole), torch.zeros(64, 64, dtype=torch.long)
    shifts = torch.tensor([[0, -25]])
    blended = blend_seams(compose(level, shifts, labels), level, shifts, labels)
    assert torch.allclose(blended, light, atol=2e-3)
    light[:, :, :26] -= 0.3
    level = Level(light, hole, ~hole)
    copied = compose(level, shifts, labels)
    assert torch.allclose(blend_seams(copied, level, shifts, labels), copied, atol=1e-5)


def test_on_a_photograph_of_coins_no_coin_is_copied_where_coins_are_to_be_avoided():
    with Image.open(Path(skimage.data.__file__).parent / "coins.png") as photograph:
        picture = torch.from_numpy(numpy.array(photograph)).float() / 255
    bright = torch.nn.functional.avg_pool2d(picture[None], 9, 1, 4) > 0.42
    mask = torch.zeros(1, *picture.shape)
    mask[:, 150:220, 180:310] = 1  # two coins and what lies between
    avoid = grow(bright.float(), pixels=5) * (1 - mask)
    hole, pictures = mask[0] > 0, picture.expand(1, 3, -1, -1)
    assert (exemplar_fill(pictures, mask)[0, 0, hole] > 0.5).float().mean() > 0.2
    assert exemplar_fill(pictures, mask, avoid)[0, 0, hole].max() < 0.5

"""LPIPS, CLIP, DINO, ReMOVE and CFD by tiny networks, against other ways to the same numbers."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.functional import to_pil_image
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer, ViTImageProcessor, ViTModel

from unclutter.training.evaluation.metrics.clip import deviation, score
from unclutter.training.evaluation.metrics.crops import square_around
from unclutter.training.evaluation.metrics.feature_deviation import adjacent, cut_out, distinct, frame_of
from unclutter.training.evaluation.metrics.remove_score import remove_score

NEEDS_TRUTH = ("lpips", "clip-similarity", "dino")
NEEDS_MASK = ("clip-score", "remove", "cfd")


def test_lpips_is_that_of_the_lpips_package(opened, results, weights):
    from lpips import LPIPS

    reference = LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    held = torch.load(weights["alexnet"], weights_only=True)
    reference.net.load_state_dict(
        {name: held[f"features.{name.partition('.')[2]}"] for name in reference.net.state_dict()}
    )
    with torch.no_grad():
        wanted = [reference(2 * each.after - 1, 2 * each.truth - 1).item() for each in results]
    assert opened("lpips").measure(results) == pytest.approx(wanted, abs=1e-6)
    same = [dataclasses.replace(results[0], after=results[0].truth)]
    assert opened("lpips").measure(same) == [0]


@pytest.mark.parametrize("name", NEEDS_TRUTH)
def test_without_a_truth_there_is_a_gap(opened, results, name):
    unknown = [dataclasses.replace(results[0], truth=None), results[1]]
    first, second = opened(name).measure(unknown)
    assert first is None and second is not None


@pytest.mark.parametrize("name", NEEDS_MASK)
def test_without_a_mask_there_is_a_gap(opened, results, name):
    assert opened(name).measure([dataclasses.replace(results[0], mask=torch.zeros(72, 100))]) == [None]


def test_clip_reads_crops_and_words_as_transformers_does(opened, results, weights):
    model = CLIPModel.from_pretrained(weights["clip"]).eval()
    processor = CLIPImageProcessor.from_pretrained(weights["clip"])
    words = CLIPTokenizer.from_pretrained(weights["clip"])(["background", "a field"], padding=True, return_tensors="pt")
    after = results[0].after
    shown = processor(
        images=[to_pil_image((each * 255).round().byte()) for each in (after[:, 20:50, 30:70], after)],
        return_tensors="pt",
    )
    with torch.no_grad():
        cosines = model(**shown, **words).logits_per_image / model.logit_scale.exp()
    assert opened("clip-score").measure(results[:1])[0] == pytest.approx(100 * cosines[0, 0].item(), abs=0.05)
    assert opened("clip-caption").measure(results[:1])[0] == pytest.approx(100 * cosines[1, 1].item(), abs=0.05)
    assert opened("clip-caption").measure([dataclasses.replace(results[0], caption=None)]) == [None]


def test_clip_score_by_hand():
    assert score(torch.tensor([0.6, 0.8]), torch.tensor([1.0, 0.0])) == pytest.approx(60)
    assert score(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 0.0])) == 0


def test_consensus_by_hand():
    """Two embeddings at a right angle: each is half of √2 from their middle."""
    assert deviation(torch.eye(2)).item() == pytest.approx(0.5**0.5)
    assert deviation(torch.ones(3, 4)).item() == 0


def test_consensus_is_of_the_fills_of_several_seeds(opened, results):
    metric = opened("consensus")
    assert metric.kind == "seeds"
    same = [dataclasses.replace(results[0], seed=seed) for seed in range(3)]
    assert metric.measure_seeds(same) == pytest.approx(0, abs=1e-6)
    assert metric.measure_seeds(results) > 0.001
    assert metric.measure_seeds(results[:1]) is None


def test_similarities_of_a_perfect_fill_are_1(opened, results):
    same = [dataclasses.replace(results[0], after=results[0].truth)]
    for name in ("clip-similarity", "dino"):
        assert opened(name).measure(same) == [pytest.approx(1)]
        assert opened(name).measure(results)[0] < 0.999


def test_dino_similarity_is_of_the_class_tokens(opened, results, weights):
    model = ViTModel.from_pretrained(weights["dino"]).eval()
    processor = ViTImageProcessor.from_pretrained(weights["dino"])
    shown = processor(
        images=[to_pil_image((each * 255).round().byte()) for each in (results[0].after, results[0].truth)],
        return_tensors="pt",
    )
    with torch.no_grad():
        after, truth = model(**shown).last_hidden_state[:, 0]
    wanted = F.cosine_similarity(after, truth, dim=0).item()
    assert opened("dino").measure(results[:1])[0] == pytest.approx(wanted, abs=1e-3)


def test_remove_by_hand():
    """Four cells: the hole is the first, whose feature is (1, 0); the others' mean is (2, 1) / 3."""
    features = torch.tensor([[[1.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
    hole = torch.zeros(8, 8, dtype=torch.bool)
    hole[:4, :4] = True
    assert remove_score(features, hole) == pytest.approx(2 / 5**0.5)
    # A cell that the outline crosses counts as around; then none is left inside.
    hole[0, 0] = False
    assert remove_score(features, hole) is None
    assert remove_score(features, torch.ones(8, 8, dtype=torch.bool)) is None


def test_remove_looks_at_a_square_around_the_hole():
    assert square_around((20, 30, 50, 70), 16, 200, 300) == (4, 14, 76, 86)
    # Moved in from the border, and cut where the picture is too small for it.
    assert square_around((0, 280, 20, 300), 16, 200, 300) == (0, 248, 52, 300)
    assert square_around((20, 30, 50, 70), 16, 60, 300) == (0, 14, 60, 86)


def test_remove_is_1_where_sam_sees_the_same_everywhere(opened, results):
    metric = opened("remove")
    assert all(-1 <= value <= 1 for value in metric.measure(results))
    flat = torch.full((3, 72, 100), 0.4)
    spotted = flat.clone()
    spotted[:, 20:50, 30:70] = results[0].after[:, 20:50, 30:70]
    (even,), (odd,) = (metric.measure([dataclasses.replace(results[0], after=each)]) for each in (flat, spotted))
    assert even > odd


def test_sam_features_leave_the_padding_out(opened, results):
    network = opened("remove").network
    assert network.features(results[0].after).shape == (16, 6, 8)
    assert network.features(torch.rand(3, 100, 50)).shape == (16, 8, 4)


def test_segments_have_the_size_of_the_picture(opened, results, monkeypatch):
    network = opened("cfd").sam
    # Random weights find nothing that SAM would call a good segment.
    monkeypatch.setattr(network, "quality", -10.0)
    monkeypatch.setattr(network, "stability", -10.0)
    segments = network.segments(results[0].after)
    assert segments and all(each.shape == (72, 100) and each.dtype == torch.bool for each in segments)


def box(top, left, bottom, right, size=60):
    region = torch.zeros(size, size, dtype=torch.bool)
    region[top:bottom, left:right] = True
    return region


def test_segments_that_repeat_a_larger_one_are_left_out():
    large, nearly, within, apart = box(0, 0, 20, 20), box(0, 0, 19, 19), box(5, 5, 9, 9), box(30, 30, 35, 35)
    crossing = box(10, 10, 30, 30)
    kept = distinct([apart, nearly, within, large, crossing, box(0, 0, 0, 0)])
    assert [int(each.sum()) for each in kept] == [400, 400, 25]


def test_parts_of_cfd_by_hand():
    hole = box(20, 20, 32, 38)
    # A third of 12 rows and of 18 columns on each side.
    assert int(frame_of(hole).sum()) == 20 * 30 - 12 * 18
    assert adjacent(box(0, 0, 5, 5), box(0, 10, 5, 15)) and not adjacent(box(0, 0, 5, 5), box(0, 11, 5, 15))
    picture = torch.rand(3, 60, 60)
    cut, region = cut_out(picture, hole & ~box(20, 20, 21, 21))
    assert cut.shape == (3, 12, 18) and not region[0, 0] and bool((cut[:, 0, 0] == 1).all())
    assert torch.equal(cut[:, 1:], picture[:, 21:32, 20:38])


def test_cfd_adds_invented_objects_by_their_area(opened):
    """Two nested segments, one beside a segment that enters: its distance counts by its share of their area."""
    metric = opened("cfd")
    picture = torch.rand(3, 60, 60, generator=torch.Generator().manual_seed(3))
    hole = box(10, 10, 50, 50)
    alone, beside, entering = box(38, 38, 48, 48), box(12, 12, 16, 37), box(0, 18, 20, 30)
    bare = metric.deviation(picture, hole, [])
    assert bare == pytest.approx(metric.distance((picture, hole), (picture, frame_of(hole))))
    assert metric.deviation(picture, hole, [alone, entering & ~hole]) == bare
    around = metric.distance(cut_out(picture, beside), cut_out(picture, entering & hole))
    assert around > 0
    assert metric.deviation(picture, hole, [alone, beside, entering]) == pytest.approx(bare + around / 2)


def test_cfd_is_the_mean_over_the_parts_of_the_mask(opened, results):
    metric = opened("cfd")
    first, second = torch.zeros(72, 100), torch.zeros(72, 100)
    first[5:25, 5:30], second[40:60, 60:90] = 1, 1
    values = metric.measure([dataclasses.replace(results[0], mask=mask) for mask in (first, second, first + second)])
    assert values[2] == pytest.approx((values[0] + values[1]) / 2, abs=1e-5)

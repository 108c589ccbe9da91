"""FID, local FID, KID and CMMD against other ways to the same numbers."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg
import torch
from torchvision.transforms.functional import to_pil_image
from transformers import CLIPImageProcessor, CLIPModel

from unclutter.training.evaluation.metrics.inception import Inception, frechet_distance
from unclutter.training.evaluation.metrics.maximum_mean_discrepancy import cmmd


def features(count, width, shift=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator)
    return torch.randn(count, width, generator=generator) @ mixing + shift


def frechet_by_matrix_root(real, fake):
    """Heusel et al.'s formula, with SciPy's root of a matrix."""
    real, fake = real.double().numpy(), fake.double().numpy()
    first, second = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    root = scipy.linalg.sqrtm(first @ second).real
    return ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)


@pytest.mark.parametrize("count", [40, 12])
def test_the_frechet_distance_is_its_formula_for_more_and_for_fewer_pictures_than_features(count):
    real, fake = features(count, 24), features(count + 5, 24, shift=0.3, seed=1)
    # The root of a singular product is known to about 1e-7 of its largest value only.
    assert frechet_distance(real, fake).item() == pytest.approx(frechet_by_matrix_root(real, fake), rel=1e-4)
    assert frechet_distance(real, real).item() == pytest.approx(0, abs=1e-4)


def test_the_frechet_distance_by_hand():
    """Variances 2 and 8 around means 0 and 3: 9 + (√2 - √8)² = 11."""
    real, fake = torch.tensor([[-1.0], [1.0]]), torch.tensor([[1.0], [5.0]])
    assert frechet_distance(real, fake).item() == pytest.approx(11)
    # The same in one of two dimensions, where there are as few pictures as features and fewer.
    flat = [torch.cat([each, torch.zeros(2, 2)], dim=1) for each in (real, fake)]
    assert frechet_distance(*flat).item() == pytest.approx(11)


def test_inception_is_that_of_torch_fidelity(weights):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    picture = torch.rand(3, 299, 299, generator=torch.Generator().manual_seed(0))
    reference = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(weights["inception"]))
    wanted = reference((picture * 255).round().to(torch.uint8)[None])[0][0]
    torch.testing.assert_close(Inception(weights["inception"], "cpu").features(picture), wanted, rtol=1e-4, atol=1e-4)


def test_fid_and_kid_compare_the_truths_with_the_fills(opened, results):
    fid, kid = opened("fid"), opened("kid")
    real = torch.stack([fid.network.features(result.truth) for result in results])
    fake = torch.stack([fid.network.features(result.after) for result in results])
    assert fid.measure_set(results) == pytest.approx(frechet_distance(real, fake).item())
    assert fid.measure_set(results) > 0

    def kernel(x, y):
        return (x.double() @ y.double().T / 2048 + 1) ** 3

    others = ~torch.eye(3, dtype=torch.bool)
    direct = kernel(real, real)[others].mean() + kernel(fake, fake)[others].mean() - 2 * kernel(real, fake).mean()
    assert kid.measure_set(results) == pytest.approx(direct.item(), abs=1e-5)
    assert fid.measure_set(results[:1]) is None and kid.measure_set(results[:1]) is None


def test_a_picture_without_a_truth_is_compared_with_what_was_there(opened, results):
    fid = opened("fid")
    unknown = [dataclasses.replace(result, truth=None) for result in results]
    known = [dataclasses.replace(result, truth=result.before) for result in results]
    assert fid.measure_set(unknown) == fid.measure_set(known) != fid.measure_set(results)


def test_local_fid_sees_the_box_around_the_mask_alone(opened, results):
    fid, local = opened("fid"), opened("local-fid")
    value = local.measure_set(results)
    beyond = []
    for result in results:
        after = result.after.clone()
        after[:, :20] = 0
        beyond.append(dataclasses.replace(result, after=after))
    assert local.measure_set(beyond) == value and fid.measure_set(beyond) != fid.measure_set(results)
    crops = [
        dataclasses.replace(
            result,
            **{name: getattr(result, name)[..., 20:50, 30:70] for name in ("before", "after", "mask", "truth")},
        )
        for result in results
    ]
    assert value == pytest.approx(fid.measure_set(crops), abs=1e-6)
    without = [dataclasses.replace(result, mask=torch.zeros(72, 100)) for result in results]
    assert local.measure_set(without) is None


def test_cmmd_by_hand_and_by_all_pairs():
    """Embeddings 1 and 0 apart by 1: 1000 · (1 + 1 - 2 e^(-1/200))."""
    one = torch.tensor([[1.0, 0.0]])
    assert cmmd(one, torch.zeros(1, 2)).item() == pytest.approx(2000 * (1 - np.exp(-1 / 200)))
    real, fake = features(5, 8).numpy(), features(7, 8, shift=1.0, seed=1).numpy()

    def mean_kernel(x, y):
        return np.mean([np.exp(-((a - b) ** 2).sum() / 200) for a in x for b in y])

    direct = 1000 * (mean_kernel(real, real) + mean_kernel(fake, fake) - 2 * mean_kernel(real, fake))
    assert cmmd(torch.from_numpy(real), torch.from_numpy(fake)).item() == pytest.approx(direct, rel=1e-5)


def test_cmmd_compares_the_truths_with_the_fills_at_336_pixels_a_network_of_its_own(opened, results, weights):
    metric = opened("cmmd")
    model = CLIPModel.from_pretrained(weights["clip-336"])
    processor = CLIPImageProcessor.from_pretrained(weights["clip-336"])

    def embeddings(pictures):
        shown = processor(images=[to_pil_image((each * 255).round().byte()) for each in pictures], return_tensors="pt")
        tokens = {"input_ids": torch.tensor([[49406, 49407]])}
        return model(**shown, **tokens).image_embeds

    with torch.no_grad():
        wanted = cmmd(*(embeddings([getattr(each, name) for each in results]) for name in ("truth", "after")))
    assert metric.measure_set(results) == pytest.approx(wanted.item(), rel=1e-2)
    assert metric.measure_set(results[:1]) is None

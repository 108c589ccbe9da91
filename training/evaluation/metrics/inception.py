"""Inception v3 and the metrics that compare what it sees in two sets of pictures: FID, local FID and KID."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3
from torchmetrics.image.kid import KernelInceptionDistance

from ...base_models.weights import read_weights
from .crops import box_of, crop
from .facts import MetricFacts
from .metric import Metric
from .networks import DOWNLOAD
from .result import Result

FEATURES = 2048


class Inception:
    """Features of pictures, each computed once: truths are the same for every method, and FID and KID see the same."""

    def __init__(self, path: Path, device: torch.device | str) -> None:
        """Load the weights of torch-fidelity's file, or download it.

        Raises:
            ValueError, OSError: the file holds other weights, or cannot be had.
        """
        source = None
        if path != DOWNLOAD:
            # torch-fidelity unpickles whatever a file holds; it is given tensors alone.
            source = io.BytesIO()
            torch.save(read_weights(path), source)
            source.seek(0)
        try:
            # Their annotation knows paths only, and torch.load reads both.
            network = NoTrainInceptionV3("inception-v3-compat", [str(FEATURES)], source)  # pyright: ignore
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path.name} does not hold the Inception v3 of torch-fidelity ({reason})") from None
        self.network = network.to(device)
        self.device = device
        self.known: dict[bytes, Tensor] = {}

    @torch.inference_mode()
    def features(self, picture: Tensor) -> Tensor:
        """Features [2048] of a picture [3, H, W] in 0..1, which it sees in 8 bits and at 299 × 299 pixels."""
        seen = (picture * 255).round().to(torch.uint8).contiguous()
        digest = hashlib.blake2b(seen.numpy().tobytes(), digest_size=16, key=str(tuple(seen.shape)).encode()).digest()
        if digest not in self.known:
            self.known[digest] = self.network(seen[None].to(self.device))[0].cpu()
        return self.known[digest]


class Fid(Metric):
    """FID (Heusel et al. 2017) between the method's pictures and the truths; None for fewer than two pictures.

    Where a truth is not known the picture with the object is taken, as Attentive Eraser and LRNR do on OpenImages.
    """

    def __init__(self, facts: MetricFacts, network: Inception) -> None:
        super().__init__(facts)
        self.network = network

    def measure_set(self, results: Sequence[Result]) -> float | None:
        pairs = [pair for result in results if (pair := self.pair(result)) is not None]
        if len(pairs) < 2:
            return None
        real, fake = (torch.stack(each) for each in zip(*pairs, strict=True))
        return frechet_distance(real, fake).item()

    def pair(self, result: Result) -> tuple[Tensor, Tensor] | None:
        """Features of the reference and of the method's picture."""
        return self.network.features(result.reference), self.network.features(result.after)


class LocalFid(Fid):
    """FID of the crops to the box around what was to go (Xie et al. 2023). Pictures without a mask do not count."""

    def pair(self, result: Result) -> tuple[Tensor, Tensor] | None:
        if (box := box_of(result.hole)) is None:
            return None
        return self.network.features(crop(result.reference, box)), self.network.features(crop(result.after, box))


class Kid(Metric):
    """KID (Bińkowski et al. 2018): the unbiased squared MMD of a cubic kernel; None for fewer than two pictures.

    Of more than 1,000 pictures it is the mean over 100 random subsets of 1,000, as its authors report it.
    """

    SUBSET, SUBSETS = 1000, 100

    def __init__(self, facts: MetricFacts, network: Inception) -> None:
        super().__init__(facts)
        self.network = network

    def measure_set(self, results: Sequence[Result]) -> float | None:
        size = min(self.SUBSET, len(results))
        if size < 2:
            return None
        with warnings.catch_warnings():
            # It warns that it keeps all features, 8 kB a picture.
            warnings.simplefilter("ignore")
            distance = KernelInceptionDistance(
                feature=_given(FEATURES), subset_size=size, subsets=self.SUBSETS if len(results) > size else 1
            )
        for result in results:
            distance.update(self.network.features(result.reference)[None], real=True)
            distance.update(self.network.features(result.after)[None], real=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return distance.compute()[0].item()


def frechet_distance(real: Tensor, fake: Tensor) -> Tensor:
    """The Fréchet distance of two normal distributions with the means and covariances of features [N, D] and [M, D].

    torchmetrics takes the roots of the eigenvalues of the product of both covariances, [D, D]. Where there are fewer
    pictures than features, the same numbers are the singular values of the product of both sets of centred features,
    [N, M], which takes milliseconds in place of half a minute.
    """
    if len(real) >= real.shape[1]:
        distance = FrechetInceptionDistance(feature=_given(real.shape[1]))
        distance.update(real, real=True)
        distance.update(fake, real=False)
        return distance.compute()
    real, fake = real.double(), fake.double()
    centred = [(each - each.mean(dim=0)) / (len(each) - 1) ** 0.5 for each in (real, fake)]
    spread = sum(each.square().sum() for each in centred) - 2 * torch.linalg.svdvals(centred[0] @ centred[1].T).sum()
    return (real.mean(dim=0) - fake.mean(dim=0)).square().sum() + spread


def _given(width: int) -> nn.Module:
    """A network that is given features and passes them on: torchmetrics then has nothing to do but the distance."""
    network = nn.Identity()
    network.num_features = width  # pyright: ignore[reportArgumentType]
    return network

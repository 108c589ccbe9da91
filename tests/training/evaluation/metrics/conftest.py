"""Pictures to measure, and tiny networks loaded as the real ones are."""

import pytest
import torch

from unclutter.tests.training.evaluation.metrics import tiny
from unclutter.training.evaluation.metrics.facts import METRICS
from unclutter.training.evaluation.metrics.opening import open_metrics
from unclutter.training.evaluation.metrics.result import Result


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Paths of all networks, as `--weights` takes them."""
    folder = tmp_path_factory.mktemp("networks")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = {name: getattr(tiny, name)(folder / name) for name in ("clip", "dino", "dinov2", "sam")}
        made |= {name: getattr(tiny, name)(folder / f"{name}.pth") for name in ("alexnet", "inception")}
        made["clip-336"] = tiny.clip(folder / "clip-336", size=40)
    return made


@pytest.fixture(scope="session")
def opened(weights):
    """Metrics by name, with the tiny networks, each of which is loaded once."""
    found, gaps = open_metrics([name for name, facts in METRICS.items() if not facts.judged], weights)
    assert not gaps
    return {metric.name: metric for metric in found}.__getitem__


@pytest.fixture
def results():
    """Three pictures of noise with a truth and a caption."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(72, 100)
    mask[20:50, 30:70] = 1

    def noise():
        return torch.rand(3, 72, 100, generator=generator)

    return [
        Result(noise(), noise(), mask, noise(), caption="a field", name=f"picture {seed}", seed=seed)
        for seed in range(3)
    ]

"""The sheet of samples never takes longer than its share of the training, by a clock that each step moves on."""

from types import SimpleNamespace

import pytest
import torch

from unclutter.training.recipes import samples

BATCH = {"source": torch.rand(4, 3, 8, 8), "target": torch.rand(4, 3, 8, 8), "mask": torch.zeros(4, 8, 8)}


class Sampler:
    """Samples in 20 steps, each of a second a picture; from the given step on, of ten."""

    mask_key = "mask"

    def __init__(self, slow_from=20):
        self.seconds, self.slow_from, self.batches = 0.0, slow_from, []

    def erase(self, source, mask, progress):
        self.batches.append(len(source))
        for step in progress(range(20)):
            self.seconds += len(source) * (1 if step < self.slow_from else 10)
        return source


def draw(monkeypatch, trained, **how):
    sampler = Sampler(**how)
    monkeypatch.setattr(samples, "time", SimpleNamespace(monotonic=lambda: sampler.seconds))
    return samples.sample_rows(sampler, BATCH, trained), sampler


@pytest.mark.parametrize(
    ("trained", "batches", "rows"),
    [(10_000, [4], 4), (801, [4], 4), (500, [4, 2], 2), (250, [4, 1], 1), (100, [4], 0)],
)
def test_as_many_pictures_in_one_batch_as_a_tenth_of_the_training_allows(monkeypatch, trained, batches, rows):
    made, sampler = draw(monkeypatch, trained)
    assert (sampler.batches, len(made)) == (batches, rows)
    assert sampler.seconds <= trained / 10
    assert [name for row in made for name, _ in row] == ["source", "mask", "result", "target"] * rows


def test_steps_that_become_slower_are_stopped_in_time(monkeypatch):
    made, sampler = draw(monkeypatch, 1000, slow_from=8)
    assert len(made) < 4 and sampler.seconds <= 100


def test_a_training_of_seconds_has_a_sheet_too(monkeypatch):
    monkeypatch.setattr(samples, "LEAST", 80.0)
    made, _ = draw(monkeypatch, 1)
    assert len(made) == 4

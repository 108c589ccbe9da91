import torch

from unclutter.training.images.holes import random_masks


def test_random_masks_leave_something_and_take_something():
    share = random_masks(64, 64, torch.Generator().manual_seed(0)).mean(dim=(1, 2))
    assert (share > 0.001).float().mean() > 0.95 and share.max() < 0.9

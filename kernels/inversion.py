"""A picture traced back to the noise that it would be sampled from (DDIM inversion, arXiv 2010.02502 §4.3), with which
Attentive Eraser's deterministic pipeline begins (DIP, after DiffEdit, arXiv 2210.11427)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor


def invert(
    denoise: Callable[[Tensor, int], Tensor],
    clean: Tensor,
    sigmas: Sequence[float],
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[Tensor]:
    """The latents of a clean one on its way up the noise schedule.

    Each step takes the noise that the network predicts for the level above: x(σ') = x(σ) + (σ' − σ) · ε(x(σ), σ'). Deterministic
    Euler steps down the same schedule lead back to `clean`, but for the difference of ε between two levels.

    Args:
        denoise: (noisy latent [B, C, h, w] with noise of `sigmas[index]`, index) -> the clean latent that the network
            predicts; a latent is the clean one plus σ times noise.
        clean: [B, C, h, w].
        sigmas: the schedule from the strongest noise to 0, one more than there are steps.

    Returns:
        A latent [B, C, h, w] for each of `sigmas`, the first with the strongest noise; the last is `clean`.
    """
    path = [clean]
    for index in progress(range(len(sigmas) - 2, -1, -1)):
        sigma, below, x = sigmas[index], sigmas[index + 1], path[-1]
        # The network takes x as noisy as `below`, though it is told the level above: it divides by √(σ² + 1).
        told = x * ((sigma**2 + 1) / (below**2 + 1)) ** 0.5
        epsilon = (told - denoise(told, index)) / sigma
        path.append(x + (sigma - below) * epsilon)
    return path[::-1]

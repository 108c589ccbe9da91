"""Human Morphology Guidance: what poses, body parts and neighbours look like, as tokens of a conditioning (MILD, §3.2).

The paper concatenates these tokens to the text's. Even tokens of zeros would then take their share of each softmax, so
a module that has learned nothing would change the picture. Here they travel appended to the conditioning, but
cross-attention reads them apart and adds what it reads (`morphology_attention`), as IP-Adapter does: the projection to
values has no bias, so tokens of zeros add exactly nothing. That is also what an absent input becomes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import Attention
from .vocabulary import LIP


class HumanMorphology(nn.Module):
    """Pose picture, parsing map and the mask of the others, each as a grid of tokens.

    The last layers start at zero, and so do all tokens.

    Args:
        width: of the conditioning, 2048 for SDXL.
        labels: of the parsing map, the background's included.
    """

    def __init__(self, width: int, labels: int = LIP) -> None:
        super().__init__()
        self.width, self.labels = width, labels
        self.pose = GridEncoder(_stack(3), side=128, channels=128, grid=8, width=width)
        self.parsing = GridEncoder(_stack(labels), side=128, channels=128, grid=8, width=width)
        shallow = nn.Sequential(nn.Conv2d(1, 64, 8, stride=8), nn.SiLU())
        self.others = GridEncoder(shallow, side=32, channels=64, grid=4, width=width)

    @property
    def count(self) -> int:
        """Tokens of one row: 64 of the pose, 64 of the parsing, 16 of the mask."""
        return self.pose.count + self.parsing.count + self.others.count

    def forward(self, others: Tensor, pose: Tensor | None = None, parsing: Tensor | None = None) -> Tensor:
        """The tokens of N instances; sizes of the three inputs may differ.

        Args:
            others: [N, H, W] in 0..1, for each instance the mask of all others (`layers.context_masks`).
            pose: [N or 1, 3, H, W] in 0..1, a rendered pose; None or black where there is none.
            parsing: [N or 1, labels, H, W] of 0 and 1 (`parsing_one_hot`); None or all label 0 where there is none.

        Returns:
            [N, count, width].

        Raises:
            ValueError: the pose or the parsing has other channels.
        """
        parts = []
        for name, encoder, picture, channels in (
            ("pose", self.pose, pose, 3),
            ("parsing", self.parsing, parsing, self.labels),
        ):
            if picture is None:
                parts.append(others.new_zeros(len(others), encoder.count, self.width))
                continue
            if picture.ndim != 4 or picture.shape[1] != channels or len(picture) not in (1, len(others)):
                raise ValueError(
                    f"The {name} is {list(picture.shape)}, expected [1 or {len(others)}, {channels}, H, W]: give one for "
                    "the picture, or one for each instance."
                )
            # A detector that finds nobody gives a black picture, which is as good as none. Label 0 is nobody.
            found = picture[:, name == "parsing" :].flatten(1).any(dim=1)
            parts.append((encoder(picture) * found[:, None, None]).expand(len(others), -1, -1))
        return torch.cat([*parts, self.others(others[:, None])], dim=1)


class GridEncoder(nn.Module):
    """A picture of any size as grid² tokens that know their place.

    Args:
        layers: turns [B, C, side, side] into [B, channels, grid, grid].
    """

    def __init__(self, layers: nn.Module, side: int, channels: int, grid: int, width: int) -> None:
        super().__init__()
        self.layers, self.side, self.count = layers, side, grid * grid
        self.position = nn.Parameter(0.02 * torch.randn(self.count, channels))
        self.project = nn.Linear(channels, width)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, picture: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, count, width]."""
        features = self.layers(F.adaptive_avg_pool2d(picture.to(self.position), self.side))
        return self.project(rearrange(features, "b c h w -> b (h w) c") + self.position)


def row_tokens(
    module: HumanMorphology, others: Tensor, pose: Tensor | None, parsing: Tensor | None, background: bool
) -> Tensor | None:
    """The tokens of people and, after them, of the background: [N + 1, count, width]; None where all are null.

    Args:
        others, pose, parsing: as for `HumanMorphology`, of N people, of whom there may be none.
        background: whether the background gets pose and parsing too, those of everyone; else its tokens are null.
    """
    parts = [module(others, pose, parsing)] if len(others) else []
    if background:
        everyone = None if pose is None else pose.amax(dim=0, keepdim=True)
        tokens = module(others.new_zeros(1, *others.shape[-2:]), everyone, parsing)
        parts.append(
            torch.cat([tokens[:, : -module.others.count], torch.zeros_like(tokens[:, -module.others.count :])], 1)
        )
    elif parts:
        parts.append(torch.zeros_like(parts[0][:1]))
    return torch.cat(parts) if parts else None


def morphology_from_state(state: Mapping[str, Tensor]) -> HumanMorphology:
    """The module whose `state_dict` this is; its sizes are those of the tensors.

    Raises:
        ValueError: it is the state of something else.
    """
    try:
        module = HumanMorphology(state["pose.project.weight"].shape[0], state["parsing.layers.0.weight"].shape[1])
        module.load_state_dict(state)
    except (KeyError, IndexError, RuntimeError) as error:
        raise ValueError(
            f"{len(state)} tensors are no Human Morphology Guidance ({str(error).splitlines()[-1].strip()}), expected the "
            f"{len(HumanMorphology(1).state_dict())} of its encoders: get the file again."
        ) from None
    return module


def parsing_one_hot(parsing: Tensor, labels: int = LIP) -> Tensor:
    """A map of labels [B, H, W], of any dtype, as [B, labels, H, W] of 0 and 1.

    Raises:
        ValueError: a label is none of 0 to labels - 1.
    """
    found = parsing.round().long()
    if found.min() < 0 or found.max() >= labels:
        raise ValueError(
            f"The parsing map holds labels {int(found.min())} to {int(found.max())}, expected 0 to {labels - 1}: give a map of "
            "label numbers, not of colours."
        )
    return (found[:, None] == torch.arange(labels, device=found.device)[:, None, None]).float()


def morphology_attention(q: Tensor, k: Tensor, v: Tensor, tokens: int, attention: Attention) -> Tensor:
    """Cross-attention whose last keys are morphology tokens: text and morphology are read apart, and added.

    Args:
        q: [B, heads, N, d].
        k, v: [B, heads, text + tokens, d].
        tokens: how many of the keys are morphology tokens; 0 for none.
        attention: the host's own, called as `attention(q, k, v)`.

    Returns:
        [B, heads, N, d].
    """
    if not tokens:
        return attention(q, k, v)
    text = k.shape[2] - tokens
    return attention(q, k[:, :, :text], v[:, :, :text]) + attention(q, k[:, :, text:], v[:, :, text:])


def _stack(inputs: int) -> nn.Sequential:
    """Four convolutions that halve: [B, inputs, 128, 128] -> [B, 128, 8, 8]."""
    layers: list[nn.Module] = []
    for before, after in ((inputs, 32), (32, 64), (64, 128), (128, 128)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU()]
    return nn.Sequential(*layers)

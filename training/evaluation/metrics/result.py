"""A filled picture, as every metric is given it, and its regions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Result:
    """One picture that a method filled; all tensors are fp32 in 0..1 on the CPU, of one size.

    Attributes:
        before: [3, H, W], the picture with the object.
        after: [3, H, W], the method's picture.
        mask: [H, W], what was to go.
        truth: [3, H, W], the picture without the object, where it is known.
        effects: [H, W], shadow and reflection of the object outside of the mask, where they are known.
        caption: the true background in words.
        name: of the picture.
        seed: of the method's noise.
    """

    before: Tensor
    after: Tensor
    mask: Tensor
    truth: Tensor | None = None
    effects: Tensor | None = None
    caption: str | None = None
    name: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        height, width = self.mask.shape
        sizes = {"before": self.before, "after": self.after, "truth": self.truth}
        for name, picture in sizes.items():
            if picture is not None and picture.shape != (3, height, width):
                raise ValueError(
                    f"{name} of {self.name or 'a picture'} is {list(picture.shape)} and its mask [{height}, {width}]: "
                    f"expected [3, {height}, {width}]."
                )
        if self.effects is not None and self.effects.shape != self.mask.shape:
            raise ValueError(
                f"effects of {self.name or 'a picture'} is {list(self.effects.shape)}, expected [{height}, {width}]."
            )

    @property
    def hole(self) -> Tensor:
        """[H, W] bool: pixels that are more than half marked."""
        return self.mask >= 0.5

    @property
    def beyond(self) -> Tensor | None:
        """[H, W] bool: pixels of shadow and reflection that the mask does not mark; None where they are not known."""
        return None if self.effects is None else (self.effects >= 0.5) & ~self.hole

    @property
    def untouched(self) -> Tensor:
        """[H, W] bool: pixels that the object does not change, so far as is known, and that no soft border reaches."""
        return self.mask == 0 if self.effects is None else (self.mask == 0) & (self.effects == 0)

    @property
    def reference(self) -> Tensor:
        """The truth where it is known, else the picture with the object, as the papers compare on OpenImages."""
        return self.before if self.truth is None else self.truth

"""The papers' instructions to raters, and the answers that they allow. Imports no PyTorch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

ProtocolName = Literal["lrnr", "mild"]
SUCCESS = "success"
LEAST, MOST = 1, 10


@dataclass(frozen=True)
class Protocol:
    """The instruction that raters get, and the questions they are asked.

    Attributes:
        instructions: for people and models alike.
        scores: names of scores from 1 to 10 that are asked of a model beside the verdict.
        overall: people give one score from 1 to 10 for all of `scores`.
        shows: what each picture is that a rater sees, in their order: "before", "marked" (the object in red), "after".
        source: the paper.
    """

    instructions: str
    scores: tuple[str, ...]
    overall: bool
    shows: tuple[str, ...]
    source: str

    def question(self) -> str:
        """All that a model is told with the pictures."""
        names = {
            "before": "the original picture",
            "marked": "the original picture with the object to be removed in red",
            "after": "the result of the removal",
        }
        pictures = ", ".join(f"picture {number} is {names[each]}" for number, each in enumerate(self.shows, start=1))
        keys = ", ".join(
            [*(f'"{name}": <integer {LEAST} to {MOST}>' for name in self.scores), '"success": <true or false>']
        )
        return (
            f"{self.instructions}\n\nOf the pictures given, {pictures}.\n\nAnswer with one JSON object and nothing else: "
            f"{{{keys}}}"
        )

    def parse(self, answer: str) -> dict[str, int | bool] | None:
        """The scores and the verdict of an answer, or None where it is not exactly what was asked for.

        A fence of Markdown around the object is allowed, as models put it there; words are not.
        """
        text = answer.strip()
        if text.startswith("```") and text.endswith("```"):
            text = text[3:-3].removeprefix("json").strip()
        try:
            found = json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or set(found) != {*self.scores, SUCCESS} or not isinstance(found[SUCCESS], bool):
            return None
        scores = [found[name] for name in self.scores]
        return found if all(type(score) is int and LEAST <= score <= MOST for score in scores) else None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


PROTOCOLS: dict[str, Protocol] = {
    "lrnr": Protocol(
        instructions=(
            "You will be shown a series of images. For each example, you will see the original image with a masked object "
            "and the result after an object removal algorithm has been applied. Your task is to evaluate whether the object "
            "removal was a 'Success' or a 'Failure'.\n\n"
            "An output should be marked as a 'Success' only if it meets both of the following criteria:\n"
            "1. Complete and Clean Removal: The target object specified by the mask must be entirely gone. There should be "
            'no residual artifacts, "ghosts," or fragments of the original object remaining in the inpainted region.\n'
            "2. Plausible and High-Quality Inpainting: The filled area must be semantically coherent and blend seamlessly "
            "with the surrounding background. The generated content should be plausible, realistic, and free of visual "
            "distortions, such as blurriness, unnatural textures, or color inconsistencies."
        ),
        scores=(),
        overall=False,
        shows=("before", "marked", "after"),
        source="LRNR, appendix A.2, word for word",
    ),
    "mild": Protocol(
        instructions=(
            "Compare the original image, in which the object is present, with the edited result side by side, and judge the "
            "visual plausibility of the removal. There is no ground truth. Rate the result on each of four criteria from 1 "
            "(worst) to 10 (best):\n"
            "- Naturalness: Whether the filled region appears visually plausible and free from obvious artifacts.\n"
            "- Semantic Consistency: Whether the inpainted content aligns semantically with the surrounding scene.\n"
            "- Visual Harmony: Whether lighting, textures, and shadows in the edited region are consistent with the rest of "
            "the image.\n"
            "- Artifact Suppression: Whether the result avoids seams, blurs, distortions, or other visual artifacts.\n"
            "Then decide whether the removal is successful: a successful result should appear seamless, contextually "
            "appropriate, and free of noticeable flaws."
        ),
        scores=("naturalness", "semantic_consistency", "visual_harmony", "artifact_suppression"),
        overall=True,
        shows=("before", "marked", "after"),
        source="MILD, appendix D.4: its criteria and verdict word for word; the prompt around them is not published",
    ),
}

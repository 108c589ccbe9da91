"""The things that an instruction names, and the object in a box: by networks of transformers, or from files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..images.files import read_mask
from .differences import Corners, Rejection
from .edits import input_at_fault


class Detector(Protocol):
    def boxes(self, name: str, picture: Tensor, phrase: str) -> list[tuple[Corners, float]]:
        """The places where pair `name`'s picture [1, 3, H, W] in 0..1 shows what the phrase names: boxes with scores in 0..1."""
        ...


class Segmenter(Protocol):
    def masks(self, name: str, picture: Tensor, boxes: list[Corners]) -> np.ndarray:
        """The object in each box of pair `name`'s picture [1, 3, H, W] in 0..1: bool [boxes, H, W]."""
        ...


class GroundingDINO:
    """Grounding DINO or MM-Grounding-DINO; the whole instruction is one phrase.

    Args:
        model: id on the Hugging Face hub, which is downloaded once, or a folder with the model.
    """

    def __init__(self, model: str, device: str) -> None:
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        with loading("detector", model):
            self.processor = AutoProcessor.from_pretrained(model)
            self.network = AutoModelForZeroShotObjectDetection.from_pretrained(model).to(device).eval()

    @torch.inference_mode()
    def boxes(self, name: str, picture: Tensor, phrase: str) -> list[tuple[Corners, float]]:
        # It was trained on phrases in lower case with a full stop.
        text = f"{phrase.strip().rstrip('.').lower()}."
        inputs = self.processor(images=_bytes(picture), text=text, return_tensors="pt").to(self.network.device)
        outputs = self.network(**inputs)
        # A phrase's score is that of its best token.
        scores = outputs.logits[0].sigmoid().amax(dim=-1).tolist()
        height, width = picture.shape[-2:]
        found = []
        for (x, y, w, h), score in zip(outputs.pred_boxes[0].tolist(), scores, strict=True):
            box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
            found.append((box, score))
        return found


class SegmentAnything:
    """SAM 2, or SAM.

    Args:
        model: id on the Hugging Face hub, which is downloaded once, or a folder with the model.
    """

    def __init__(self, model: str, device: str) -> None:
        from transformers import AutoConfig, Sam2Model, Sam2Processor, SamModel, SamProcessor

        with loading("segmenter", model):
            kind = AutoConfig.from_pretrained(model).model_type
        # The hub's SAM 2 models call themselves sam2_video; the part for single pictures loads from them.
        second = (Sam2Model, Sam2Processor)
        kinds = {"sam": (SamModel, SamProcessor), "sam2": second, "sam2_video": second}
        if kind not in kinds:
            raise ValueError(
                f"{model} holds a model of the kind {kind}, expected SAM 2 or SAM ({', '.join(kinds)}): give another segmenter."
            )
        network, processor = kinds[kind]
        with loading("segmenter", model):
            self.processor = processor.from_pretrained(model)
            self.network = network.from_pretrained(model).to(device).eval()

    @torch.inference_mode()
    def masks(self, name: str, picture: Tensor, boxes: list[Corners]) -> np.ndarray:
        corners = [[[float(side) for side in box] for box in boxes]]
        inputs = self.processor(images=_bytes(picture), input_boxes=corners, return_tensors="pt")
        sizes = [inputs.pop(key) for key in ("original_sizes", "reshaped_input_sizes") if key in inputs]
        inputs = inputs.to(self.network.device, torch.float32)
        outputs = self.network(**inputs, multimask_output=False)
        masks = self.processor.post_process_masks(outputs.pred_masks.cpu(), *sizes)[0]
        return masks[:, 0].numpy()


class BoxesFromFile:
    """Boxes in a JSONL file: an object a line with `name` and `boxes`, each [left, top, right, bottom] in pixels and,
    if there is one, its score."""

    def __init__(self, path: Path) -> None:
        self.found: dict[str, list[tuple[Corners, float]]] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                self.found[str(entry["name"])] = [
                    ((float(left), float(top), float(right), float(bottom)), float(score[0]) if score else 1.0)
                    for left, top, right, bottom, *score in entry["boxes"]
                ]
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(
                    f"{path}, line {number} cannot be used ({error!r}): expected "
                    '{"name": "...", "boxes": [[left, top, right, bottom, score], ...]}.'
                ) from None

    def boxes(self, name: str, picture: Tensor, phrase: str) -> list[tuple[Corners, float]]:
        return self.found.get(name, [])


class MasksFromFolder:
    """Objects' masks in a folder, NAME.png white where the object is; cut to the box that is asked for."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder {folder}: give a folder of masks NAME.png.")
        self.folder = folder

    def masks(self, name: str, picture: Tensor, boxes: list[Corners]) -> np.ndarray:
        with input_at_fault():
            mask = read_mask(self.folder / f"{name}.png")[0].numpy() > 0.5
        if mask.shape != tuple(picture.shape[-2:]):
            height, width = picture.shape[-2:]
            raise Rejection(
                "input", f"its mask is {mask.shape[1]}x{mask.shape[0]}, expected {width}x{height} as its picture"
            )
        masks = np.zeros((len(boxes), *mask.shape), bool)
        for inside, (left, top, right, bottom) in zip(masks, boxes, strict=True):
            left, top, right, bottom = (max(round(side), 0) for side in (left, top, right, bottom))
            window = slice(top, bottom), slice(left, right)
            inside[window] = mask[window]
        return masks


@contextmanager
def loading(what: str, model: str) -> Iterator[None]:
    """Say in one sentence that a model's files are not to be had."""
    from transformers.utils.hub import cached_file

    try:
        # One file first: without a network, each is tried several times.
        if cached_file(model, "config.json") is None:
            raise FileNotFoundError(f"{model} has no config.json")
        yield
    except OSError as error:
        if Path(model).is_dir():
            raise OSError(f"The {what}'s folder {model} lacks files of the model: download it again.") from error
        raise OSError(
            f"The {what} {model} is not in the cache, and the hub cannot be reached or does not have it: give a folder with "
            "the model."
        ) from error


def _bytes(picture: Tensor) -> np.ndarray:
    return (picture[0].permute(1, 2, 0) * 255).round().byte().numpy()

"""A vision-language model of transformers, from a folder."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

WORDS = 128
"""Tokens of the longest answer."""


class LocalModel:
    """A model such as Qwen2.5-VL, LLaVA or Gemma 3, as transformers saves it.

    Raises:
        ConnectionError: the folder holds no such model.
    """

    def __init__(self, folder: Path, device: str, temperature: float) -> None:
        try:
            self.processor = AutoProcessor.from_pretrained(str(folder.resolve()), local_files_only=True)
            model = AutoModelForImageTextToText.from_pretrained(
                str(folder.resolve()), local_files_only=True, dtype="auto"
            )
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise ConnectionError(
                f"{folder} holds no vision-language model that transformers can load ({reason}): give another folder."
            ) from None
        self.model = model.to(device).eval()
        self.temperature = temperature
        config = (folder / "config.json").read_bytes()
        self.name = f"{folder.name} {hashlib.blake2b(config, digest_size=8).hexdigest()}"
        """Tells this model from others in the cache."""

    @torch.inference_mode()
    def answer(self, question: str, pictures: Sequence[bytes]) -> str:
        """The answer of the model to a question about pictures, each a PNG file."""
        shown = [Image.open(io.BytesIO(each)).convert("RGB") for each in pictures]
        content = [*({"type": "image", "image": each} for each in shown), {"type": "text", "text": question}]
        inputs = self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self.model.device, dtype=self.model.dtype)
        draws = {"do_sample": True, "temperature": self.temperature} if self.temperature else {"do_sample": False}
        made = self.model.generate(**inputs, **draws, max_new_tokens=WORDS)
        return self.processor.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]

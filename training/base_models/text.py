"""Prompts and the text encoders of the SD family, with a learned removal prompt among the words (LRNR)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...adapters.methods import ENHANCERS

REMOVAL = "<removal>"
"""Stands for the vectors of the removal prompt in a text."""
KEPT_PROMPTS = 64


@dataclass(frozen=True)
class Prompt:
    """Encoded text: `context` [B, tokens, d], and what else the network's call needs (SDXL's pooled text, sizes)."""

    context: Tensor
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TextEncoder:
    """A CLIP text encoder under the name that its vectors have in an embedding file: clip_l, clip_g or clip_h."""

    name: str
    tokenizer: Any
    module: Any


@dataclass
class Texts:
    """The text encoders of a base model.

    Attributes:
        encoders: one for SD 1.5, SD 2 and the mini model; two for SDXL.
        removal: vectors [n, d] of the removal prompt by encoder; empty where none is learned or loaded.
    """

    encoders: tuple[TextEncoder, ...]
    removal: dict[str, Tensor] = field(default_factory=dict)
    _cache: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def encode(self, prompts: Sequence[str], size: tuple[int, int]) -> Prompt:
        """Differentiable in the removal prompt.

        Args:
            prompts: one text a row; `REMOVAL` in it stands for the learned vectors.
            size: (height, width) of the pictures in pixels.

        Raises:
            ValueError: a prompt asks for a removal prompt and none is there.
        """
        if any(REMOVAL in prompt for prompt in prompts):
            context, pooled = self._encode(prompts)
        else:
            context, pooled = (torch.cat(parts) for parts in zip(*map(self._kept, prompts), strict=True))
        if len(self.encoders) == 1:
            return Prompt(context)
        sizes = context.new_tensor([[*size, 0, 0, *size]]).expand(len(prompts), -1)
        return Prompt(context, {"text_embeds": pooled, "time_ids": sizes})

    def _kept(self, prompt: str) -> tuple[Tensor, Tensor]:
        """The encoders are frozen: an ordinary text is encoded once."""
        if prompt not in self._cache:
            while len(self._cache) >= KEPT_PROMPTS:
                del self._cache[next(iter(self._cache))]
            # Sampling runs in inference mode, and training cannot use what was made there.
            with torch.inference_mode(False), torch.no_grad():
                self._cache[prompt] = self._encode([prompt])
        return self._cache[prompt]

    def _encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The encoders' hidden states, side by side, and the last one's pooled text (of no use where there is one)."""
        outputs = [self._run(encoder, prompts) for encoder in self.encoders]
        if len(outputs) == 1:
            return outputs[0].last_hidden_state, outputs[0].pooler_output
        return torch.cat([output.hidden_states[-2] for output in outputs], dim=-1), outputs[-1].text_embeds

    def _run(self, encoder: TextEncoder, prompts: Sequence[str]) -> Any:
        vectors = self.removal.get(encoder.name)
        if vectors is None and any(REMOVAL in prompt for prompt in prompts):
            raise ValueError(f"A prompt holds {REMOVAL} and no removal prompt is loaded for {encoder.name}: load one.")
        rows = [_tokens(encoder.tokenizer, prompt, 0 if vectors is None else len(vectors)) for prompt in prompts]
        device = encoder.module.device
        ids = torch.tensor([ids for ids, _ in rows], device=device)
        learned = torch.tensor([learned for _, learned in rows], device=device)
        with _inserted(encoder.module.get_input_embeddings(), learned, vectors):
            return encoder.module(ids, output_hidden_states=len(self.encoders) > 1)


def removal_prompt(words: Sequence[str] = ENHANCERS, prompt_first: bool = True) -> str:
    """P_rmv and enhancing words as one text."""
    parts = [REMOVAL, ", ".join(words)]
    return " ".join(part for part in (parts if prompt_first else parts[::-1]) if part)


def initial_vectors(encoder: TextEncoder, count: int, word: str = "remove") -> Tensor:
    """[count, d]: the embedding of a word, as often as asked for (LRNR initialises its prompt from "remove")."""
    token = encoder.tokenizer(word, add_special_tokens=False).input_ids[0]
    return encoder.module.get_input_embeddings().weight[token].detach().float().repeat(count, 1)


def _tokens(tokenizer: Any, prompt: str, vectors: int) -> tuple[list[int], list[bool]]:
    """Token ids and which of them are to be replaced by learned vectors, both as long as the encoder takes."""
    # The ids under the vectors must be ordinary ones: CLIP finds the end of a text by its highest id.
    carrier = tokenizer("remove", add_special_tokens=False).input_ids[:1]
    before, found, after = prompt.partition(REMOVAL)
    count = vectors if found else 0
    words = [tokenizer(part, add_special_tokens=False, verbose=False).input_ids for part in (before, after)]
    ids = [tokenizer.bos_token_id, *words[0], *carrier * count, *words[1]]
    length = tokenizer.model_max_length
    ids = [*ids[: length - 1], tokenizer.eos_token_id]
    learned = [1 + len(words[0]) <= place < 1 + len(words[0]) + count for place in range(length)]
    learned[len(ids) - 1] = False
    return ids + [tokenizer.pad_token_id] * (length - len(ids)), learned


@contextmanager
def _inserted(embedding: nn.Module, learned: Tensor, vectors: Tensor | None) -> Iterator[None]:
    """For the calls inside, `vectors` [n, d] take the places where `learned` [B, tokens] is true, in their order."""
    if vectors is None or not learned.any():
        yield
        return
    order = (learned.cumsum(dim=1) - 1)[learned]

    def insert(_module: nn.Module, _inputs: tuple, embedded: Tensor) -> Tensor:
        return embedded.index_put((learned,), vectors[order].to(embedded))

    hook = embedding.register_forward_hook(insert)
    try:
        yield
    finally:
        hook.remove()

"""A judge: a vision-language model that is asked about each picture several times, and never twice the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol as Typed

from ..metrics.facts import MetricFacts
from ..metrics.metric import Metric
from ..metrics.result import Result
from .protocols import PROTOCOLS, SUCCESS, Protocol
from .settings import JudgeOptions
from .shown import shown

ATTEMPTS = 3
"""Times that a question is asked until an answer can be read."""


class Model(Typed):
    name: str

    def answer(self, question: str, pictures: Sequence[bytes]) -> str: ...


@dataclass(frozen=True)
class Judge:
    """Asks a model by a paper's protocol.

    Attributes:
        cache: folder that keeps what the model said, by a digest of the model, its temperature, the question, the pictures
            and the number of the repeat; without one, nothing is kept.
    """

    model: Model
    protocol: Protocol
    repeats: int
    cache: Path | None
    temperature: float = 1.0

    def ratings(self, result: Result) -> list[dict[str, int | bool] | None]:
        """The verdicts of the model on a result, once for each repeat; None where no answer could be read.

        Raises:
            ConnectionError: the model does not answer.
        """
        pictures = shown(result, self.protocol.shows)
        return [self.rating(pictures, repeat) for repeat in range(self.repeats)]

    def rating(self, pictures: Sequence[bytes], repeat: int) -> dict[str, int | bool] | None:
        question = self.protocol.question()
        about = [self.model.name, str(self.temperature), question, str(repeat)]
        path = self.cache / f"{digest([*(each.encode() for each in about), *pictures])}.json" if self.cache else None
        if path and path.is_file() and (known := self.protocol.parse(json.loads(path.read_text("utf-8"))["answer"])):
            return known
        for _ in range(ATTEMPTS):
            answer = self.model.answer(question, pictures)
            if (found := self.protocol.parse(answer)) is not None:
                if path:
                    keep(path, {"model": self.model.name, "answer": answer})
                return found
        return None


def digest(parts: Sequence[bytes]) -> str:
    """A digest of several parts, whose lengths keep them apart."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(len(part).to_bytes(8, "little") + part)
    return found.hexdigest()


def keep(path: Path, answer: dict[str, str]) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(f".{os.getpid()}")
    whole.write_text(json.dumps(answer), encoding="utf-8")
    whole.replace(path)


class SuccessRate(Metric):
    """The share of a judge's answers that call the removal a success. None where no answer could be read.

    Attributes:
        is_rate: a picture's value is 0 or 1, as each is judged once.
    """

    def __init__(self, facts: MetricFacts, judge: Judge) -> None:
        super().__init__(facts)
        self.judge = judge
        self.is_rate = judge.repeats == 1

    def measure(self, results: Sequence[Result]) -> list[float | None]:
        return [self.value(self.judge.ratings(result)) for result in results]

    def value(self, ratings: Sequence[dict[str, int | bool] | None]) -> float | None:
        return mean([float(rating[SUCCESS]) for rating in ratings if rating is not None])


class Quality(SuccessRate):
    """The mean of MILD's four scores, 1 to 10, over a judge's answers. None by a protocol without scores."""

    def __init__(self, facts: MetricFacts, judge: Judge) -> None:
        super().__init__(facts, judge)
        self.is_rate = False

    def value(self, ratings: Sequence[dict[str, int | bool] | None]) -> float | None:
        names = self.judge.protocol.scores
        return mean([sum(rating[name] for name in names) / len(names) for rating in ratings if rating and names])


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def open_judge(options: JudgeOptions, device: str) -> Judge:
    """The judge that options describe.

    Raises:
        ConnectionError: a local model cannot be loaded.
        ModuleNotFoundError: a package is missing.
    """
    assert options.model is not None
    if options.url is not None:
        from .endpoint import Endpoint

        model: Model = Endpoint(options.url, options.model, options.secret(), options.temperature)
    else:
        from .local import LocalModel

        model = LocalModel(Path(options.model), device, options.temperature)
    return Judge(model, PROTOCOLS[options.protocol], options.repeats, options.cache, options.temperature)

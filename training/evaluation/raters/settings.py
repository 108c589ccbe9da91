"""Options of the judge and of the rating page, checked before PyTorch is imported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import tyro

from ...paths import check_folder
from .protocols import ProtocolName


@dataclass(frozen=True)
class JudgeOptions:
    """A vision-language model that says whether a removal succeeded.

    Attributes:
        url: Address of an OpenAI-compatible server, such as https://api.openai.com/v1 or http://localhost:8000/v1 (vLLM,
            llama.cpp, Ollama, LM Studio).
        model: Name of the model at that address; without one, a folder with a vision-language model of transformers.
        key: Name of the environment variable that holds the key to the address, where it needs one.
        protocol: The instructions: lrnr (its raters' two criteria) or mild (four scores and a verdict).
        repeats: Times that each picture is judged; a success rate counts each.
        temperature: Of the model's answers; above 0, for otherwise repeats are the same.
        cache: Folder that keeps every answer, so that no picture is asked about twice.
    """

    url: str | None = None
    model: str | None = None
    key: str = "OPENAI_API_KEY"
    protocol: ProtocolName = "lrnr"
    repeats: int = 3
    temperature: float = 1.0
    cache: Path | None = None

    def given(self) -> bool:
        return self.model is not None

    def check(self) -> None:
        """Raises ValueError or FileNotFoundError where the options do not go together, or a folder is not there."""
        if self.repeats < 1:
            raise ValueError(f"repeats of the judge is {self.repeats}, expected at least 1.")
        if not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature of the judge is {self.temperature}, expected 0 to 2.")
        if self.url is not None:
            if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).netloc:
                raise ValueError(
                    f"url of the judge is {self.url}: expected an address such as http://localhost:8000/v1."
                )
            if self.model is None:
                raise ValueError(f"The judge at {self.url} has no model: give its name there as --judge.model.")
        elif self.model is not None:
            check_folder(
                Path(self.model), "a vision-language model, or the --judge.url where a model of that name runs"
            )

    def secret(self) -> str | None:
        """The key to the address; None where the variable is not set."""
        return os.environ.get(self.key) or None


@dataclass(frozen=True)
class RateConfig:
    """Open a page on which people rate the results of `unclutter evaluate photos`, without knowing the methods.

    Each rater gives a name and sees one result at a time, in an order of its own. Ratings are kept at once: a rater who
    comes back goes on at the first result that is left. With --export the ratings are counted and no page is opened.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder that `unclutter evaluate photos` wrote."""
    protocol: ProtocolName = "lrnr"
    """The instructions: lrnr (success or failure by two criteria) or mild (a score and a verdict)."""
    methods: tuple[str, ...] = ()
    """Rows of the table to rate; all by default."""
    limit: int | None = None
    """Rate only so many pictures, drawn by the seed."""
    seed: int = 0
    """Seed of the drawn pictures and of each rater's order."""
    export: bool = False
    """Write RUN/ratings.md and RUN/ratings.csv, with success rates, intervals and the raters' agreement, and stop."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 lets other machines of the network in, who can then rate too."""
    port: int = 7860
    """Port to listen at."""

    def check(self) -> None:
        check_folder(self.run, "results of `unclutter evaluate photos`")
        if not (self.run / "results.jsonl").is_file():
            raise FileNotFoundError(
                f"There is no results.jsonl in {self.run}: give the folder that `unclutter evaluate photos` wrote."
            )
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}, expected at least 1.")
        if not 0 < self.port < 65536:
            raise ValueError(f"port is {self.port}, expected 1 to 65535.")

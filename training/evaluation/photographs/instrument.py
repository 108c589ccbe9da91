"""`unclutter evaluate photos`: every method on every picture, measured as soon as it is filled, and told at the end."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import torch
from rich.console import Console
from tqdm import tqdm

from ...data.public.cases import PhotoCase, read_cases
from ...images.files import picture_size, read_image, write_image
from ..metrics.metric import Metric
from ..metrics.opening import open_metrics
from .attempts import FAILURES, Late, Unopened, attempts, sentence
from .contestants import Contestant
from .fillers import Filler, Fillers
from .gallery import write_gallery
from .ledger import RESULTS, SETS, Ledger, check_settings
from .overall import measure_seeds, measure_sets
from .pictures import Picture, digest, digests, facts, read_picture
from .report import write_report
from .settings import PhotosConfig
from .source import write_source
from .stored import in_metrics, place_of
from .summary import summarise


def evaluate_photos(config: PhotosConfig, appendix: str = "") -> None:
    """Fill, measure, compare, and write the report, with an appendix in Markdown, and the gallery.

    Raises:
        ValueError, OSError: bad settings; or, after all was written, pictures that failed.
    """
    config.check()
    console = Console(stderr=True)
    device = config.device or ("cuda" if torch.cuda.is_available() else "cpu")
    judge = replace(config.judge, cache=config.judge.cache or config.out / "judge")
    metrics, gaps = open_metrics(config.metrics, config.given_weights(), device, judge)
    cases = read_cases(config.source(), config.layout)[: config.limit]
    run = Run(config, config.contestants(), cases, metrics, Ledger.open(config.out / RESULTS), device, gaps)
    write_source(config.out, config.source(), config.layout, config.size, config.square)
    check_settings(run.ledger, {row.name: run.settings(row) for row in run.rows})
    names = ", ".join(row.name for row in run.rows)
    console.print(f"{len(cases)} pictures of {config.source()}, {len(run.rows)} methods: {names}.", soft_wrap=True)
    run.go()
    measure_seeds(run.rows, cases, metrics, run.ledger, config)
    sets = measure_sets(run.rows, cases, metrics, run.ledger, Ledger.open(config.out / SETS), config)
    summary = summarise(run.rows, cases, metrics, run.ledger, config.seeds)
    report = write_report(config, summary, run.rows, cases, metrics, run.ledger, sets, run.gaps, device, appendix)
    main_metric = summary.main_metric()
    write_gallery(config, run.rows, cases, metrics, run.ledger, main_metric and summary.best(main_metric))
    for what, why in run.gaps.items():
        console.print(f"Without {what}: {why}", soft_wrap=True)
    console.print(f"Wrote {report} and {config.out / 'gallery.html'}.", soft_wrap=True)
    failed = [line for line in run.lines() if line["error"] is not None]
    if failed:
        pictures = len({line["picture"] for line in failed})
        raise ValueError(
            f"{len(failed)} results of {pictures} pictures failed, see {report}; run the command again to try these again."
        )


@dataclass
class Run:
    """Everything that a run holds while it goes through the pictures."""

    config: PhotosConfig
    rows: list[Contestant]
    cases: list[PhotoCase]
    metrics: list[Metric]
    ledger: Ledger
    device: str
    gaps: dict[str, str] = field(default_factory=dict)
    """Metrics and rows that can do nothing, each with a sentence."""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Of the pictures that a row filled in this run."""
    missing: dict[str, int] = field(default_factory=dict)
    """Results that a row still lacks."""

    def settings(self, row: Contestant) -> dict[str, Any]:
        """All that decides a row's pictures, beside their files and the seed."""
        scaled = {"size": self.config.size, "square": self.config.square} if self.config.size else {}
        return {**row.settings(), **scaled}

    def seeds(self, row: Contestant) -> tuple[int, ...]:
        return self.config.seeds if row.seeded else self.config.seeds[:1]

    def lines(self) -> Iterator[dict[str, Any]]:
        """Everything that is known of all that this command asks for."""
        for row, case in itertools.product(self.rows, self.cases):
            for seed in self.seeds(row):
                if (line := self.ledger.lines.get((case.name, row.name, seed))) is not None:
                    yield line

    def go(self) -> None:
        """Fill and measure what is not there yet. Rows of one network go through the pictures together."""
        fillers = Fillers(self.device)
        wanted = {row.name: len(self.seeds(row)) * len(self.cases) for row in self.rows}
        self.missing = dict(wanted)
        for line in self.lines():
            self.missing[line["method"]] -= line["error"] is None
        networks = list(dict.fromkeys(row.network for row in self.rows))
        with tqdm(total=sum(wanted.values()), unit="result", desc="results") as progress:
            for network in networks:
                group = [(row, Late(row, fillers)) for row in self.rows if row.network == network]
                for chunk in self.chunks():
                    self.go_through(chunk, group, progress)
                fillers.release()

    def chunks(self) -> Iterator[list[PhotoCase]]:
        """The pictures, `batch` at a time, those of one size next to each other; the same in every run."""
        ordered: Sequence[PhotoCase] = self.cases
        if self.config.batch > 1 and not self.config.square:
            ordered = sorted(self.cases, key=size_of)
        for first in range(0, len(ordered), self.config.batch):
            yield list(ordered[first : first + self.config.batch])

    def go_through(self, chunk: list[PhotoCase], group: Sequence[tuple[Contestant, Filler]], progress: tqdm) -> None:
        """A few pictures by the rows of a group. Files are read once, and only where something is missing."""
        inputs, errors, pictures = {}, {}, {}
        for case in chunk:
            try:
                inputs[case.name] = digests(case)
            except FAILURES as error:
                inputs[case.name], errors[case.name] = {}, sentence(error)
        for row, filler in group:
            for seed in self.seeds(row):
                todo = [case for case in chunk if not self.finished(case, row, seed, inputs[case.name])]
                if todo and row.name not in self.gaps:
                    for case in chunk:
                        if case.name not in pictures and case.name not in errors:
                            try:
                                pictures[case.name] = self.read(case)
                            except FAILURES as error:
                                errors[case.name] = sentence(error)
                    for case in todo:
                        if case.name in errors:
                            self.fail(case, row, seed, inputs[case.name], errors[case.name])
                    readable = [pictures[case.name] for case in chunk if case.name in pictures]
                    self.fill(row, filler, readable, {case.name for case in todo}, seed, inputs)
                progress.set_postfix_str(self.left(), refresh=False)
                progress.update(len(chunk))

    def read(self, case: PhotoCase) -> Picture:
        picture = read_picture(case, self.config.size, self.config.square)
        if self.config.inputs:
            folder, mask = self.config.out / "inputs", picture.given("object", self.config.grow)
            write_image(folder / f"{case.name}.png", picture.before)
            write_image(folder / f"{case.name}_mask.png", mask[:, None].expand(-1, 3, -1, -1))
        return picture

    def finished(self, case: PhotoCase, row: Contestant, seed: int, inputs: dict[str, str]) -> bool:
        """Whether a result is there, was made of these very files, and has every metric."""
        line = self.kept(case, row, seed, inputs)
        return line is not None and not self.unmeasured(line)

    def kept(self, case: PhotoCase, row: Contestant, seed: int, inputs: dict[str, str]) -> dict[str, Any] | None:
        """The line of a result whose picture is still the one in its file; None where it has to be made."""
        line = self.ledger.good((case.name, row.name, seed), self.settings(row), inputs)
        if line is None:
            return None
        path = self.config.out / line["output"]["file"]
        return line if path.is_file() and digest(path) == line["output"]["digest"] else None

    def unmeasured(self, line: dict[str, Any]) -> list[Metric]:
        """The metrics that a line lacks, or has through other weights."""
        weights = self.config.weights_of()
        return [
            metric
            for metric in self.metrics
            if metric.kind == "picture"
            and (metric.name not in line["metrics"] or line["weights"].get(metric.name) != weights.get(metric.name))
        ]

    def fill(
        self,
        row: Contestant,
        filler: Filler,
        pictures: list[Picture],
        todo: set[str],
        seed: int,
        inputs: dict[str, dict[str, str]],
    ) -> None:
        """Fill what has no picture yet and measure what was not measured.

        Where one of the pictures has to be filled, all are, side by side as in a run without a stop, so that both come to
        the same; what is there already is left as it is.
        """
        done = {
            picture.case.name: line
            for picture in pictures
            if (line := self.kept(picture.case, row, seed, inputs[picture.case.name])) is not None
        }
        given, holes = [], []
        for picture in pictures if len(done) < len(pictures) else []:
            try:
                holes.append(picture.given(row.mask, row.grow))
                given.append(picture)
            except FAILURES as error:
                self.fail(picture.case, row, seed, inputs[picture.case.name], sentence(error))
        try:
            for attempt in attempts(filler, given, holes, seed, self.device):
                name = attempt.picture.case.name
                self.seconds.setdefault(row.name, []).append(attempt.seconds)
                if name in done:
                    continue
                if attempt.filled is None:
                    self.fail(attempt.picture.case, row, seed, inputs[name], attempt.error)
                    continue
                path = place_of(self.config.out, row.name, name, seed)
                write_image(path, attempt.filled)
                done[name] = {
                    **self.line(attempt.picture.case, row, seed, inputs[name]),
                    "output": {"file": path.relative_to(self.config.out).as_posix(), "digest": digest(path)},
                    "seconds": round(attempt.seconds, 4),
                    "memory_mb": attempt.memory_mb,
                }
        except Unopened as error:
            self.gaps[row.name] = f"{row.name}: {error}"
            self.missing[row.name] = 0
            tqdm.write(self.gaps[row.name], file=sys.stderr)
        for picture in pictures:
            if picture.case.name in todo and picture.case.name in done:
                self.measure(picture, done[picture.case.name])
                self.missing[row.name] -= 1

    def measure(self, picture: Picture, line: dict[str, Any]) -> None:
        """Measure what is in the file, which is what anybody can look at, and write the line."""
        result = in_metrics(picture, read_image(self.config.out / line["output"]["file"]), line["seed"])
        weights, values, used = self.config.weights_of(), dict(line["metrics"]), dict(line["weights"])
        for metric in self.unmeasured(line):
            (values[metric.name],) = metric.measure([result])
            used[metric.name] = weights.get(metric.name)
        used = {name: path for name, path in used.items() if path is not None}
        self.ledger.add(**{**line, "about": facts(picture), "metrics": values, "weights": used})

    def line(self, case: PhotoCase, row: Contestant, seed: int, inputs: dict[str, str]) -> dict[str, Any]:
        """A line of results of which nothing is known yet."""
        about = {
            "picture": case.name,
            "method": row.name,
            "seed": seed,
            "settings": self.settings(row),
            "inputs": inputs,
        }
        unknown = dict.fromkeys(("output", "seconds", "memory_mb", "about", "error"))
        return {**about, **unknown, "device": self.device, "metrics": {}, "weights": {}}

    def fail(self, case: PhotoCase, row: Contestant, seed: int, inputs: dict[str, str], error: str) -> None:
        tqdm.write(f"{case.name}, {row.name}: {error}", file=sys.stderr)
        self.ledger.add(**{**self.line(case, row, seed, inputs), "error": error})

    def left(self) -> str:
        """About how long the rest takes, by what each method took last."""
        known = {name: median(spent[-20:]) for name, spent in self.seconds.items()}
        rest = sum(count * known[name] for name, count in self.missing.items() if name in known and count > 0)
        later = any(count > 0 and name not in known for name, count in self.missing.items())
        return f"about {told(rest)} left{' for the methods that have begun' if later else ''}"


def size_of(case: PhotoCase) -> tuple[int, int]:
    """The size of a picture by its header; of one that cannot be read, none."""
    try:
        return picture_size(case.picture)
    except FAILURES:
        return 0, 0


def told(seconds: float) -> str:
    """A time for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

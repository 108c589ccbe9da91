"""`unclutter rate`: a page on which people rate results without knowing the methods, as LRNR's eight raters did."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image
from rich.console import Console
from torchvision.transforms.functional import to_pil_image

from ...images.files import read_image
from ..photographs.pictures import read_picture
from ..photographs.source import read_source
from .ballots import Item, Ratings, items_of, order_for, rater_of
from .export import export
from .protocols import PROTOCOLS
from .settings import RateConfig
from .shown import marked

LEAST = 512
"""Pixels of the longer side of what is shown: a browser shows small pictures small."""
MIDDLE = 5
"""The first position of the slider of a score."""
TITLES = {"before": "Original", "marked": "To be removed, in red", "after": "Result"}


def rate(config: RateConfig) -> None:
    """Open the page until it is stopped, or write the tables.

    Raises:
        ValueError, OSError: there is nothing to rate or to export, or the port is taken.
    """
    config.check()
    console = Console(stderr=True)
    items = items_of(config)
    ratings = Ratings(config.run, config.protocol, items)
    if config.export:
        console.print(f"Wrote {export(ratings, items, config.run)} and {config.run / 'ratings.csv'}.", soft_wrap=True)
        return
    # Gradio reports to its makers otherwise.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    page = build(Booth(config, items, ratings))
    console.print(
        f"{len(items)} results to rate at http://{config.host}:{config.port}. Stop with Ctrl+C; `unclutter rate {config.run} "
        "--export` counts.",
        soft_wrap=True,
    )
    page.launch(server_name=config.host, server_port=config.port, share=False, quiet=True, footer_links=[])


@dataclass(frozen=True)
class Place:
    """A rater, and the place in the rater's order."""

    rater: str
    at: int


class Booth:
    """The page's inside: pictures of an item, and what a rater's click does."""

    def __init__(self, config: RateConfig, items: list[Item], ratings: Ratings) -> None:
        self.config, self.items, self.ratings = config, items, ratings
        self.protocol = PROTOCOLS[config.protocol]
        self.source = read_source(config.run)

    def order(self, rater: str) -> list[Item]:
        return order_for(self.items, rater, self.config.seed)

    def enter(self, name: str) -> Place:
        """A rater comes, or comes back.

        Raises:
            ValueError: the name is empty or too long.
        """
        rater = rater_of(name)
        return Place(rater, self.ratings.first_left(rater, self.order(rater)))

    def vote(self, place: Place, success: bool, score: float | None) -> Place:
        """Keep a verdict and go to the next result."""
        item = self.order(place.rater)[place.at]
        self.ratings.give(place.rater, item, success, int(score) if self.protocol.overall and score else None)
        return Place(place.rater, place.at + 1)

    def pictures(self, item: Item) -> list[Image.Image]:
        """The pictures that a rater sees of an item, in the order of the protocol."""
        picture = read_picture(self.source.cases[item.picture], self.source.size, self.source.square)
        shown = {
            "before": picture.before[0],
            "marked": marked(picture.before[0], picture.mask[0]),
            "after": read_image(self.config.run / item.file)[0],
        }
        return [enlarged(to_pil_image(shown[kind])) for kind in self.protocol.shows]


def enlarged(picture: Image.Image) -> Image.Image:
    """A picture whose longer side has at least 512 pixels, each of its own a whole number of times."""
    factor = -(-LEAST // max(picture.size))
    return picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)


def build(booth: Booth) -> Any:
    """The page, as Gradio's Blocks."""
    import gradio as gr

    protocol = booth.protocol

    def show(place: Place) -> dict[Any, Any]:
        """All parts of the page for a place in a rater's order."""
        order = booth.order(place.rater)
        left = place.at < len(order)
        changes: dict[Any, Any] = {
            state: place,
            entrance: gr.update(visible=False),
            booth_parts: gr.update(visible=left),
            thanks: gr.update(visible=not left),
            back: gr.update(interactive=place.at > 0),
        }
        if left:
            item = order[place.at]
            before = booth.ratings.of(place.rater, item)
            said = "" if before is None else f" · you said: {'Success' if before['success'] else 'Failure'}"
            changes[progress] = f"**{place.at + 1} of {len(order)}**, rated by {place.rater}{said}"
            changes |= dict(zip(pictures, booth.pictures(item), strict=True))
            changes[score] = gr.update(value=(before or {}).get("score") or MIDDLE)
        return changes

    def enter(name: str) -> dict[Any, Any]:
        try:
            return show(booth.enter(name))
        except ValueError as error:
            return {warning: str(error)}

    def vote(success: bool) -> Callable[[Place, float], dict[Any, Any]]:
        return lambda place, value: show(booth.vote(place, success, value))

    with gr.Blocks(title="Rate removals", analytics_enabled=False, fill_width=True) as page:
        state = gr.State(None)
        gr.Markdown("# Was the object removed?")
        with gr.Accordion("Instructions", open=True):
            gr.Markdown(protocol.instructions)
        with gr.Column() as entrance:
            name = gr.Textbox(label="Your name, the same whenever you come back", max_lines=1, elem_id="rater")
            warning = gr.Markdown()
            start = gr.Button("Start", variant="primary")
        with gr.Column(visible=False) as booth_parts:
            progress = gr.Markdown(elem_id="progress")
            with gr.Row():
                pictures = [
                    gr.Image(
                        label=TITLES[kind],
                        type="pil",
                        format="png",
                        interactive=False,
                        elem_id=kind,
                        buttons=["fullscreen"],
                    )
                    for kind in protocol.shows
                ]
            score = gr.Slider(
                1,
                10,
                value=MIDDLE,
                step=1,
                label="Overall quality, from 1 (worst) to 10 (best)",
                visible=protocol.overall,
            )
            with gr.Row():
                back = gr.Button("Back")
                failure = gr.Button("Failure", variant="stop")
                success = gr.Button("Success", variant="primary")
        with gr.Column(visible=False) as thanks:
            gr.Markdown("## That was all. Thank you!")
            again = gr.Button("Back to the last one")
        outputs = [state, entrance, booth_parts, thanks, back, progress, *pictures, score, warning]
        gr.on([start.click, name.submit], enter, name, outputs)
        for button, verdict in ((success, True), (failure, False)):
            button.click(vote(verdict), [state, score], outputs)
        for button in (back, again):
            button.click(lambda place: show(Place(place.rater, max(0, place.at - 1))), state, outputs)
    return page

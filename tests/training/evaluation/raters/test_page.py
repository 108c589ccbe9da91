"""The rating page, clicked through in Chromium."""

import os
import socket
import subprocess
import sys
import time

import pytest

from unclutter.training.evaluation.raters.ballots import Ratings, items_of, order_for
from unclutter.training.evaluation.raters.settings import RateConfig


@pytest.fixture
def chromium(browser):
    """A browser; without Gradio the tests are skipped, and with CI set they fail."""
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        reason = f'the rating page needs `pip install -e ".[rate]"` ({error})'
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return browser.chromium


class Served:
    """`unclutter rate` in a process of its own."""

    def __init__(self, run, *options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "unclutter.training", "rate", str(run), "--port", str(self.port), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None, self.process.communicate()[0]
                time.sleep(0.3)

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def serve():
    running = []

    def start(run, *options):
        running.append(Served(run, *options))
        return running[-1]

    yield start
    for each in running:
        each.stop()


def enter(browser, served, name):
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.set_default_timeout(120_000)
    page.goto(f"http://127.0.0.1:{served.port}")
    page.locator("#rater textarea, #rater input").fill(name)
    page.get_by_role("button", name="Start").click()
    return page


def wait_for(page, words):
    page.wait_for_function("words => document.querySelector('#progress')?.innerText.includes(words)", arg=words)


def colour(page):
    """The colour in the middle of the result that is shown."""
    source = page.locator("#after img").get_attribute("src")
    found = page.evaluate(
        """async (source) => {
            const picture = new Image(); picture.src = source; await picture.decode()
            const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true})
            canvas.drawImage(picture, 0, 0); return [...canvas.getImageData(32, 24, 1, 1).data]
        }""",
        source,
    )
    return found[0]


def test_two_people_rate_blindly_and_one_comes_back(run, chromium, serve, tmp_path):
    served = serve(run)
    items = items_of(RateConfig(run))
    orders = {rater: order_for(items, rater, 0) for rater in ("Ada", "Bo")}
    shades = {"ring median": 76, "hidden-name": 178}

    ada = enter(chromium, served, "  Ada ")
    for place, item in enumerate(orders["Ada"][:3]):
        wait_for(ada, f"{place + 1} of 6")
        assert abs(colour(ada) - shades[item.method]) <= 1
        # Neither the words nor the addresses of the page tell the method.
        assert not any(name in ada.content() for name in ("hidden-name", "ring median", "ring-median"))
        ada.get_by_role("button", name="Success" if item.method == "hidden-name" else "Failure").click()
    wait_for(ada, "4 of 6")
    ada.screenshot(path=tmp_path / "rating.png", full_page=True)

    bo = enter(chromium, served, "Bo")
    wait_for(bo, "1 of 6")
    bo.get_by_role("button", name="Failure").click()
    wait_for(bo, "2 of 6")
    # She changes her mind.
    ada.get_by_role("button", name="Back", exact=True).click()
    wait_for(ada, "3 of 6")
    wait_for(ada, "you said")
    ada.get_by_role("button", name="Failure").click()
    wait_for(ada, "4 of 6")

    served.stop()
    served = serve(run)
    ada = enter(chromium, served, "Ada")
    for place in (4, 5, 6):
        wait_for(ada, f"{place} of 6")
        ada.get_by_role("button", name="Success").click()
    ada.get_by_text("That was all. Thank you!").wait_for()
    kept = Ratings(run, "lrnr", items)
    said = [kept.of("Ada", item)["success"] for item in orders["Ada"]]
    assert said == [item.method == "hidden-name" for item in orders["Ada"][:2]] + [False, True, True, True]
    assert kept.of("Bo", orders["Bo"][0])["success"] is False and kept.first_left("Bo", orders["Bo"]) == 1
    assert kept.of("Ada", orders["Ada"][0])["score"] is None


def test_milds_page_asks_for_a_score_and_a_name(run, chromium, serve):
    served = serve(run, "--protocol", "mild", "--limit", "1")
    page = enter(chromium, served, " ")
    page.get_by_text("Give a name of 1 to 40 letters.").wait_for()
    page.locator("#rater textarea, #rater input").fill("Cy")
    page.get_by_role("button", name="Start").click()
    wait_for(page, "1 of 2")
    page.get_by_label("number input for Overall quality").fill("9")
    page.get_by_role("button", name="Success").click()
    wait_for(page, "2 of 2")
    (line,) = Ratings(run, "mild", items_of(RateConfig(run))).given.values()
    assert (line["rater"], line["success"], line["score"]) == ("Cy", True, 9)

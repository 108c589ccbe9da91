"""gallery.html as a person sees it: opened from the disk, dragged, and asked for another method."""

import pytest

from unclutter.training.cli import main


@pytest.fixture
def page(scenes, tmp_path, browser):
    """The gallery of a run, in a browser, with what went wrong in it."""
    assert main(["evaluate", "photos", "--data", str(scenes), "-o", str(tmp_path / "run"), "--device", "cpu"]) == 0
    page = browser.chromium.new_page(viewport={"width": 1400, "height": 1000})
    wrong = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((tmp_path / "run" / "gallery.html").as_uri())
    yield page
    page.close()
    assert not wrong


def test_the_gallery_shows_before_and_after_under_a_slider(page):
    card = page.locator("article").first
    assert page.locator("article").count() == 6
    page.wait_for_function(
        "[...document.querySelectorAll('article:first-child img')].every(image => image.naturalWidth > 0)"
    )
    assert card.locator(".left").inner_text() == "before"
    card.get_by_role("button", name="Telea").click()
    assert card.locator(".right").inner_text() == "Telea" and "hole, dB" in card.locator("dl").inner_text()
    stage = card.locator(".stage")
    box = stage.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 40)
    page.mouse.up()
    assert float(card.locator("input").input_value()) == pytest.approx(25, abs=1)
    page.get_by_label("left").select_option("truth")
    assert card.locator(".left").inner_text() == "truth"
    assert card.locator(".mask").evaluate("image => getComputedStyle(image).visibility") == "hidden"
    page.get_by_label("show what was to go").check()
    assert card.locator(".mask").evaluate("image => getComputedStyle(image).visibility") == "visible"


def test_the_pictures_on_which_methods_differ_most_come_first(page):
    names = page.locator("h2").all_inner_texts()
    spreads = page.evaluate("Object.fromEntries(data.pictures.map(each => [each.name, each.spread]))")
    assert names == sorted(names, key=lambda name: -spreads[name])
    page.get_by_label("sorted by").select_option("name")
    assert page.locator("h2").all_inner_texts() == sorted(names)

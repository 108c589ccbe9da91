"""The items to rate, each rater's order of them, and ratings that survive a stop; then the tables of them."""

import csv
import json

import pytest

from unclutter.training.cli import main
from unclutter.training.evaluation.measures import rate_interval
from unclutter.training.evaluation.raters.ballots import Ratings, items_of, order_for, rater_of
from unclutter.training.evaluation.raters.settings import RateConfig


def things(items):
    return [item.thing for item in items]


def test_everything_that_was_filled_is_rated(run):
    items = items_of(RateConfig(run))
    assert things(items) == [(f"scene{at}", name, 0) for at in range(3) for name in ("hidden-name", "ring median")]
    assert {item.method for item in items_of(RateConfig(run, methods=("ring median",)))} == {"ring median"}
    few = items_of(RateConfig(run, limit=2, seed=4))
    assert len({item.picture for item in few}) == 2 and len(few) == 4
    with pytest.raises(ValueError, match="no results of lama: expected some of hidden-name, ring median"):
        items_of(RateConfig(run, methods=("lama",)))


def test_each_rater_has_an_order_of_its_own_and_keeps_it(run):
    items = items_of(RateConfig(run))
    orders = {rater: things(order_for(items, rater, 0)) for rater in ("Ada", "Bo", "Cy", "Di")}
    assert len({tuple(order) for order in orders.values()}) > 1
    assert all(sorted(order) == sorted(things(items)) for order in orders.values())
    assert orders["Ada"] == things(order_for(items[::-1], "Ada", 0)) != things(order_for(items, "Ada", 1))
    # What comes into the run later changes nothing in the order of the rest.
    without = [item for item in items if item.picture != "scene1"]
    assert things(order_for(without, "Ada", 0)) == [each for each in orders["Ada"] if each[0] != "scene1"]


def test_a_rater_goes_on_where_it_stopped(run):
    items = items_of(RateConfig(run))
    order = order_for(items, "Ada", 0)
    ratings = Ratings(run, "lrnr", items)
    for item in order[:2]:
        ratings.give("Ada", item, True)
    ratings.give("Bo", order[4], False)
    again = Ratings(run, "lrnr", items)
    assert again.first_left("Ada", order) == 2 and again.first_left("Bo", order) == 0
    assert again.of("Ada", order[0])["success"] is True and again.of("Bo", order[0]) is None
    # A rating that is changed counts as it was said last.
    again.give("Ada", order[0], False)
    assert Ratings(run, "lrnr", items).of("Ada", order[0])["success"] is False
    # Another protocol asks anew.
    assert Ratings(run, "mild", items).first_left("Ada", order) == 0


def test_a_line_torn_by_a_stop_is_cut_off_and_a_damaged_one_is_told(run):
    items = items_of(RateConfig(run))
    ratings = Ratings(run, "lrnr", items)
    ratings.give("Ada", items[0], True)
    path = run / "ratings.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"rater": "Ada", "pict')
    again = Ratings(run, "lrnr", items)
    assert len(again.given) == 1 and path.read_bytes() == whole
    again.give("Ada", items[1], False)
    assert len(Ratings(run, "lrnr", items).given) == 2
    path.write_bytes(b"[]\n" + whole)
    with pytest.raises(ValueError, match="line 1, is no rating"):
        Ratings(run, "lrnr", items)


def test_a_rating_does_not_count_for_a_picture_that_took_the_place_of_another(run):
    items = items_of(RateConfig(run))
    Ratings(run, "lrnr", items).give("Ada", items[0], True)
    lines = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    for line in lines:
        if line["output"] is not None:
            line["output"]["digest"] = "another"
    (run / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert not Ratings(run, "lrnr", items_of(RateConfig(run))).given


def test_names_are_kept_as_people_write_them():
    assert rater_of("  Ada   Lovelace ") == "Ada Lovelace"
    for name in ("", "  ", "a" * 41):
        with pytest.raises(ValueError, match="name of 1 to 40"):
            rater_of(name)


def rated(run, protocol="lrnr"):
    """Ada calls all of one method a success and none of the other; Bo differs from her on one picture."""
    items = items_of(RateConfig(run))
    ratings = Ratings(run, protocol, items)
    for item in items:
        good = item.method == "hidden-name"
        ratings.give("Ada", item, good, 8 if protocol == "mild" else None)
        odd = item.thing == ("scene0", "hidden-name", 0)
        ratings.give("Bo", item, good and not odd, 4 if protocol == "mild" else None)


def test_the_tables_have_rates_intervals_and_agreement(run, capsys):
    rated(run)
    assert main(["rate", str(run), "--export"]) == 0
    text = (run / "ratings.md").read_text()
    assert text.startswith("# Ratings of 2 people")
    # Three pictures; one has half of its ratings: 2.5 of 3.
    low, high = rate_interval(2.5, 3)
    assert f"| hidden-name | 83.3% [{low:.1%}, {high:.1%}] | – | 3 | 6 | 3 |" in text
    worst = next(line for line in text.splitlines() if line.startswith("| ring median"))
    assert "| 0.0% [0.0%, " in worst and "| -83.3 [" in worst and "noise" not in worst
    # 5 of 6 agree; Ada says yes 3 times and Bo 2: chance 1/2 · 1/3 + 1/2 · 2/3. All ratings together: 5 of 12.
    assert "| Ada, Bo | 0.67 | 83.3% | 6 |" in text
    chance = (5 / 12) ** 2 + (7 / 12) ** 2
    assert f"Fleiss' kappa of all raters: {(5 / 6 - chance) / (1 - chance):.2f}, on 6 results" in text
    rows = list(csv.DictReader((run / "ratings.csv").open()))
    assert len(rows) == 12 and rows[0] == {
        "rater": "Ada",
        "protocol": "lrnr",
        "picture": "scene0",
        "method": "hidden-name",
        "seed": "0",
        "success": "True",
        "score": "",
    }


def test_scores_have_a_column(run):
    rated(run, "mild")
    assert main(["rate", str(run), "--export", "--protocol", "mild"]) == 0
    text = (run / "ratings.md").read_text()
    assert "| method | success | score, 1 to 10 |" in text and "| 6.00 [6.00, 6.00] |" in text


def test_a_difference_within_noise_is_called_noise(run):
    items = items_of(RateConfig(run))
    ratings = Ratings(run, "lrnr", items)
    for item in items:
        ratings.give("Ada", item, item.thing != ("scene1", "ring median", 0))
    assert main(["rate", str(run), "--export"]) == 0
    text = (run / "ratings.md").read_text()
    assert "| -33.3 [-100.0, +0.0], noise |" in text
    assert "Ratings of 1 person" in text and "No result was rated by two people" in text


def test_what_cannot_be_rated_is_told_in_one_sentence(run, tmp_path, capsys):
    assert main(["rate", str(tmp_path / "nothing")]) == 1
    assert "There is no folder" in capsys.readouterr().err
    assert main(["rate", str(tmp_path)]) == 1
    assert "There is no results.jsonl" in capsys.readouterr().err
    assert main(["rate", str(run), "--export"]) == 1
    assert "was rated by the protocol lrnr yet: rate first" in capsys.readouterr().err

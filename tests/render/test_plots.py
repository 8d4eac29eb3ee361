from xml.etree import ElementTree

import numpy as np
import pytest

from mssync.render import plots

SVG = "{http://www.w3.org/2000/svg}"
SHIFTS_S = [-0.08, -0.04, 0.0, 0.04, 0.08]


def parse(svg):
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '))


def dots(svg):
    return {
        dot.get("class"): (float(dot.get("cx")), float(dot.get("cy")))
        for dot in parse(svg).iter(f"{SVG}circle")
    }


def test_the_dot_sits_on_the_least_distance():
    svg = plots.sync_curves(SHIFTS_S, {"Real": [9, 8, 5, 8, 9], "Late": [9, 8, 8, 6, 9]})
    found = dots(svg)
    assert found["s0"][1] > found["s1"][1], "smaller distances are drawn lower"
    assert found["s0"][0] == pytest.approx((plots.LEFT + plots.WIDTH - plots.RIGHT) / 2)
    assert found["s1"][0] > found["s0"][0]


def test_the_first_series_is_drawn_last_and_so_lies_on_top():
    svg = plots.sync_curves(SHIFTS_S, {"Real": [9, 8, 5, 8, 9], "Floor": [9, 9, 9, 9, 8]})
    assert svg.rindex('polyline class="s0"') > svg.rindex('polyline class="s1"')


def test_a_missing_distance_leaves_its_point_out():
    svg = plots.sync_curves(SHIFTS_S, {"Short": [np.nan, 8, 5, 8, np.nan]})
    (line,) = parse(svg).iter(f"{SVG}polyline")
    assert len(line.get("points").split()) == 3


def test_a_flat_curve_can_be_drawn():
    svg = plots.sync_curves(SHIFTS_S, {"Static": [7.0] * 5})
    assert "nan" not in svg
    assert len(dots(svg)) == 1


def test_the_label_says_the_result_and_escapes_names():
    svg = plots.sync_curves(SHIFTS_S, {'A "quoted" <name>': [9, 8, 8, 5, 9]})
    label = parse(svg).get("aria-label")
    assert 'A "quoted" <name>: least distance 5.00 at +0.04 s' in label


@pytest.mark.parametrize(("low", "high"), [(5.2, 9.1), (0.011, 0.014), (0.0, 250.0), (8.0, 8.1)])
def test_ticks_are_round_and_inside(low, high):
    svg = plots.sync_curves(SHIFTS_S, {"Real": np.linspace(low, high, 5)})
    texts = [
        text.text for text in parse(svg).iter(f"{SVG}text") if text.get("text-anchor") == "end"
    ]
    ticks = [float(text) for text in texts if "s" not in text]
    assert 2 <= len(ticks) <= 5
    assert len(set(ticks)) == len(ticks)


def test_a_series_of_another_length_is_refused():
    with pytest.raises(ValueError, match="Real: expected 5 distances"):
        plots.sync_curves(SHIFTS_S, {"Real": [1, 2, 3]})


def test_no_series_is_refused():
    with pytest.raises(ValueError, match="no curve"):
        plots.sync_curves(SHIFTS_S, {})


def test_lines_have_their_own_places_and_keep_their_colours():
    svg = plots.lines(
        {"": ([], []), "a": ([0, 10], [1, 2]), "b": ([5, 10], [2, np.nan])}, x_label="step"
    )
    found = {line.get("class"): line.get("points") for line in parse(svg).iter(f"{SVG}polyline")}
    assert found.keys() == {"s1", "s2"}
    assert len(found["s1"].split()) == 2
    assert len(found["s2"].split()) == 1


def test_lines_without_a_value_are_refused():
    with pytest.raises(ValueError, match="no finite value"):
        plots.lines({"a": ([0, 1], [np.nan, np.nan])}, x_label="step")


def test_bars_show_values_intervals_and_chance():
    svg = plots.bars({"0": (0.5, 0.4, 0.6)}, {"0": 0.1})
    (bar,) = parse(svg).iter(f"{SVG}rect")
    room = plots.HEIGHT - plots.BOTTOM - plots.TOP
    assert float(bar.get("height")) == pytest.approx(room / 2, abs=0.1)
    assert svg.count('class="chance"') == svg.count('class="error"') == 1


def test_an_image_stands_alone():
    inside = plots.lines({"a <b>": ([0, 1], [1, 2])}, x_label="step")
    found = ElementTree.fromstring(plots.image(inside, "Loss & more", ["a <b>"]))
    texts = [text.text for text in found.iter(f"{SVG}text")]
    assert "Loss & more" in texts
    assert "a <b>" in texts
    assert "stroke" in found.find(f"{SVG}style").text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (-0.04, "−0.040"), (4.567, "4.57"), (78.94, "78.9"), (1234.5, "1234"),
     (-0.0001, "0.000")],
)  # fmt: skip
def test_numbers_have_three_digits(value, text):
    assert plots.number(value) == text

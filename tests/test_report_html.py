"""Pages and charts: numbers at the right places, hostile text without effect, nothing loaded."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from clusterctl.report.html import pages
from clusterctl.report.html.axis import Axis, Unit, scale, written
from clusterctl.report.html.charts import Bar, Range, Series, bars, legend, lines, ranges

HOSTILE = "<script>alert(1)</script>\"'&\x1b[2J\u202e"


def parsed(chart: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(pages.picture_file(chart))


def named(chart: Markup, name: str) -> list[ElementTree.Element]:
    return [each for each in parsed(chart).iter() if each.tag.endswith("}" + name)]


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (3.2, 3.9), (0.0, 1.7e9), (-2.0, 5.0), (4.0, 4.0), (0.0, 0.0), (1e-9, 2e-9)]
)
def test_a_scale_covers_its_values_with_round_ticks(low: float, high: float) -> None:
    found = scale(low, high, 0.0, 100.0)
    assert found.low <= low <= high <= found.high
    assert 2 <= len(found.ticks) <= 9
    assert found.at(found.low) == 0.0 and found.at(found.high) == 100.0


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "B", "0 B"),
        (999.9, "B", "1 kB"),
        (1_500_000.0, "B", "1.5 MB"),
        (112e9, "B", "112 GB"),
        (0.25, "s", "250 ms"),
        (1.0, "s", "1 s"),
        (75.0, "s", "75 s"),
        (600.0, "s", "10 min"),
        (36_000.0, "s", "10 h"),
        (0.125, "%", "12.5 %"),
        (12345.0, "tokens/s", "12.3 k tokens/s"),
        (12.0, "tokens/s", "12 tokens/s"),
        (4.25, "", "4.25"),
        (-3.0, "", "-3"),
    ],
)
def test_numbers_are_short(value: float, unit: Unit, text: str) -> None:
    assert written(value, unit) == text


def test_ticks_of_time_are_those_of_a_clock_and_steps_are_whole() -> None:
    time, count = Axis("time", "s"), Axis("step", whole=True)
    assert [written(each, "s") for each in scale(0.0, 36_000.0, 0.0, 1.0, axis=time).ticks][-2:] == [
        "8 h",
        "10 h",
    ]
    assert scale(0.0, 1000.0, 0.0, 1.0, axis=time).ticks == (0, 300, 600, 900, 1200)
    assert scale(1.0, 2.0, 0.0, 1.0, axis=count).ticks == (1, 2)
    assert scale(0.0, 18.0, 0.0, 1.0, about=8, axis=count).ticks == (0, 5, 10, 15, 20)


def test_no_two_ticks_read_alike() -> None:
    chart = lines([Series("a", ((1.0, 1.0101), (2.0, 1.0199)))], Axis("step"), Axis("time", "s"), title="t")
    told = [each.text for each in named(chart, "text") if each.attrib.get("class") == "tick end"]
    assert len(told) > 3 and len(set(told)) == len(told)


def test_under_the_pointer_each_of_several_lines_has_a_line_of_its_own() -> None:
    two = [Series("a", ((1.0, 2.0),)), Series("b", ((1.0, 3.0),))]
    chart = lines(two, Axis("step"), Axis("loss"), title="loss")
    (told,) = [each for each in named(chart, "text") if each.text == "step 1"]
    assert [each.text for each in told.iter() if each.attrib.get("dy")] == ["a: 2", "b: 3"]


def test_a_line_goes_through_its_points_and_leaves_gaps() -> None:
    series = Series("loss", ((1.0, 2.0), (2.0, math.nan), (3.0, 1.0)))
    chart = lines([series], Axis("step"), Axis("loss"), title="loss")
    (path,) = named(chart, "path")
    assert re.fullmatch(r"M[\d.]+ [\d.]+M[\d.]+ [\d.]+", path.attrib["d"])


def test_long_lines_are_thinned_and_keep_their_peaks() -> None:
    points = tuple((float(n), 100.0 if n == 7777 else math.sin(n)) for n in range(20_000))
    chart = lines([Series("a", points)], Axis("step"), Axis("loss"), title="loss")
    path, means = named(chart, "path")
    assert len(re.split("[ML]", means.attrib["d"])) < 200, "a line that jumps at every step is a block"
    places = [tuple(map(float, each.split())) for each in re.split("[ML]", path.attrib["d"])[1:]]
    assert len(places) <= 1500
    ticks = scale(-1.0, 100.0, 254.0, -232.0)
    assert min(y for _, y in places) == pytest.approx(ticks.at(100.0), abs=0.1)


def test_parts_of_a_bar_lie_side_by_side() -> None:
    rows = [Bar("ddp", (2.0, 6.0), "8 B", mark=9.0), Bar("zero3", None, "out of memory")]
    chart = bars(rows, ("weights", "optimizer"), Axis("bytes", "B"), title="memory")
    first, second = named(chart, "rect")
    assert float(second.attrib["x"]) == pytest.approx(
        float(first.attrib["x"]) + float(first.attrib["width"]), abs=0.2
    )
    assert float(second.attrib["width"]) == pytest.approx(3 * float(first.attrib["width"]), abs=0.2)
    assert "out of memory" in chart


def test_what_hosts_say_has_no_effect() -> None:
    x, y = Axis(HOSTILE), Axis(HOSTILE)
    charts = [
        lines([Series(HOSTILE, ((1.0, 1.0),))], x, y, title=HOSTILE),
        bars([Bar(HOSTILE, (1.0,), HOSTILE), Bar(HOSTILE, None, HOSTILE)], (HOSTILE,), x, title=HOSTILE),
        ranges([Range(HOSTILE, 1.0, 0.5, 2.0, HOSTILE), Range(HOSTILE, None)], x, title=HOSTILE),
        legend([HOSTILE]),
    ]
    for chart in charts:
        assert "<script" not in chart and "onload" not in chart
        assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", chart)
        ElementTree.fromstring(chart)


def test_the_style_has_both_schemes_and_loads_nothing() -> None:
    style = pages._file("style.css") + pages._file("chart.css")
    assert "prefers-color-scheme: dark" in style and "@media print" in style
    assert not re.search(r"url\(|@import|https?:", style)

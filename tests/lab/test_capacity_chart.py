"""The pictures of lesson 07 say what was measured, also where nothing came of a measurement."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest

from chatlab.lab.capacity_chart import (
    CITED,
    bars,
    beside,
    figure,
    prices_chart,
    runs_chart,
    tiles,
    users_chart,
)


@pytest.fixture(autouse=True)
def pictures_are_closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "none came in time"),
        (0.3412, "0.34"),
        (0.0, "0"),
        (8.06, "8.1"),
        (9.97, "10"),
        (57.3, "57"),
        (99.9, "100"),
        (1_234.5, "1,200"),
        (12_500, "12,500"),
        (547_321.7, "550,000"),
    ],
)
def test_a_figure_has_as_many_digits_as_it_deserves(value: float | None, shown: str) -> None:
    assert figure(value) == shown


def test_bars_stand_in_groups_and_bear_their_figures() -> None:
    axes = bars({"calm": {"a": 3.0, "b": None}, "busy": {"a": 1.0, "b": 2.0}}, "µs")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert {text.get_text() for text in axes.texts} == {"3.0", "none came in time", "1.0", "2.0"}
    assert axes.get_legend() is not None
    assert bars({"": {"a": 3.0}}, "µs").get_legend() is None


def test_prices_are_drawn_as_a_line_and_said_in_words() -> None:
    axes = prices_chart({2: 105e-6, 10: 150e-6, 100: 600e-6}, 100e-6, 5e-6)
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words == ["100 µs + 5.0 µs for each delivery", "measured"]
    line, points = axes.get_lines()
    assert list(line.get_ydata()) == pytest.approx([105, 595])
    assert list(points.get_ydata()) == pytest.approx([105, 150, 600])


def test_users_are_drawn_for_each_habit() -> None:
    axes = users_chart([2, 100], {"often": [900, 30], "rarely": [5000, 800]}, 5000, "memory")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["often", "rarely"]


def test_own_figures_stand_first_beside_those_that_are_cited() -> None:
    panels = beside(dict.fromkeys(CITED, 1_000.0))
    for axes, (unit, cited) in zip(panels, CITED.items(), strict=True):
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert names == ["yours", *(each.who for each in cited)]
        assert axes.get_title(loc="left") == unit


def test_every_run_is_shown_and_the_median_of_them() -> None:
    axes = runs_chart({"one": [1.0, 3.0, 7.5], "two": [2.0, 4.0]}, "a second")
    assert [list(line.get_xdata()) for line in axes.get_lines()] == [[1.0, 3.0, 7.5], [2.0, 4.0]]
    assert [text.get_text() for text in axes.texts] == ["3.0", "3.0"]


def test_tiles_show_each_figure_over_its_unit() -> None:
    panels = tiles({"KB": 12.34, "s": 2.0})
    assert [[text.get_text() for text in axes.texts] for axes in panels] == [
        ["12", "KB"],
        ["2.0", "s"],
    ]
    tiles({"KB": 1.0})

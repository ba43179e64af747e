"""Plots can be read on white, on black, and by those who see no colours."""

import io
import itertools

import matplotlib as mpl
import pytest

mpl.use("Agg")

from matplotlib import pyplot as plt

from chatlab.lab.plots import COLOURS, INK, STYLE, chart

PAGES = {"white": "#ffffff", "JupyterLab dark": "#111111", "GitHub dark": "#0d1117"}


@pytest.fixture(autouse=True)
def own_defaults():
    with mpl.rc_context():
        yield
    plt.close("all")


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_letters_and_lines_stand_out_on_every_page(page):
    assert contrast(INK, page) >= 4.1
    for colour in COLOURS.values():
        assert contrast(colour, page) >= 3


def test_every_series_differs_in_more_than_colour():
    looks = [(c["linestyle"], c["marker"]) for c in STYLE["axes.prop_cycle"]]
    assert len(looks) == len(COLOURS)
    for one, other in itertools.combinations(looks, 2):
        assert one[0] != other[0]
        assert one[1] != other[1]


def test_a_chart_has_a_transparent_page_and_labelled_axes():
    axes = chart("Admitted", x="time (s)", y="messages")
    axes.plot([1, 2], [3, 4], label="fixed window")
    legend = axes.legend()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time (s)", "messages")
    assert axes.get_title(loc="left") == "Admitted"
    assert axes.figure.get_facecolor()[3] == 0
    assert mpl.colors.same_color(legend.get_texts()[0].get_color(), INK)


def test_a_notebook_puts_no_box_behind_a_chart():
    from matplotlib_inline.backend_inline import _fetch_figure_metadata

    for axes in (chart("One"), chart("Two", columns=2)[0]):
        axes.plot([1, 2], [3, 4])
        assert _fetch_figure_metadata(axes.figure) is None


def test_columns_share_a_title():
    left, right = chart("Before and after", x="s", y="ms", columns=2)
    assert left.figure is right.figure
    assert left.figure.get_suptitle() == "Before and after"


def test_the_same_plot_gives_the_same_bytes():
    def draw():
        axes = chart("Same", x="x", y="y")
        axes.plot([0, 1, 2], [2, 1, 3])
        out = io.BytesIO()
        axes.figure.savefig(out, format="svg", metadata={"Date": None})
        return out.getvalue()

    assert draw() == draw()

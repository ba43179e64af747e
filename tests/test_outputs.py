"""Stored outputs say nothing of the machine, and two runs are compared as nbval compares them."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from outputs import Rules, differences, normalise

PACKAGES = "~/x/.venv/lib/python3.11/site-packages"
LIBRARY = "/opt/py/lib/python3.13"
ELSEWHERE = "https://example.org/chatlab/blob/main/README.md"


@pytest.fixture
def rules() -> Rules:
    return Rules(Path(__file__).with_name("nbval.cfg"))


def stream(text: str, name: str = "stdout") -> nbformat.NotebookNode:
    return nbformat.v4.new_output("stream", name=name, text=text)


def shown(**data: str) -> nbformat.NotebookNode:
    kinds = {"text": "text/plain", "png": "image/png", "svg": "image/svg+xml"}
    return nbformat.v4.new_output(
        "display_data", data={kinds[kind]: value for kind, value in data.items()}
    )


def test_how_a_stream_was_cut_into_messages_is_no_difference(rules: Rules) -> None:
    assert not differences([stream("a\nb\n")], [stream("a\n"), stream("b\n")], rules)


def test_an_address_in_memory_is_no_difference_and_another_word_is(rules: Rules) -> None:
    before = [shown(text="<object at 0xADDR>")]
    assert not differences(before, [shown(text="<object at 0x7f0000000000>")], rules)
    assert differences(before, [shown(text="<subject at 0x7f0000000000>")], rules)


def test_a_difference_is_told_in_lines_that_fit_a_terminal(rules: Rules) -> None:
    before, after = ([stream("same\nlost: " + word * 100)] for word in ("some ", "none "))
    (fault,) = differences(before, after, rules)
    head, old, new = fault.splitlines()
    assert head == "stdout differs"
    assert old.startswith("  -lost: some")
    assert new.startswith("  +lost: none")
    assert max(len(old), len(new)) < 170


def test_a_missing_output_and_a_new_one_are_differences(rules: Rules) -> None:
    assert differences([stream("a")], [], rules) == ["no stdout any more"]
    assert differences([], [stream("a", "stderr")], rules) == ["stderr that is not stored"]


def test_a_picture_of_pixels_is_not_compared_and_a_drawing_is(rules: Rules) -> None:
    assert not differences(
        [shown(text="Figure", png="AAAA")], [shown(text="Figure", png="B")], rules
    )
    assert differences([shown(svg="<svg>1</svg>")], [shown(svg="<svg>2</svg>")], rules)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (f"File {PACKAGES}/socketio/a.py:3", "File site-packages/socketio/a.py:3"),
        (f"File \x1b[32m{LIBRARY}/json/a.py:3", "File \x1b[32mpython3/json/a.py:3"),
        ("/var/tmp/ipykernel_77/123.py", "ipykernel/CELL.py"),
        ("File /srv/clone/chatlab/lab/proxy.py:9", "File chatlab/lab/proxy.py:9"),
        ("File ~/chatlab/chatlab/client.py:9", "File chatlab/client.py:9"),
        ("http://localhost:8888/lab", "http://localhost:PORT/lab"),
        ("at 2026-11-03T10:11:12.5Z.", "at TIMESTAMP."),
        (ELSEWHERE, ELSEWHERE),
        ("[7, 'chatlab/client.py']", "[7, 'chatlab/client.py']"),
    ],
)
def test_what_belongs_to_a_machine_is_not_stored(rules: Rules, text: str, stored: str) -> None:
    (output,) = normalise([stream(text)], rules)
    assert output.text == stored

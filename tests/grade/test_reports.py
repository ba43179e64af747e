"""The three reports: text for people, JSON for programs, XML for continuous integration."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

from chatlab.grade import Level, Promise, Report, Result, Verdict
from chatlab.grade.evidence import Packet, Redactor, Trace
from chatlab.grade.promise import CONCERNS, ERRORS, SCALING
from chatlab.grade.report_json import as_json
from chatlab.grade.report_junit import as_junit
from chatlab.grade.table import listing, table, wants_colour, width_of

ANSI = re.compile("\x1b\\[[0-9;]*m")


async def _nothing(_target: Any) -> None:
    """The trial of a promise that is never tried."""


def made_up(id: str, concern: str = ERRORS, level: Level = Level.LESSON, **more: Any) -> Promise:
    sentence = f"The server keeps the promise called {id}, whatever anybody may do to it."
    return Promise(id=id, concern=concern, level=level, sentence=sentence, trial=_nothing, **more)


PACKETS = (
    Packet(0.001, "alice", "→", '420["send-message",{"text":"' + "long " * 60 + '"}]'),
    Packet(0.25, "alice", "←", "an odd \ufffe \x00 thing & <tags>"),
    Packet(0.26, "grade", "·", "control ban user1"),
)
REPORT = Report(
    "http://127.0.0.1:1",
    Level.CONTRACT,
    (
        Result(made_up("first"), Verdict.KEPT, evidence=PACKETS, seconds=0.5),
        Result(made_up("second"), Verdict.BROKEN, "it did not & <never> will", PACKETS, 1.0),
        Result(made_up("third", SCALING), Verdict.NOT_JUDGED, "needs --also", (), 0.0),
        Result(made_up("fourth", SCALING, Level.CONTRACT), Verdict.KEPT, seconds=0.1),
    ),
    2.0,
)


@pytest.mark.parametrize("width", [40, 60, 100, 120])
def test_no_line_of_the_table_is_wider_than_the_terminal(width: int) -> None:
    lines = table(REPORT, width=width).splitlines()
    assert [line for line in lines if len(line) > width] == []


def test_the_table_shows_each_verdict_its_reason_and_the_packets_of_what_broke() -> None:
    text = table(REPORT)
    assert "✓ The server keeps the promise called first" in text
    assert "✗ The server keeps the promise called second" in text
    assert "it did not & <never> will" in text
    assert "○ The server keeps the promise called third" in text
    assert text.count("control ban user1") == 1


def test_the_table_sums_up_each_level() -> None:
    text = table(REPORT)
    assert "✗ Lesson    1 kept, 1 broken, 1 not judged" in text
    assert "✓ Contract  1 kept, 0 broken, 0 not judged: kept in full" in text


def test_a_level_of_which_nothing_was_judged_is_not_called_kept() -> None:
    report = Report("http://x", Level.LESSON, (REPORT.results[2],))
    assert "nothing was judged" in table(report)
    assert not report.earned(Level.LESSON)


def test_colour_changes_no_word_of_the_table() -> None:
    coloured = table(REPORT, colour=True)
    assert ANSI.search(coloured)
    assert ANSI.sub("", coloured) == table(REPORT)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_and_not_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_colour(Terminal())
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())


def test_a_file_has_a_width_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert width_of(io.StringIO()) == 100
    monkeypatch.setenv("COLUMNS", "60")
    assert width_of(Terminal()) == 60
    monkeypatch.setenv("COLUMNS", "10")
    assert width_of(Terminal()) == 40


@pytest.mark.parametrize("width", [40, 100])
def test_the_listing_names_every_promise_and_what_it_needs(width: int) -> None:
    promises = [made_up("plain"), made_up("hard", control=("kill",), servers=2)]
    text = listing(promises, width=width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "plain" in text
    assert "--control kill, --also" in " ".join(text.split())


def test_the_json_says_everything_that_the_page_describes() -> None:
    told = json.loads(as_json(REPORT))
    assert set(told) == {"format", "url", "level", "broken", "seconds", "levels", "promises"}
    assert (told["format"], told["level"], told["broken"]) == (1, "contract", True)
    assert told["levels"]["lesson"] == {"kept": 1, "broken": 1, "not_judged": 1, "earned": False}
    assert told["levels"]["contract"]["earned"] is True
    second = told["promises"][1]
    assert (second["id"], second["verdict"]) == ("second", "broken")
    assert second["evidence"][2] == {
        "at": 0.26,
        "who": "grade",
        "way": "·",
        "text": "control ban user1",
    }


# What Jenkins, GitLab and GitHub's readers agree on: the elements, and the attributes they need.
ATTRIBUTES = {
    "testsuites": {"name", "tests", "failures", "errors", "time"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testcase": {"name", "classname", "time"},
    "failure": {"message", "type"},
    "skipped": {"message"},
    "system-out": set[str](),
}
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"testcase"},
    "testcase": {"failure", "skipped", "system-out"},
}


def elements(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
    yield element
    for child in element:
        assert child.tag in CHILDREN.get(element.tag, set()), f"{child.tag} in {element.tag}"
        yield from elements(child)


def test_the_xml_has_the_shape_that_continuous_integration_takes() -> None:
    root = ElementTree.fromstring(as_junit(REPORT))
    assert root.tag == "testsuites"
    for element in elements(root):
        assert set(element.attrib) == ATTRIBUTES[element.tag]
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.attrib["tests"]) == len(cases)
        for kind, count in (("failure", "failures"), ("skipped", "skipped")):
            assert int(suite.attrib[count]) == sum(c.find(kind) is not None for c in cases)
        assert float(suite.attrib["time"]) >= 0
        assert suite.attrib["name"] in CONCERNS


def test_the_xml_carries_what_xml_cannot_hold_as_something_else() -> None:
    root = ElementTree.fromstring(as_junit(REPORT))
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.attrib["message"] == "it did not & <never> will"
    assert "an odd � � thing & <tags>" in str(failure.text)


def test_evidence_is_shortened_and_its_control_characters_are_spelt_out() -> None:
    trace = Trace(Redactor())
    trace.add("alice", "→", "x" * 70_000)
    trace.add("alice", "←", "a\nb\ud800\x1b[31m")
    long, odd = trace.packets(9)
    assert len(long.text) < 300
    assert "70000 characters" in long.text
    assert odd.text == "a\\u000ab\\ud800\\u001b[31m"


def test_what_is_noted_after_the_end_is_no_evidence() -> None:
    trace = Trace(Redactor())
    trace.add("alice", "→", "before")
    trace.end()
    trace.add("alice", "→", "after")
    assert [packet.text for packet in trace.packets(9)] == ["before"]


def test_earlier_packets_are_counted_where_they_are_left_out() -> None:
    trace = Trace(Redactor())
    for number in range(10):
        trace.add("alice", "→", f"packet {number}")
    shown = [packet.text for packet in trace.packets(3)]
    assert shown == ["… 7 earlier packets", "packet 7", "packet 8", "packet 9"]


def test_tokens_and_secrets_are_taken_out_of_evidence() -> None:
    redact = Redactor()
    redact.hide('opaque"token', "<token>")
    redact.hide("the-secret-itself", "<secret>")
    trace = Trace(redact)
    trace.add("alice", "→", '40{"token":"opaque\\"token"}')
    trace.add("alice", "→", "40eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl")
    trace.add("alice", "←", "the-secret-itself")
    assert [packet.text for packet in trace.packets(9)] == [
        '40{"token":"<token>"}',
        "40<token>",
        "<secret>",
    ]


def test_a_report_says_in_short_what_it_holds() -> None:
    assert repr(REPORT) == (
        "<Report Lesson 1 kept, 1 broken, 1 not judged; Contract 1 kept, 0 broken, 0 not judged>"
    )

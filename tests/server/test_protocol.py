"""Payloads, errors and times, as the wire contract writes them down."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatlab import errors
from chatlab.protocol import Joined, Message, Refreshed, SendMessage, Sent, decode, timestamp, trim
from chatlab.transport.codec import JSON


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1.9996, "1970-01-01T00:00:01.999Z"),
        (1795353726.25, "2026-11-22T13:22:06.250Z"),
    ],
)
def test_times_are_written_as_javascript_writes_them(seconds: float, text: str) -> None:
    assert timestamp(seconds) == text


def test_text_is_trimmed_as_javascript_trims_it() -> None:
    assert trim("\ufeff\u2003 \tx\x1fy\u3000\r\n") == "x\x1fy"
    assert trim("\x1f") == "\x1f"  # Python's own strip() would take it away


def test_the_limit_counts_code_points_after_trimming() -> None:
    request = decode("send-message", [{"text": " " + "\N{GRINNING FACE}" * 4000 + " "}])
    assert isinstance(request, SendMessage)
    assert len(request.text) == 4000


def test_answers_say_ok_first_and_use_the_contracts_names() -> None:
    sent = Sent(id="x", seq=1, timestamp="t", duplicate=False)
    assert next(iter(json.loads(JSON.dumps(sent)))) == "ok"
    assert JSON.dumps(Refreshed(expires_at="t")) == '{"ok":true,"expiresAt":"t"}'


def test_answers_have_reprs_fit_for_a_notebook() -> None:
    message = Message("id", 3, "general", "alice", "hello", "2026-01-01T00:00:00.000Z")
    assert repr(message) == "<Message general #3 alice: 'hello'>"
    assert repr(Sent(id="x", seq=3, timestamp="t", duplicate=True)) == "Sent(seq=3, duplicate=True)"


def test_a_newer_servers_answer_is_understood() -> None:
    answer = {"ok": True, "id": "x", "seq": 1, "timestamp": "t", "duplicate": False, "new": 1}
    assert msgspec.convert(answer, Sent).seq == 1
    assert Joined.__struct_fields__


def leaves(root: type[errors.ChatError]) -> list[type[errors.ChatError]]:
    found = [root]
    for child in root.__subclasses__():
        found += leaves(child)
    return found


@pytest.mark.parametrize("kind", leaves(errors.RequestError)[1:], ids=lambda k: k.__name__)
def test_an_ack_becomes_the_exception_that_made_it(kind: type[errors.ChatError]) -> None:
    error = errors.from_wire(kind("Sorry", retry_after=1.5, field="text").to_ack())
    assert type(error) is kind
    assert (str(error), error.retry_after, error.field) == ("Sorry", 1.5, "text")
    assert error.retry is kind.retry


@pytest.mark.parametrize(
    "kind", [*leaves(errors.ConnectionRefused)[1:], errors.Unavailable], ids=lambda k: k.__name__
)
def test_a_refusal_becomes_the_exception_that_made_it(kind: type[errors.ChatError]) -> None:
    error = errors.from_wire(kind(retry_after=2.0).to_refusal(), refusal=True)
    assert type(error) is kind
    assert error.retry_after == 2.0


@pytest.mark.parametrize("data", [None, 5, "no", [], {}, {"code": 7}, {"data": "x", "code": "new"}])
def test_an_answer_that_is_no_answer_is_still_an_error(data: object) -> None:
    assert isinstance(errors.from_wire(data), errors.ChatError)
    assert isinstance(errors.from_wire(data, refusal=True), errors.ConnectionRefused)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__
    for kind in leaves(errors.ChatError):
        assert kind.__name__ in errors.__doc__


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
))  # fmt: skip
def test_the_codec_gives_back_what_it_was_given(value: object) -> None:
    assert JSON.loads(JSON.dumps(value)) == value


@pytest.mark.parametrize("text", ["", "{", "nope", "[1,]", '{"a" 1}', "[" * 100_000])
def test_the_codec_refuses_what_is_not_json(text: str) -> None:
    with pytest.raises(ValueError):
        JSON.loads(text)


def test_the_codec_lets_validation_see_what_clients_can_spell() -> None:
    assert JSON.loads('"\\ud800"') == "\ud800"
    assert JSON.loads("1" * 5000) == float("inf")
    assert JSON.loads("[NaN, 1e999]")[1] == float("inf")

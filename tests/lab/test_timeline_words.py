"""Payloads in a few words that are the same in every run."""

import uuid

import pytest

from chatlab.lab.timeline_words import Wording


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (None, ""),
        ("general", '"general"'),
        (7, "7"),
        (0.5, "0.5"),
        (True, "true"),
        (b"abc", "3 bytes"),
        (("general", 2), '"general", 2'),
        ({"text": "hello"}, '"hello"'),
        ({"text": "hello", "room": "general"}, '"hello", room: general'),
        ({"room": "general", "text": "hello"}, '"hello", room: general'),
        ({"text": 42}, "text: 42"),
        ({"ok": True, "seq": 3}, "ok: true, seq: 3"),
        ({"ok": False, "error": "No.", "code": "no"}, 'ok: false, code: no, error: "No."'),
        ({"users": ["alice", "bob", "c", "d", "e"]}, "users: [alice, bob, c, … 2 more]"),
        ({"users": {"alice": {"read": 1}}}, "users: {alice: {read: 1}}"),
        ({"retryAfter": 0.25, "field": None}, "retryAfter: 0.25, field: null"),
        ({"answer": "true"}, 'answer: "true"'),
        ({}, ""),
    ],
)
def test_a_payload_is_short_and_plain(payload, expected):
    assert Wording().words(payload) == expected


def test_what_differs_from_run_to_run_is_left_out():
    payload = {
        "text": "hi",
        "timestamp": "2026-11-22T10:00:00.000Z",
        "sid": "x" * 20,
        "epoch": "k3",
        "token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2ln",
        "when": "2026-11-22T10:00:00Z",
    }
    assert Wording().words(payload) == '"hi", token: <token>, when: <time>'


def test_made_up_names_get_letters_and_equal_ones_the_same_letter():
    wording, one, other = Wording(), str(uuid.uuid4()), str(uuid.uuid4())
    assert wording.words({"key": one}) == "key: A"
    assert wording.words({"key": other}) == "key: B"
    assert wording.words({"key": one, "id": 1763805600123}) == "key: A, id: C"
    assert wording.words({"id": "Zb3kPq9XvT2mLw8Y"}) == "id: D"


def test_what_a_person_chose_is_shown_as_it_is():
    assert Wording().words({"key": "order-1", "room": "general-discussion-2"}) == (
        "key: order-1, room: general-discussion-2"
    )


def test_after_z_the_letters_are_numbered():
    wording = Wording()
    told = [wording.words({"key": str(uuid.UUID(int=n))}) for n in range(28)]
    assert told[25:] == ["key: Z", "key: A1", "key: B1"]


def test_long_text_is_cut():
    told = Wording().words({"text": "x" * 500})
    assert len(told) < 60
    assert told.endswith('…"')

"""Hypothesis strategies for what a client may say: packets that are right, nearly right and wrong.

They know the grammars of Engine.IO and Socket.IO, so that most of it gets past a parser's first
check. Sequences of it, and the connections, are `strategies.py`'s.
"""

from __future__ import annotations

import base64
import json

from hypothesis import strategies as st

from chatlab.protocol import CLIENT_EVENTS

__all__ = ["attachments", "batches", "packets"]

ROOMS = ("general", "fuzz", "private-x", "", " ", "a\x00b", "x" * 65, "room:general", "{sid1}")

texts = st.one_of(
    st.sampled_from([*ROOMS, "{long}", "\ud800", "\ufeff", "\x1e", "\\ud83d", "__proto__", "😀"]),
    st.text(max_size=8),
)
scalars = st.one_of(
    texts,
    st.sampled_from([None, True, 0, -1, 1, 2**53, 2**64, 10**400, 1e308, float("nan"), -0.0]),
    st.sampled_from([{"_placeholder": True, "num": 0}, {"_placeholder": True, "num": -1}]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
fields = st.sampled_from(
    ["text", "room", "key", "after", "before", "epoch", "limit", "seq", "typing", "token", "x"]
)
rooms = st.sampled_from(["general", "general", "fuzz", "other", "private-x"])
# What a client that means well would send.
proper = st.one_of(
    st.tuples(st.just("join-room"), rooms),
    st.tuples(st.just("leave-room"), rooms),
    st.tuples(
        st.just("send-message"),
        st.fixed_dictionaries(
            {"text": texts}, optional={"room": rooms, "key": st.sampled_from(["k1", "k2", ""])}
        ),
    ),
    st.tuples(st.just("history"), st.fixed_dictionaries({"room": rooms, "limit": st.just(3)})),
    st.tuples(
        st.sampled_from(["mark-read", "mark-delivered"]),
        st.fixed_dictionaries({"room": rooms, "seq": st.integers(0, 5)}),
    ),
    st.tuples(st.just("typing"), st.fixed_dictionaries({"room": rooms, "typing": st.booleans()})),
    st.tuples(st.just("who"), st.fixed_dictionaries({"room": rooms})),
    st.tuples(st.just("refresh-token"), st.just({"token": "{token}"})),
    st.tuples(st.sampled_from(["message", "message-with-ack"]), values),
)
names = st.one_of(
    st.sampled_from(
        [*CLIENT_EVENTS, "message", "message-with-ack", "*", "", "connect", "disconnect", "error"]
    ),
    texts,
)
improper = st.one_of(
    st.tuples(names),
    st.tuples(names, st.dictionaries(fields, values, max_size=4)),
    st.tuples(names, values, values),
    st.tuples(values, values),
    st.just(()),
)


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


events = st.one_of(proper, proper, improper).map(lambda event: _json(list(event)))
bodies = st.one_of(
    events,
    events,
    values.map(_json),
    st.sampled_from(
        ["", "{}", "[]", "[", '["', '{"token":', "{deep}", "[1]x", "NaN", '["a",1e999]']
    ),
)
connects = st.one_of(
    st.just('{"token":"{token}"}'),
    st.just('{"token":"{token}"}'),
    st.sampled_from(["", "{}", "[]", '"x"', '{"token":1}', '{"token":"{long}"}', "null", "{"]),
    values.map(_json),
)
namespaces = st.sampled_from(
    [
        "",
        "",
        "",
        "",
        "/,",
        "/custom,",
        "/custom,",
        "/custom",
        "/nope,",
        "/custom?x=1,",
        "custom,",
        "/{long},",
    ]
)
ids = st.sampled_from(
    ["", "", "0", "1", "7", "007", "999999999999999", "9007199254740993", "٣", "-1"]
)
counts = st.sampled_from(["", "0-", "1-", "2-", "3-", "10-", "01-", "999-", "999999-", "-", "1--"])


def _packet(kind: str, count: str, namespace: str, ack_id: str, body: str) -> str:
    return f"{kind}{count}{namespace}{ack_id}{body}"


calls = st.builds(_packet, st.just("2"), st.just(""), namespaces, ids, events)
attachments = st.integers(1, 3).flatmap(
    lambda count: st.builds(
        _packet,
        st.just("5"),
        st.just(f"{count}-"),
        namespaces,
        ids,
        st.just(
            _json(["message-with-ack", *({"_placeholder": True, "num": n} for n in range(count))])
        ),
    )
)
grammar = st.builds(
    _packet,
    st.sampled_from([*"0123456", "7", "9", "", "x"]),
    st.one_of(st.just(""), counts),
    namespaces,
    ids,
    st.one_of(bodies, connects),
)
opening = st.builds(_packet, st.just("0"), st.just(""), namespaces, st.just(""), connects)


@st.composite
def _mutated(draw: st.DrawFn, source: st.SearchStrategy[str]) -> str:
    """What `source` makes, with one to three places changed."""
    text = draw(source)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        piece = draw(
            st.sampled_from(["", "", "0", "-", ",", '"', "[", "{", "/", "\x00", "\x1e", "é"])
        )
        text = text[:at] + piece + text[at + draw(st.integers(0, 2)) :]
    return text


socketio = st.one_of(
    calls, calls, calls, opening, grammar, attachments, _mutated(calls), _mutated(grammar)
)
blobs = st.one_of(
    st.binary(max_size=12), st.sampled_from([b"", b"\x04", b"4", b"{over}", b"{long}"])
)
engineio = st.one_of(
    st.sampled_from(
        ["", "0", "1", "2", "2probe", "3", "3probe", "5", "6", "7", "b", "b!", "4", " 4"]
    ),
    st.just('0{"sid":"x"}'),
    blobs.map(lambda blob: "b" + base64.b64encode(blob).decode()),
    blobs,
    st.text(max_size=6),
    st.sampled_from(["4{over}", '42["message","{full}"]', "{full}", "4{deep}", "\ud800", "4\x1e4"]),
)
packets = st.one_of(
    socketio.map("4".__add__), socketio.map("4".__add__), socketio.map("4".__add__), engineio
)


@st.composite
def _with_attachments(draw: st.DrawFn) -> tuple[str | bytes, ...]:
    """A packet that claims attachments, and these: mostly all of them, sometimes others."""
    count = draw(st.integers(1, 3))
    wrong = draw(st.sampled_from([0, 0, 0, 0, 1, -1]))
    placeholders = [{"_placeholder": True, "num": wrong + number} for number in range(count)]
    event = _json([draw(st.sampled_from(["message", "message-with-ack"])), *placeholders])
    namespace, ack_id = draw(st.sampled_from(["", "/custom,"])), draw(st.sampled_from(["", "5"]))
    parts: list[str | bytes] = list(draw(st.lists(blobs, min_size=count, max_size=count)))
    if draw(st.sampled_from([False, False, False, True])):
        parts.insert(draw(st.integers(0, count)), draw(st.one_of(blobs, st.just("42[]"))))
    text = draw(st.booleans())  # over polling they are base64
    told = [
        "b" + base64.b64encode(part).decode() if text and isinstance(part, bytes) else part
        for part in parts
    ]
    return (f"45{count}-{namespace}{ack_id}{event}", *told)


batches: st.SearchStrategy[tuple[str | bytes, ...]] = st.one_of(
    st.lists(packets, min_size=1, max_size=6).map(tuple),
    st.lists(calls.map("4".__add__), min_size=1, max_size=8).map(tuple),
    _with_attachments(),
    st.tuples(calls.map("4".__add__)).map(lambda each: each * 20),
)
